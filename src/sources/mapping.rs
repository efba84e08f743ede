//! A mapping says what the columns of a source mean. People write a mapping as TOML; docs/sources.md explains each key.

mod answer;
pub mod derived;
mod read;
mod section;
mod store;

use std::collections::BTreeSet;
use std::fmt;

use crate::domain::money::{Currency, Unit};
use crate::domain::status::{Status, StatusSet, SubjectKind};
pub use answer::Answer;
use derived::Derived;
pub use store::StoreRef;

/// A reference to a value of a row: a column, or a value inside a JSON column, such as `contact.phone`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// The column's name in the database, unquoted.
    pub name: String,
    /// The names of the JSON members on the path from the column to the value. Empty: the whole column is the value.
    pub path: Vec<String>,
}

/// The meaning of the words in the shop's status column. If a status has several words, Vestnik writes the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusWords {
    /// The column that holds the status word.
    pub column: Column,
    /// The shop's words for each status. A status that has no words may be missing from the list.
    pub words: Vec<(Status, Vec<String>)>,
    /// The words of hidden orders, such as carts and unpaid orders. Panels do not show hidden orders.
    pub hidden: Vec<String>,
}

/// A column that holds an amount of money.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MoneyColumn {
    /// The column that holds the amount.
    pub column: Column,
    /// Whether the column counts major units or minor units, such as cents; `None`: the column's type decides.
    pub unit: Option<Unit>,
}

/// Where the currency of amounts comes from: the store, a constant, or a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CurrencyRef {
    /// The currency of the order's store.
    Store,
    /// All orders have this currency.
    Constant(Currency),
    /// The column that holds the currency's code, such as `EUR`.
    Column(Column),
}

/// A column that holds a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeColumn {
    /// The column that holds the time.
    pub column: Column,
    /// The IANA name of the time zone. It applies to times in the column that name no zone.
    pub zone: String,
    /// Whether the mapping names the zone. Otherwise the zone is only assumed.
    pub is_zone_named: bool,
}

/// The column for the type of an order (delivery, pickup or dine-in), and the meaning of the column's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeWords {
    /// The column that holds the word for the order's type.
    pub column: Column,
    /// The shop's words for delivery.
    pub delivery: Vec<String>,
    /// The shop's words for pickup.
    pub pickup: Vec<String>,
    /// The shop's words for eating in the store.
    pub dine_in: Vec<String>,
}

/// A column that says whether an order is paid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaidWords {
    /// The column that says whether the order is paid: a boolean, the time of the payment, or a word.
    pub column: Column,
    /// The words that mean paid. If the list is empty, a word for yes, a number other than 0, or a time means paid.
    pub words: Vec<String>,
}

/// The columns of each field of an order or booking. `None` or empty: the mapping names no column for the field.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields {
    /// The columns of the customer's name. A space joins their values.
    pub customer_name: Vec<Column>,
    /// The columns of the customer's telephone numbers.
    pub phone: Vec<Column>,
    /// The columns of the delivery address, in order. A comma joins their values.
    pub address: Vec<Column>,
    /// The columns of the customer's notes to the order.
    pub comment: Vec<Column>,
    /// The column of the number of people who eat the order, or of the guests of a booking.
    pub persons: Option<Column>,
    /// The column of the payment method. Its value is the shop's word for the method, such as `cash`.
    pub payment_method: Option<Column>,
    /// The column that says whether the order is paid, and the meaning of its words.
    pub paid: Option<PaidWords>,
    /// The column of the amount of cash that the customer pays with, so that the courier brings change.
    pub change_from: Option<MoneyColumn>,
    /// The column for the type of the order (delivery, pickup or dine-in), and the meaning of its words.
    pub order_type: Option<TypeWords>,
    /// The column of the order's total.
    pub total: Option<MoneyColumn>,
    /// The column of the time that the customer requested or the store promised, or when the guests of a booking arrive.
    pub due_at: Option<TimeColumn>,
    /// The column of the time when the customer placed the order.
    pub created_at: Option<TimeColumn>,
    /// The column that marks a deleted row. Null, an empty text, 0 and a word for no mean that the row is not deleted.
    pub deleted_at: Option<Column>,
    /// The column of the reason for a rejection or cancellation.
    pub reason: Option<Column>,
    /// The column of the promised preparation time, in minutes.
    pub minutes: Option<Column>,
}

/// The place where the shop stores the items of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ItemsRef {
    /// A JSON column of the order's row.
    Column(Column),
    /// A separate table with one row for each item.
    Table {
        /// The name of the items table, quoted and with its schema, as in `public."order"`.
        table: String,
        /// The column of the items table that holds the order's key.
        order_key: String,
    },
}

/// The mapping of an order's items: where they are stored, and what their columns or JSON members mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Items {
    /// The place where the shop stores the items.
    pub from: ItemsRef,
    /// The column or JSON member of the dish's name. `None`: the first member with a usual name, such as `title`.
    pub name: Option<Column>,
    /// The column or JSON member of the quantity. `None`: the first member with a usual name, such as `qty`.
    pub quantity: Option<Column>,
    /// The column or JSON member of the price of a piece. `None`: the first member with a usual name, such as `price`.
    pub price: Option<Column>,
    /// The unit of the prices; `None`: the unit of the total. Without a total, each price's form decides: a fraction
    /// means major units.
    pub unit: Option<Unit>,
    /// The column or JSON member of the customer's note to the item. `None`: all members with a usual name for notes.
    pub note: Option<Column>,
    /// The column or JSON member of the options that the customer chose. `None`: all members with usual names, such as
    /// `modifiers`.
    pub options: Option<Column>,
    /// The column or JSON member of the kitchen's station, such as `bar`, or of the part of the menu, such as
    /// `Desserts`. `None`: the first member with a usual name.
    pub category: Option<Column>,
    /// The column or JSON member that marks a deleted item, by a time or a word for yes. Deleted items are not shown.
    pub deleted_at: Option<Column>,
}

impl Items {
    /// The columns that the mapping names, each with its key in the TOML table `[items]`.
    pub fn named_columns(&self) -> impl Iterator<Item = (&'static str, &Column)> {
        let columns = [
            ("name", &self.name),
            ("quantity", &self.quantity),
            ("price", &self.price),
            ("note", &self.note),
            ("options", &self.options),
            ("category", &self.category),
            ("deleted_at", &self.deleted_at),
        ];
        columns
            .into_iter()
            .filter_map(|(key, column)| Some((key, column.as_ref()?)))
    }
}

/// A parsed mapping: the meaning of the columns of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// The name of the shop's table with its schema, as the TOML has it, such as `public."order"`.
    pub table: String,
    /// Whether the rows are orders or bookings.
    pub kind: SubjectKind,
    /// The source's name. `None`: the table's name, with its schema in front unless the schema is `public`.
    pub name: Option<String>,
    /// The column that identifies a row. Its values are unique within the table.
    pub key: String,
    /// Where a row's store id comes from: a column or a constant.
    pub store: StoreRef,
    /// The column of the order number that people use; `None`: people use the key.
    pub number: Option<Column>,
    /// The status column and the meaning of its words.
    pub status: StatusWords,
    /// The columns of an order's other fields, such as the customer's name.
    pub fields: Fields,
    /// Where the currency of all amounts comes from: the store, a constant, or a column.
    pub currency: CurrencyRef,
    /// The mapping of the items; `None`: the orders have no items.
    pub items: Option<Items>,
    /// The columns of extra fields that panels show, each with its label.
    pub extra: Vec<(String, Column)>,
    /// How a person's answer reaches the shop: through columns of the row, a function, or the shop's API.
    pub answer: Answer,
    /// An SQL query for data outside the row. `$1` is a text array of order keys. `None`: there is no such query.
    pub details: Option<String>,
    /// The IANA name of the zone of times in the result of `details` that name no zone: the zone of `due_at`, or that of
    /// the mapping.
    pub details_zone: String,
    /// The SQL part of a derived mapping, whose values come from SQL expressions. Then all fields except `table`
    /// describe the projection table, where the results are saved. `None`: every value is a column of the shop's row.
    pub derived: Option<Box<Derived>>,
}

/// All errors of a mapping, reported together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .problems.join("\n"))]
pub struct MappingError {
    /// The errors, one line each. Each line starts with the TOML key.
    pub problems: Vec<String>,
}

impl Mapping {
    /// Parses a mapping from TOML. The error lists all problems of the TOML text.
    pub fn from_toml(text: &str) -> Result<Self, MappingError> {
        read::mapping(text)
    }

    /// The names of the columns that the trigger records, each once. The key comes first.
    pub fn recorded_columns(&self) -> Vec<&str> {
        let mut seen = BTreeSet::new();
        let mut columns: Vec<&str> = vec![&self.key];
        columns.extend(match &self.store {
            StoreRef::Column(name) => Some(name.as_str()),
            StoreRef::Constant(_) => None,
        });
        columns.extend(self.columns().map(|column| column.name.as_str()));
        columns.retain(|column| seen.insert(*column));
        columns
    }

    /// All columns to which the mapping refers, except the columns of the key and of the store's id.
    pub fn columns(&self) -> impl Iterator<Item = &Column> {
        let Fields {
            customer_name,
            phone,
            address,
            comment,
            persons,
            payment_method,
            paid,
            change_from,
            order_type,
            total,
            due_at,
            created_at,
            deleted_at,
            reason,
            minutes,
        } = &self.fields;
        let money = [total, change_from].into_iter().flatten().map(|money| &money.column);
        let currency = match &self.currency {
            CurrencyRef::Column(column) => Some(column),
            CurrencyRef::Store | CurrencyRef::Constant(_) => None,
        };
        let items = self.items.as_ref().and_then(|items| match &items.from {
            ItemsRef::Column(column) => Some(column),
            ItemsRef::Table { .. } => None,
        });
        let single = [persons, payment_method, deleted_at, reason, minutes]
            .into_iter()
            .flatten();
        [&self.status.column]
            .into_iter()
            .chain(&self.number)
            .chain([customer_name, phone, address, comment].into_iter().flatten())
            .chain(single)
            .chain(paid.as_ref().map(|paid| &paid.column))
            .chain(order_type.as_ref().map(|it| &it.column))
            .chain(money)
            .chain(currency)
            .chain([due_at, created_at].into_iter().flatten().map(|time| &time.column))
            .chain(items)
            .chain(self.extra.iter().map(|(_, column)| column))
    }

    /// The statuses that a person can set: all if a function or API of the shop sets them, otherwise those with a word.
    pub fn reachable(&self) -> StatusSet {
        match self.answer.has_own_words() {
            true => StatusSet::ALL,
            false => self.status.statuses(),
        }
    }

    /// Whether orders need a look-up of data outside the row: from an items table, or with the `[details]` query.
    pub fn needs_lookup(&self) -> bool {
        self.details.is_some()
            || matches!(
                &self.items,
                Some(Items {
                    from: ItemsRef::Table { .. },
                    ..
                })
            )
    }
}

impl StatusWords {
    /// The meaning of a shop's word: a status of Vestnik, or hidden. `None`: the mapping does not contain the word.
    pub fn meaning(&self, word: &str) -> Option<WordMeaning> {
        let has = |words: &[String]| words.iter().any(|known| known.trim() == word.trim());
        if has(&self.hidden) {
            return Some(WordMeaning::Hidden);
        }
        // A shop may use one word for both rejected and cancelled. The word then means cancelled, because a kitchen
        // must stop its work at once.
        if has(self.words_of(Status::Cancelled)) {
            return Some(WordMeaning::Status(Status::Cancelled));
        }
        let of_status = self.words.iter().find(|(_, words)| has(words));
        of_status.map(|(status, _)| WordMeaning::Status(*status))
    }

    /// The word that Vestnik writes for this status, if any. `Rejected` without a word uses the word of `Cancelled`.
    pub fn word_of(&self, status: Status) -> Option<&str> {
        let own = self.words_of(status);
        let words = match status {
            Status::Rejected if own.is_empty() => self.words_of(Status::Cancelled),
            _ => own,
        };
        words.first().map(String::as_str)
    }

    /// The status of the order after Vestnik has written the word for `status`. If the shop has one word for both
    /// rejected and cancelled, a rejected order becomes cancelled. Otherwise the result equals `status`.
    pub fn becomes(&self, status: Status) -> Status {
        match self.word_of(status).and_then(|word| self.meaning(word)) {
            Some(WordMeaning::Status(becomes)) => becomes,
            Some(WordMeaning::Hidden) | None => status,
        }
    }

    /// The statuses that have at least one word.
    pub fn statuses(&self) -> StatusSet {
        self.words
            .iter()
            .filter(|(_, words)| !words.is_empty())
            .map(|(status, _)| *status)
            .collect()
    }

    /// All words of this status; empty if the shop has no word for it.
    pub fn words_of(&self, status: Status) -> &[String] {
        let of_status = self.words.iter().find(|(known, _)| *known == status);
        of_status.map_or(&[], |(_, words)| words)
    }

    /// All words of the mapping, including the words of hidden orders.
    pub fn all(&self) -> impl Iterator<Item = &str> {
        let of_statuses = self.words.iter().flat_map(|(_, words)| words);
        of_statuses.chain(&self.hidden).map(String::as_str)
    }
}

/// The meaning of a shop's status word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WordMeaning {
    /// Orders with this word have this status.
    Status(Status),
    /// Orders with this word are hidden from people, for example because they are carts.
    Hidden,
}

impl Column {
    /// A reference to the whole column with this name.
    pub fn whole(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            path: Vec::new(),
        }
    }
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        self.path.iter().try_for_each(|name| write!(f, ".{name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A mapping that uses nearly every key.
    const WHOLE: &str = r#"
        table = 'public."Order"'
        kind = "order"
        key = "id"
        store = "storeId"
        number = "shortNo"
        [status]
        column = "status"
        pending = ["PENDING"]
        preparing = ["CONFIRMED", "PREPARING"]
        ready = ["READY"]
        completed = ["DELIVERED"]
        cancelled = ["CANCELLED", "REFUNDED"]
        hidden = ["CART", "AWAITING_PAYMENT"]
        [fields]
        customer_name = "customerName"
        phone = "contact.phone"
        address = ["street", "city"]
        comment = "note"
        type = { column = "mode", delivery = ["DELIVERY"], pickup = ["TAKEAWAY"] }
        total = { column = "total", unit = "major", currency = "EUR" }
        due_at = { column = "readyBy", zone = "Europe/Paris" }
        created_at = "createdAt"
        deleted_at = "deletedAt"
        [items]
        table = 'public."OrderItem"'
        order_key = "orderId"
        name = "title"
        quantity = "qty"
        price = { column = "price", unit = "major" }
        note = "wish"
        [extra]
        "Table" = "tableNo"
        [answer]
        updated_at = "updatedAt"
        reason = "cancelReason"
        minutes = "prepMinutes"
    "#;

    #[test]
    fn a_mapping_is_read_from_toml() {
        let mapping = Mapping::from_toml(WHOLE).unwrap();
        assert_eq!(mapping.store, StoreRef::Column("storeId".into()));
        assert_eq!(
            mapping.status.meaning("REFUNDED"),
            Some(WordMeaning::Status(Status::Cancelled))
        );
        assert_eq!(mapping.status.meaning("CART"), Some(WordMeaning::Hidden));
        assert_eq!(mapping.status.meaning("LOST"), None);
        assert_eq!(mapping.status.word_of(Status::Preparing), Some("CONFIRMED"));
        assert_eq!(mapping.fields.phone[0].path, ["phone"]);
        assert_eq!(mapping.fields.due_at.as_ref().unwrap().zone, "Europe/Paris");
        assert_eq!(mapping.fields.created_at.as_ref().unwrap().zone, "UTC");
        assert_eq!(
            mapping.currency,
            CurrencyRef::Constant(Currency::from_code("EUR").unwrap())
        );
        assert_eq!(mapping.answer.zone, "UTC");
        let columns = [
            "id",
            "storeId",
            "status",
            "shortNo",
            "customerName",
            "contact",
            "street",
            "city",
            "note",
            "deletedAt",
            "cancelReason",
            "prepMinutes",
            "mode",
            "total",
            "readyBy",
            "createdAt",
            "tableNo",
        ];
        assert_eq!(mapping.recorded_columns(), columns);
        assert!(mapping.needs_lookup());
    }

    #[test]
    fn one_word_for_rejected_and_cancelled_may_stand_at_both() {
        let words = |lists: &str| {
            let text = format!(
                "table = 't'\nkind = 'order'\nkey = 'id'\nstore = 's'\n[status]\ncolumn = 'status'\npending = ['p']\n{lists}"
            );
            Mapping::from_toml(&text).map(|mapping| mapping.status)
        };
        let both = words("rejected = ['X', 'NO']\ncancelled = ['C', 'X']").unwrap();
        assert_eq!(
            both.meaning("X"),
            Some(WordMeaning::Status(Status::Cancelled)),
            "cancelled wins over rejected"
        );
        assert_eq!(both.meaning("NO"), Some(WordMeaning::Status(Status::Rejected)));
        assert_eq!(
            (both.word_of(Status::Rejected), both.becomes(Status::Rejected)),
            (Some("X"), Status::Cancelled)
        );
        assert_eq!(
            (both.word_of(Status::Cancelled), both.becomes(Status::Cancelled)),
            (Some("C"), Status::Cancelled)
        );
        let one = words("cancelled = ['X']").unwrap();
        assert_eq!(
            (one.word_of(Status::Rejected), one.becomes(Status::Rejected)),
            (Some("X"), Status::Cancelled)
        );
        let own = words("rejected = ['NO']\ncancelled = ['X']").unwrap();
        assert_eq!(
            (own.word_of(Status::Rejected), own.becomes(Status::Rejected)),
            (Some("NO"), Status::Rejected)
        );
        let problems = words("ready = ['X']\ncancelled = ['X']").unwrap_err().problems;
        assert_eq!(problems, ["status.cancelled: `X` stands at `ready`, too"]);
    }

    #[test]
    fn words_may_be_numbers_and_a_store_a_constant() {
        let text = r#"
            table = "public.orders"
            kind = "order"
            key = "id"
            store = { constant = "main" }
            status = { column = "state", pending = [0, 1], completed = [-5], hidden = [true] }
        "#;
        let mapping = Mapping::from_toml(text).unwrap();
        assert_eq!(mapping.store, StoreRef::Constant("main".into()));
        assert_eq!(mapping.status.words_of(Status::Pending), ["0", "1"]);
        assert_eq!(mapping.status.meaning("true"), Some(WordMeaning::Hidden));
        assert!(!mapping.needs_lookup());
    }

    #[test]
    fn all_problems_are_reported_together_with_their_keys() {
        let text = r#"
            table = "public.orders"
            kind = "ordre"
            store = "store_id"
            colour = "red"
            [status]
            pending = ["a", "b"]
            ready = ["b"]
            [fields]
            total = { column = "total", unit = "cents", currency = "Euro" }
            due_at = { column = "due", zone = "Europe/Pariss" }
            phon = "phone"
        "#;
        let problems = Mapping::from_toml(text).unwrap_err().problems;
        for expected in [
            "kind: `ordre` is neither \"order\" nor \"booking\"",
            "key: is missing: the column of the row's key",
            "colour: is no key of a mapping",
            "status.column: is missing: the column of the status",
            "status.ready: `b` stands at `pending`, too",
            "fields.total.unit: `cents` is neither \"minor\" nor \"major\"",
            "fields.total.currency: `Euro` is no currency: write three letters, such as \"EUR\"",
            "fields.due_at.zone: `Europe/Pariss` is no time zone: write a name such as \"Europe/Paris\"",
            "fields.phon: is no key of [fields]: did you mean `phone`?",
        ] {
            assert!(
                problems.iter().any(|problem| problem == expected),
                "{expected} in {problems:#?}"
            );
        }
        assert_eq!(problems.len(), 9, "{problems:#?}");
    }

    #[test]
    fn a_name_with_a_dot_is_quoted() {
        let text = "table = 't'\nkind = 'order'\nkey = 'id'\nstore = 's'\n[status]\ncolumn = 'status'\npending = ['p']\n[fields]\nphone = '\"a.b\".c'";
        let mapping = Mapping::from_toml(text).unwrap();
        assert_eq!(mapping.fields.phone[0].name, "a.b");
        assert_eq!(mapping.fields.phone[0].path, ["c"]);
    }

    #[test]
    fn every_mapping_of_the_documentation_is_read() {
        let document = include_str!("../../docs/sources.md");
        let mappings = document
            .split("```toml\n")
            .skip(1)
            .filter_map(|block| block.split("```").next());
        let mappings: Vec<&str> = mappings.collect();
        assert!(mappings.len() > 5);
        for mapping in mappings {
            assert_eq!(Mapping::from_toml(mapping).err(), None, "{mapping}");
        }
    }

    #[test]
    fn what_is_no_toml_is_reported_with_its_line() {
        let problems = Mapping::from_toml("table = \n").unwrap_err().problems;
        assert!(problems[0].contains("line 1"), "{problems:?}");
    }
}
