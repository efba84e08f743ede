//! Proposes a mapping for a table: finds the column of each field by usual names, and the meaning of the shop's status
//! words. For each uncertain meaning, the proposal contains a question for a person.

// rustfmt would put each word of the lists in these files on a line of its own.
#[rustfmt::skip]
mod address;
mod beginnings;
mod carts;
mod column_words;
mod columns;
#[rustfmt::skip]
mod completion;
#[rustfmt::skip]
mod contact;
mod deletion;
mod dictionary;
mod drafts;
mod identity;
#[rustfmt::skip]
mod item_synonyms;
mod items;
mod json_items;
mod money;
#[rustfmt::skip]
mod order_type;
mod payment;
mod quantity;
mod reasons;
mod referring;
mod statuses;
#[rustfmt::skip]
mod synonyms;
mod times;
mod toml_text;
mod words;

use super::catalog::{self, Table, TableColumn};
use crate::domain::status::SubjectKind;
use crate::infra::db::GenericClient;
use columns::{Columns, FOREIGN_KEY, is_name, is_number, is_plain, is_text, is_time};
pub(super) use columns::{is_code, is_whole};
use money::ProposedUnit;
pub(super) use synonyms::{Usual, underscored, usual_status};
pub use toml_text::open_questions;
use words::ProposedWords;

/// A proposed mapping for a table, with questions for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// The mapping as TOML. Each question is a comment above the line to which it belongs.
    pub toml: String,
    /// The questions, one line each. Empty: the mapping is ready to attach.
    pub questions: Vec<String>,
    /// The likely guesses in the mapping, which a person should confirm, one line each.
    pub guesses: Vec<String>,
    /// The hint about tables with a foreign key to this table that the mapping does not read. `None`: there are none.
    pub referring: Option<String>,
    /// Whether the mapping has amounts, and names no currency for them.
    pub lacks_currency: bool,
}

/// A proposal that is not finished: the columns that are chosen for each field, the questions and the guesses.
#[derive(Debug, Default)]
struct Draft {
    table: String,
    kind: Option<SubjectKind>,
    key: Option<String>,
    store: Option<String>,
    number: Option<String>,
    status: Option<(String, ProposedWords)>,
    order_type: Option<(String, TypeWords)>,
    /// The keys of the mapping's section `[fields]`, each with its columns.
    fields: Vec<(&'static str, Vec<String>)>,
    /// More keys of `[fields]`, each with JSON columns and their members.
    members: Vec<(&'static str, Vec<(String, String)>)>,
    /// The column with words for the state of the payment, and its words that mean paid.
    paid_words: Option<(String, Vec<String>)>,
    /// The column of the total, with its unit: `minor` or `major`.
    total: Option<(String, &'static str)>,
    /// The unit of the total, and whether it is sure.
    total_unit: Option<ProposedUnit>,
    /// The column of the banknote that the customer pays with, and its unit if the type does not decide it.
    change_from: Option<(String, Option<&'static str>)>,
    currency: Option<String>,
    /// The times in the mapping's section `[fields]`: the key of each, its column, and its time zone. `None` as the
    /// zone: UTC.
    times: Vec<(&'static str, String, Option<String>)>,
    items: Option<Items>,
    extra: Vec<(String, String)>,
    /// The keys of the mapping's section `[answer]`, each with its column.
    answer: Vec<(&'static str, String)>,
    /// The columns that the proposal has assigned to no field.
    left: Vec<String>,
    /// Whether one of these columns is probably the key of a row of another table.
    has_key_left: bool,
    /// See [`Proposal::referring`].
    referring: Option<String>,
    /// The questions, each with the TOML key to which it belongs.
    questions: Vec<(&'static str, String)>,
    /// The guesses to confirm, each with the TOML key to which it belongs.
    guesses: Vec<(&'static str, String)>,
    /// Lines for the end of `[fields]` that say how to map what the proposal leaves out.
    notes: Vec<String>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct TypeWords {
    delivery: Vec<String>,
    pickup: Vec<String>,
    dine_in: Vec<String>,
}

#[derive(Debug)]
enum Items {
    Column {
        name: String,
        /// The member of the JSON value that has the list. `None`: the value itself is the list.
        path: Option<String>,
        /// The member of each item that has its quantity. `None`: its name is usual.
        quantity: Option<String>,
    },
    Table {
        table: String,
        order_key: String,
        /// The keys of the mapping's section `[items]`, each with its column.
        columns: Vec<(&'static str, String)>,
        /// The unit of the prices.
        unit: Option<ProposedUnit>,
        /// The columns that the mapping does not use, without the primary key.
        left: Vec<String>,
    },
}

impl Items {
    fn has_price(&self) -> bool {
        match self {
            // The members of a JSON value are not known.
            Self::Column { .. } => false,
            Self::Table { columns, .. } => columns.iter().any(|(key, _)| *key == "price"),
        }
    }
}

/// Proposes a mapping for a table. `kind`: whether the table has orders or bookings; `None`: the table's name decides.
pub async fn propose(
    client: &impl GenericClient,
    table: &Table,
    kind: Option<SubjectKind>,
) -> Result<Proposal, catalog::Error> {
    let table = &table.with_defaults(client).await?;
    let mut draft = Draft {
        table: table.quoted.clone(),
        kind: kind.or_else(|| synonyms::kind_of(&table.name)),
        ..Draft::default()
    };
    if draft.kind.is_none() {
        draft.ask("kind", "are its rows orders or bookings?");
    }
    let kind = draft.kind.unwrap_or(SubjectKind::Order);
    let mut columns = Columns::new(table);
    identity::find(client, table, &mut columns, &mut draft).await?;
    drafts::ask(client, table, &mut draft).await?;
    statuses::find(client, table, &mut columns, kind, &mut draft).await?;
    if kind == SubjectKind::Order {
        order_type::find(client, table, &mut columns, &mut draft).await?;
    }
    texts(&mut columns, &mut draft);
    contact::find(client, table, &mut columns, &mut draft).await?;
    payment::find(client, table, &mut columns, &mut draft).await?;
    money::find(client, table, &mut columns, &mut draft).await?;
    times::find(client, &mut columns, kind, &mut draft).await?;
    items::find(client, table, &mut columns, &mut draft).await?;
    money::guess_units(client, table, &columns, &mut draft).await?;
    for column in columns.all(synonyms::EXTRA, is_plain) {
        draft.extra.push((label(&column.name), column.name.clone()));
    }
    times::parts(table, &mut columns, kind, &mut draft);
    let used = draft.used_columns();
    let names = table.columns.iter().map(|column| column.name.as_str());
    draft.left = names.filter(|name| !used.contains(name)).map(str::to_owned).collect();
    draft.referring = referring::hint(client, table, &draft).await?;
    draft.has_key_left = draft.left.iter().any(|name| {
        let has_foreign_key = table.column(name).is_some_and(|column| !column.references.is_empty());
        has_foreign_key || underscored(name).trim_end_matches(FOREIGN_KEY).ends_with("_id")
    });
    Ok(toml_text::write(&draft))
}

impl Draft {
    fn ask(&mut self, key: &'static str, question: impl Into<String>) {
        self.questions.push((key, one_line(&question.into())));
    }

    fn guess(&mut self, key: &'static str, guess: impl Into<String>) {
        self.guesses.push((key, one_line(&guess.into())));
    }

    fn put(&mut self, key: &'static str, column: Option<&TableColumn>) {
        if let Some(column) = column {
            self.fields.push((key, vec![column.name.clone()]));
        }
    }

    /// The names of all columns of the table that the proposal uses.
    fn used_columns(&self) -> Vec<&str> {
        let items = match &self.items {
            Some(Items::Column { name, .. }) => Some(name),
            _ => None,
        };
        let single = [&self.key, &self.store, &self.number, &self.currency]
            .into_iter()
            .flatten();
        let worded = [
            self.status.as_ref().map(|(column, _)| column),
            self.order_type.as_ref().map(|(column, _)| column),
            self.paid_words.as_ref().map(|(column, _)| column),
            self.change_from.as_ref().map(|(column, _)| column),
            self.total.as_ref().map(|(column, _)| column),
            items,
        ];
        let fields = self.fields.iter().flat_map(|(_, columns)| columns);
        let members = self.members.iter().flat_map(|(_, members)| members);
        let fields = fields.chain(members.map(|(column, _)| column));
        let times = self.times.iter().map(|(_, column, _)| column);
        let others = self.extra.iter().map(|(_, column)| column);
        let answers = self.answer.iter().map(|(_, column)| column);
        let all = single.chain(worded.into_iter().flatten()).chain(fields).chain(times);
        all.chain(others).chain(answers).map(String::as_str).collect()
    }

    fn answer_with(&mut self, key: &'static str, column: Option<&TableColumn>) {
        self.answer.extend(column.map(|column| (key, column.name.clone())));
    }
}

/// A label for people from a column's name: `table_no` becomes `Table no`.
fn label(name: &str) -> String {
    let words = synonyms::spaced(name);
    let mut letters = words.chars();
    letters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn texts(columns: &mut Columns<'_>, draft: &mut Draft) {
    match (
        columns.take(synonyms::FIRST_NAMES, is_name),
        columns.take(synonyms::LAST_NAMES, is_name),
    ) {
        (Some(first), Some(last)) => draft
            .fields
            .push(("customer_name", vec![first.name.clone(), last.name.clone()])),
        (one, other) => {
            let single = columns.take(synonyms::CUSTOMER_NAMES, is_name).or(one).or(other);
            draft.put("customer_name", single);
            if single.is_some_and(|column| underscored(&column.name) == "name") {
                plain_name(columns, draft);
            }
        }
    }
    draft.put(
        "phone",
        columns.take(synonyms::PHONES, |column| is_text(column) || is_whole(column)),
    );
    address::find(columns, draft);
    draft.put("comment", columns.take(synonyms::COMMENTS, is_text));
    draft.put(
        "persons",
        columns.take(synonyms::PERSONS, |column| is_number(column) || is_text(column)),
    );
    // A number such as 1 tells nobody how an order is paid.
    let is_method = |column: &TableColumn| is_plain(column) && !is_whole(column);
    draft.put("payment_method", columns.take(synonyms::PAYMENT_METHODS, is_method));
    draft.put("deleted_at", columns.take(synonyms::DELETED, deletion::may_mark));
    for (key, names) in [("updated_at", synonyms::UPDATED), ("accepted_at", synonyms::ACCEPTED)] {
        draft.answer_with(key, columns.take(names, is_time));
    }
    reasons::find(columns, draft);
    draft.answer_with("minutes", columns.take(synonyms::MINUTES, is_whole));
    draft.answer_with("version", columns.take(synonyms::VERSIONS, is_whole));
}

/// Handles a column that is called `name`. It may hold the customer's name, or the order's number or title. If another
/// column refers to a customer, adds a question. Otherwise adds the guess that the column holds the customer's name.
fn plain_name(columns: &Columns<'_>, draft: &mut Draft) {
    let rest = columns.rest();
    let customer = rest.iter().chain(&draft.store).find(|name| {
        let name = underscored(name);
        let mut keys = synonyms::CUSTOMER_KEYS.iter().chain(synonyms::USER_KEYS);
        keys.any(|key| *key == name)
    });
    match customer {
        Some(key) => {
            let question = format!(
                "is `name` the customer's name, or the order's number or title? The customer may stand behind {key}: a section [derived] follows keys (docs/derived-sources.md)"
            );
            draft.ask("customer_name", question);
        }
        None => draft.guess("customer_name", "`name` is the customer's name"),
    }
}

/// A text for a comment of one line. It may have a name or a value of the shop, and must not begin another line.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}
