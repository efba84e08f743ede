//! A mapping: the meaning of a source's columns. People write it as TOML; docs/sources.md explains each key.

mod answer;
pub mod derived;
mod read;
mod section;

use std::collections::BTreeSet;
use std::fmt;

use crate::domain::money::{Currency, Unit};
use crate::domain::status::{Status, StatusSet, SubjectKind};
pub use answer::Answer;
use derived::Derived;

/// A column of the recorded row, and a path into its JSON value: `contact.phone`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// The column's name in the database.
    pub name: String,
    /// The names that lead to the value; empty: the column itself.
    pub path: Vec<String>,
}

/// Where the store's id comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreRef {
    /// From this column.
    Column(String),
    /// A constant: the application belongs to one shop.
    Constant(String),
}

/// The meaning of the shop's status words. An answer writes the first word of a status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusWords {
    /// The column with the word.
    pub column: Column,
    /// The words of each status.
    pub words: Vec<(Status, Vec<String>)>,
    /// The words of hidden orders: carts and unpaid orders.
    pub hidden: Vec<String>,
}

/// An amount of money.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MoneyColumn {
    /// The column with the amount.
    pub column: Column,
    /// The unit; `None`: derived from the column's type.
    pub unit: Option<Unit>,
}

/// The currency of a source's amounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CurrencyRef {
    /// The currency of the store.
    Store,
    /// A constant.
    Constant(Currency),
    /// From this column.
    Column(Column),
}

/// A point in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeColumn {
    /// The column with the time.
    pub column: Column,
    /// The IANA zone of timestamps without a zone.
    pub zone: String,
}

/// How an order reaches its customer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeWords {
    /// The column with the word.
    pub column: Column,
    /// Words for delivery.
    pub delivery: Vec<String>,
    /// Words for pickup.
    pub pickup: Vec<String>,
    /// Words for dine-in.
    pub dine_in: Vec<String>,
}

/// Whether an order is paid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaidWords {
    /// The column: a boolean, a time, or a word.
    pub column: Column,
    /// The words that mean paid; empty: true, or anything but null, 0 and false.
    pub words: Vec<String>,
}

/// The fields of an order or booking.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields {
    /// The customer's name; the values of several columns are joined.
    pub customer_name: Vec<Column>,
    /// The customer's telephone number.
    pub phone: Vec<Column>,
    /// The delivery address.
    pub address: Vec<Column>,
    /// The customer's notes.
    pub comment: Vec<Column>,
    /// Number of people.
    pub persons: Option<Column>,
    /// The payment method: `cash`.
    pub payment_method: Option<Column>,
    /// Whether it is paid.
    pub paid: Option<PaidWords>,
    /// The banknote that the customer pays with.
    pub change_from: Option<MoneyColumn>,
    /// Delivery, pickup or dine-in.
    pub order_type: Option<TypeWords>,
    /// The total.
    pub total: Option<MoneyColumn>,
    /// The requested or promised time; for a booking, when the guests arrive.
    pub due_at: Option<TimeColumn>,
    /// When the customer ordered.
    pub created_at: Option<TimeColumn>,
    /// The soft-delete marker: any value but null means deleted.
    pub deleted_at: Option<Column>,
    /// Why it was rejected or cancelled.
    pub reason: Option<Column>,
    /// The promised preparation time, minutes.
    pub minutes: Option<Column>,
}

/// Where the items of an order are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ItemsRef {
    /// In a JSON column of the row.
    Column(Column),
    /// In a separate table.
    Table {
        /// The table with its schema, as SQL writes it.
        table: String,
        /// The column with the order's key.
        order_key: String,
    },
}

/// The items of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Items {
    /// Where the items are.
    pub from: ItemsRef,
    /// The name of a dish; `None`: any member with a usual name.
    pub name: Option<Column>,
    /// The quantity; `None`: any member with a usual name.
    pub quantity: Option<Column>,
    /// The price of one; `None`: any member with a usual name.
    pub price: Option<Column>,
    /// The unit of prices; `None`: as for the total, or derived from the price column's type.
    pub unit: Option<Unit>,
    /// The customer's notes.
    pub note: Option<Column>,
    /// The chosen options.
    pub options: Option<Column>,
    /// The station of the kitchen, or the part of the menu.
    pub category: Option<Column>,
}

impl Items {
    /// The columns that the mapping names, by their TOML keys.
    pub fn named_columns(&self) -> impl Iterator<Item = (&'static str, &Column)> {
        let columns = [
            ("name", &self.name),
            ("quantity", &self.quantity),
            ("price", &self.price),
            ("note", &self.note),
            ("options", &self.options),
            ("category", &self.category),
        ];
        columns
            .into_iter()
            .filter_map(|(key, column)| Some((key, column.as_ref()?)))
    }
}

/// The meaning of a source's columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// The table with its schema, as SQL writes it.
    pub table: String,
    /// Orders or bookings.
    pub kind: SubjectKind,
    /// The source's name; `None`: the table's name.
    pub name: Option<String>,
    /// The column of the row's key, unique within the table.
    pub key: String,
    /// Where the store's id comes from.
    pub store: StoreRef,
    /// The number that people call out; `None`: the key.
    pub number: Option<Column>,
    /// The meaning of its status words.
    pub status: StatusWords,
    /// The columns of all other fields.
    pub fields: Fields,
    /// The currency of its amounts.
    pub currency: CurrencyRef,
    /// The ordered items.
    pub items: Option<Items>,
    /// Extra fields to show, by their labels.
    pub extra: Vec<(String, Column)>,
    /// The columns that an answer writes.
    pub answer: Answer,
    /// A query for data that a row does not contain: `$1` is an array of keys as text; it returns `key` and fields.
    pub details: Option<String>,
    /// The SQL part; `None`: every value is a row's column. With it, the other keys refer to the engine's own table.
    pub derived: Option<Box<Derived>>,
}

/// All errors in a mapping.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .problems.join("\n"))]
pub struct MappingError {
    /// One line each, with the TOML key.
    pub problems: Vec<String>,
}

impl Mapping {
    /// Parses TOML.
    pub fn from_toml(text: &str) -> Result<Self, MappingError> {
        read::mapping(text)
    }

    /// The columns that the trigger records, each once, the key first.
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

    /// Every reference to a column of the row, except key and store.
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

    /// The statuses that a person can set. A function of the shop's accepts every status, and so does its API.
    pub fn reachable(&self) -> StatusSet {
        match self.answer.has_own_words() {
            true => StatusSet::ALL,
            false => self.status.statuses(),
        }
    }

    /// Whether data of an order must be read from another table after the commit.
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
    /// The meaning of a word: a status, or hidden; `None` for an unmapped word.
    pub fn meaning(&self, word: &str) -> Option<Meaning> {
        let has = |words: &[String]| words.iter().any(|known| known == word);
        if has(&self.hidden) {
            return Some(Meaning::Hidden);
        }
        // A word with two meanings gets the more urgent one.
        if has(self.words_of(Status::Cancelled)) {
            return Some(Meaning::Status(Status::Cancelled));
        }
        let of_status = self.words.iter().find(|(_, words)| has(words));
        of_status.map(|(status, _)| Meaning::Status(*status))
    }

    /// The word that an answer writes; `None`: the shop has no word for this status.
    pub fn word_of(&self, status: Status) -> Option<&str> {
        let own = self.words_of(status);
        let words = match status {
            Status::Rejected if own.is_empty() => self.words_of(Status::Cancelled),
            _ => own,
        };
        words.first().map(String::as_str)
    }

    /// The status that results from a person's answer: most shops have one word for both rejected and cancelled.
    pub fn becomes(&self, status: Status) -> Status {
        match self.word_of(status).and_then(|word| self.meaning(word)) {
            Some(Meaning::Status(becomes)) => becomes,
            Some(Meaning::Hidden) | None => status,
        }
    }

    /// The statuses that have words.
    pub fn statuses(&self) -> StatusSet {
        self.words
            .iter()
            .filter(|(_, words)| !words.is_empty())
            .map(|(status, _)| *status)
            .collect()
    }

    /// All words for a status.
    pub fn words_of(&self, status: Status) -> &[String] {
        let of_status = self.words.iter().find(|(known, _)| *known == status);
        of_status.map_or(&[], |(_, words)| words)
    }

    /// All mapped words.
    pub fn all(&self) -> impl Iterator<Item = &str> {
        let of_statuses = self.words.iter().flat_map(|(_, words)| words);
        of_statuses.chain(&self.hidden).map(String::as_str)
    }
}

/// The meaning of a shop's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// A status.
    Status(Status),
    /// The order is hidden.
    Hidden,
}

impl Column {
    /// A reference to a whole column.
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

    /// A mapping that has nearly every key.
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
            Some(Meaning::Status(Status::Cancelled))
        );
        assert_eq!(mapping.status.meaning("CART"), Some(Meaning::Hidden));
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
            Some(Meaning::Status(Status::Cancelled)),
            "the louder one"
        );
        assert_eq!(both.meaning("NO"), Some(Meaning::Status(Status::Rejected)));
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
        assert_eq!(mapping.status.meaning("true"), Some(Meaning::Hidden));
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
