//! A mapping: what the columns of a source mean. People write it as TOML; docs/sources.md says what each key means.

mod read;
mod section;

use std::collections::BTreeSet;
use std::fmt;

use super::derived::Derived;
use crate::domain::money::{Currency, Unit};
use crate::domain::status::{Status, StatusSet, SubjectKind};

/// A column of the recorded row, and a path into it where it holds JSON: `contact.phone`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// The column's name as the database has it.
    pub name: String,
    /// The names that lead to the value; empty: the column's own.
    pub path: Vec<String>,
}

/// What a store's id is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreRef {
    /// The value of this column.
    Column(String),
    /// Always the same: an application of one shop.
    Constant(String),
}

/// What the shop's words for a status mean. The first word of a status is the one that an answer writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusWords {
    /// Where the word stands.
    pub column: Column,
    /// Of each status that has any.
    pub words: Vec<(Status, Vec<String>)>,
    /// Carts, and what waits for its payment: nobody sees it.
    pub hidden: Vec<String>,
}

/// An amount of money.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MoneyColumn {
    /// Where it stands.
    pub column: Column,
    /// Of what it counts; `None`: the column's type says.
    pub unit: Option<Unit>,
}

/// Of what currency a source's amounts are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CurrencyRef {
    /// Of the store's own.
    Store,
    /// Always of this one.
    Constant(Currency),
    /// Of the one that this column names.
    Column(Column),
}

/// A moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeColumn {
    /// Where it stands.
    pub column: Column,
    /// The IANA zone of a timestamp that says none.
    pub zone: String,
}

/// How an order reaches its customer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeWords {
    /// Where the word stands.
    pub column: Column,
    /// Words for what is brought.
    pub delivery: Vec<String>,
    /// Words for what is fetched.
    pub pickup: Vec<String>,
    /// Words for what is eaten there.
    pub dine_in: Vec<String>,
}

/// Whether an order is paid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaidWords {
    /// Where it stands: a boolean, a time, or a word.
    pub column: Column,
    /// The words that mean it is; empty: true, or anything but null, 0 and false.
    pub words: Vec<String>,
}

/// The fields of an order or booking.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields {
    /// The customer's name; several columns are put together.
    pub customer_name: Vec<Column>,
    /// The customer's telephone number.
    pub phone: Vec<Column>,
    /// Where it goes.
    pub address: Vec<Column>,
    /// What the customer asks for.
    pub comment: Vec<Column>,
    /// For how many.
    pub persons: Option<Column>,
    /// How it is paid: `cash`.
    pub payment_method: Option<Column>,
    /// Whether it is paid.
    pub paid: Option<PaidWords>,
    /// The banknote that the customer pays with.
    pub change_from: Option<MoneyColumn>,
    /// How it reaches its customer.
    pub order_type: Option<TypeWords>,
    /// What it costs.
    pub total: Option<MoneyColumn>,
    /// When it is wished or promised; of a booking, when the guests come.
    pub due_at: Option<TimeColumn>,
    /// When the customer ordered.
    pub created_at: Option<TimeColumn>,
    /// Not null: soft-deleted.
    pub deleted_at: Option<Column>,
    /// Why it was rejected or cancelled.
    pub reason: Option<Column>,
    /// In how many minutes it was promised to be ready.
    pub minutes: Option<Column>,
}

/// Where an order's items are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ItemsRef {
    /// In a JSON column of the row.
    Column(Column),
    /// In a table of their own: with its schema as SQL writes it, and the column that holds the order's key.
    Table {
        /// The table.
        table: String,
        /// The column of the order's key.
        order_key: String,
    },
}

/// The items of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Items {
    /// Where they are.
    pub from: ItemsRef,
    /// What a dish is called; `None`: whatever looks like it.
    pub name: Option<Column>,
    /// How many; `None`: whatever looks like it.
    pub quantity: Option<Column>,
    /// What one costs; `None`: whatever looks like it.
    pub price: Option<Column>,
    /// Of what prices count; `None`: as the total does, or the price column's type says.
    pub unit: Option<Unit>,
    /// What the customer asks for.
    pub note: Option<Column>,
    /// What was chosen with it.
    pub options: Option<Column>,
}

impl Items {
    /// The columns that the mapping names, by their keys in it.
    pub fn named_columns(&self) -> impl Iterator<Item = (&'static str, &Column)> {
        let columns = [
            ("name", &self.name),
            ("quantity", &self.quantity),
            ("price", &self.price),
            ("note", &self.note),
            ("options", &self.options),
        ];
        columns
            .into_iter()
            .filter_map(|(key, column)| Some((key, column.as_ref()?)))
    }
}

/// What a person's answer writes beside the status.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// Set to the moment of each answer.
    pub updated_at: Option<String>,
    /// Set to the moment of the acceptance.
    pub accepted_at: Option<String>,
    /// Set to why it was rejected.
    pub reason: Option<String>,
    /// Set to the minutes that were promised.
    pub minutes: Option<String>,
    /// The shop's own function, called instead of an UPDATE: (key, status, reason, minutes, by).
    pub function: Option<String>,
    /// The IANA zone of timestamps that say none.
    pub zone: String,
}

/// What the columns of a source mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// The table with its schema, as SQL writes it.
    pub table: String,
    /// What its rows are.
    pub kind: SubjectKind,
    /// What the source is called; `None`: as its table.
    pub name: Option<String>,
    /// The column of the row's key, unique within the table.
    pub key: String,
    /// What the row's store is.
    pub store: StoreRef,
    /// What people call out; `None`: the key.
    pub number: Option<Column>,
    /// What its words for a status mean.
    pub status: StatusWords,
    /// Where everything else stands.
    pub fields: Fields,
    /// Of what currency its amounts are.
    pub currency: CurrencyRef,
    /// What was ordered.
    pub items: Option<Items>,
    /// What else is shown, by its label.
    pub extra: Vec<(String, Column)>,
    /// What an answer writes.
    pub answer: Answer,
    /// A query for what a row cannot say: `$1` is an array of keys as text, `key` and fields its columns.
    pub details: Option<String>,
    /// What of it is SQL; `None`: every value is a column of the row. All else then speaks of the engine's own table.
    pub derived: Option<Box<Derived>>,
}

/// What is wrong with a mapping, all of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .problems.join("\n"))]
pub struct MappingError {
    /// One line each, with the key that it is about.
    pub problems: Vec<String>,
}

impl Mapping {
    /// Reads it from TOML.
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

    /// Every reference to a column of the row, but for key and store.
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

    /// The statuses to which a person can bring an order: a function of the shop's knows what to make of each.
    pub fn reachable(&self) -> StatusSet {
        match self.answer.function {
            Some(_) => StatusSet::ALL,
            None => self.status.statuses(),
        }
    }

    /// Whether something of an order must be read after the commit, from another table.
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
    /// What a word means: a status, or hidden; `None` for a word that is not mapped.
    pub fn meaning(&self, word: &str) -> Option<Meaning> {
        let has = |words: &[String]| words.iter().any(|known| known == word);
        if has(&self.hidden) {
            return Some(Meaning::Hidden);
        }
        // What may stand at both is the louder one.
        if has(self.words_of(Status::Cancelled)) {
            return Some(Meaning::Status(Status::Cancelled));
        }
        let of_status = self.words.iter().find(|(_, words)| has(words));
        of_status.map(|(status, _)| Meaning::Status(*status))
    }

    /// The word that an answer writes; `None`: the shop has none for this status.
    pub fn word_of(&self, status: Status) -> Option<&str> {
        let own = self.words_of(status);
        let words = match status {
            Status::Rejected if own.is_empty() => self.words_of(Status::Cancelled),
            _ => own,
        };
        words.first().map(String::as_str)
    }

    /// What an order becomes of which a person makes this: most shops have one word for what is rejected and what is cancelled.
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

    /// Every word that is mapped.
    pub fn all(&self) -> impl Iterator<Item = &str> {
        let of_statuses = self.words.iter().flat_map(|(_, words)| words);
        of_statuses.chain(&self.hidden).map(String::as_str)
    }
}

/// What a word of the shop means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// This.
    Status(Status),
    /// Nobody sees it.
    Hidden,
}

impl Column {
    /// A whole column.
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
