//! Translates a journal row into the canonical order or booking. Accepts any JSON; the order lists unreadable fields.

mod details;
mod times;
mod unreadable;

use std::borrow::Cow;

use super::json::{Json, at_path, member};
use super::lookup_parts::Parts;
use super::lookup_results::LookupResult;
use super::mapping::{
    Column, CurrencyRef, Fields, ItemsRef, MoneyColumn, PaidWords, TimeColumn, TypeWords, WordMeaning,
};
use super::yes_no::{says_no, yes_or_no};
use super::{Source, address, items};
use crate::domain::Subject;
use crate::domain::event::SubjectId;
use crate::domain::money::{Currency, Unit, minor_units};
use crate::domain::status::Status;
use crate::domain::subject::{Extra, OrderType, Quantity, Unreadable, Visibility, name_of_due_at};

/// Maximum length of the text of an unreadable value, in characters.
const UNREADABLE_CHARACTERS: usize = 200;
/// The text that people see in place of a value that was too large to record.
const TOO_LARGE: &str = "…";
/// The text that people see in place of items or details whose look-up failed.
const NOT_LOOKED_UP: &str = "?";

/// The text that people see in place of a status word that is empty.
pub(super) const EMPTY_WORD: &str = "''";

/// Data that the translation needs in addition to the row.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The currency of the order's store, used if the mapping names no currency.
    pub currency: Currency,
    /// The result of the look-up in other tables. Found data has Vestnik's field names, such as `{"items": [...]}`.
    pub lookup: LookupResult<'a>,
}

/// Translates one row into an order. `key` is the row's key, and `data` has its recorded columns as a JSON object.
pub fn translate(source: &Source, key: &str, data: &str, context: Context<'_>) -> Subject {
    let id = SubjectId {
        source: source.id,
        key: key.into(),
    };
    let row = Row::read(data);
    let (looked_up, failed) = match context.lookup {
        LookupResult::Found(found) => (found, Parts::default()),
        LookupResult::Nothing => ("{}", Parts::default()),
        LookupResult::Incomplete { found, failed } => (found, failed),
    };
    let looked_up = Row::read(looked_up);
    let mapping = &source.mapping;
    let (currency, unknown_currency) = match currency(&mapping.currency, &row) {
        Ok(currency) => (currency.unwrap_or(context.currency), None),
        Err(code) => (context.currency, Some(code)),
    };
    let mut subject = Subject::empty(mapping.kind, id, source.name.clone(), currency);
    let mut unreadable = unreadable::problems(&row, source);
    for part in source.parts().iter().filter(|part| failed.has(*part)) {
        not_read::<()>(part.as_str(), NOT_LOOKED_UP, &mut unreadable);
    }
    if let Some(number) = mapping.number.as_ref().and_then(|column| row.text(column)) {
        subject.number = number;
    }
    status(&mut subject, source, &row);
    let fields = &mapping.fields;
    texts(&mut subject, fields, &row);
    subject.order_type = fields.order_type.as_ref().and_then(|words| order_type(words, &row));
    subject.payment.is_paid = fields.paid.as_ref().and_then(|words| paid(words, source, &row));
    let mut money = |column: &Option<MoneyColumn>, field| {
        let column = column.as_ref()?;
        // An amount in the wrong currency is worse than no amount, so the amount is marked as unreadable.
        if let Some(code) = &unknown_currency {
            let text = row.text(&column.column)?;
            return not_read(field, &format!("{text} {code}"), &mut unreadable);
        }
        amount(
            &row,
            &column.column,
            source.unit_of(column),
            currency,
            field,
            &mut unreadable,
        )
    };
    subject.total = money(&fields.total, "total");
    subject.payment.change_from = money(&fields.change_from, "payment");
    let mut time = |column: &Option<TimeColumn>, field| times::moment(&row, column.as_ref()?, field, &mut unreadable);
    subject.due_at = time(&fields.due_at, name_of_due_at(mapping.kind));
    subject.created_at = time(&fields.created_at, "created_at");
    if let Some(derived) = &mapping.derived {
        times::mark_creation_time(derived, &row, &mut unreadable);
    }
    subject.persons = fields.persons.as_ref().and_then(|column| row.quantity(column));
    subject.promised_minutes = fields
        .minutes
        .as_ref()
        .and_then(|column| row.text(column)?.parse().ok());
    if let Some(items) = &mapping.items {
        let unit = source.unit_of_items();
        subject.items = match &items.from {
            ItemsRef::Column(column) => {
                let raw = row.raw(column).unwrap_or_default();
                match items::serialized::serialized(&raw) {
                    Some(text) => not_read("items", &text, &mut unreadable).unwrap_or_default(),
                    None => items::read(&raw, items, unit, currency),
                }
            }
            // The look-up query has already given Vestnik's names to the columns of the items table.
            ItemsRef::Table { .. } => {
                items::read_canonical(looked_up.member("items").unwrap_or_default(), unit, currency)
            }
        };
    }
    if unknown_currency.is_some() {
        subject.items.list.iter_mut().for_each(|item| item.price = None);
    }
    for (label, column) in &mapping.extra {
        if let Some(value) = row.text(column) {
            let label = label.clone();
            subject.extra.push(Extra { label, value });
        }
    }
    details::add(&mut subject, source, &looked_up, &mut unreadable);
    subject.unreadable = unreadable;
    subject
}

/// The status of the row `data`, a JSON object. `None`: the order is hidden or deleted, or its status word is unknown.
pub fn status_of(source: &Source, data: &str) -> Option<Status> {
    let row = Row::read(data);
    let word = row.text(&source.mapping.status.column)?;
    match source.mapping.status.meaning(&word)? {
        WordMeaning::Status(status) => (!is_deleted(source, &row)).then_some(status),
        WordMeaning::Hidden => None,
    }
}

fn is_deleted(source: &Source, row: &Row<'_>) -> bool {
    let column = source.mapping.fields.deleted_at.as_ref();
    let text = column.and_then(|column| row.text(column));
    text.is_some_and(|text| !says_no(&text))
}

/// The columns of a recorded row. `None`: the row's data is not a JSON object.
struct Row<'a> {
    columns: Option<Vec<(String, &'a str)>>,
}

impl<'a> Row<'a> {
    fn read(data: &'a str) -> Self {
        match Json::read(data) {
            Json::Object(columns) => Self { columns: Some(columns) },
            _ => Self { columns: None },
        }
    }

    fn member(&self, name: &str) -> Option<&'a str> {
        member(self.columns.as_ref()?, name)
    }

    /// The JSON text of a column, or of a value inside the column's JSON. `None`: the row has no such value.
    fn raw(&self, column: &Column) -> Option<Cow<'a, str>> {
        let whole = self.member(&column.name)?;
        at_path(whole, &column.path)
    }

    /// A column's value as text for people; `None`: the value is null, empty, or missing.
    fn text(&self, column: &Column) -> Option<String> {
        let raw = self.raw(column)?;
        let mut held = String::new();
        Json::read_encoded_twice(&raw, &mut held).readable()
    }

    /// A column's value as the text of an address; `None`: the value is null, empty, or missing.
    fn address(&self, column: &Column) -> Option<String> {
        let raw = self.raw(column)?;
        let mut held = String::new();
        address::readable(Json::read_encoded_twice(&raw, &mut held))
    }

    fn quantity(&self, column: &Column) -> Option<Quantity> {
        self.text(column).map(|text| items::quantity(&text))
    }
}

/// Says whether the mapping or the row names the currency of the row's amounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedCurrency {
    /// The mapping or the row names a currency.
    Named,
    /// The mapping names no currency, or the row's currency column is null or empty.
    Missing,
    /// The value of the row's currency column, which is not a currency code.
    Unknown(String),
}

/// Whether anything names the currency of the row's amounts: the mapping or the row. `data` is the row as JSON.
pub fn named_currency(source: &Source, data: &str) -> NamedCurrency {
    match currency(&source.mapping.currency, &Row::read(data)) {
        Ok(Some(_)) => NamedCurrency::Named,
        Ok(None) => NamedCurrency::Missing,
        Err(code) => NamedCurrency::Unknown(code),
    }
}

/// The currency that the mapping or the row names. `None`: neither names one. The error is an invalid currency code.
fn currency(currency: &CurrencyRef, row: &Row<'_>) -> Result<Option<Currency>, String> {
    match currency {
        CurrencyRef::Store => Ok(None),
        CurrencyRef::Constant(currency) => Ok(Some(*currency)),
        CurrencyRef::Column(column) => match row.text(column) {
            None => Ok(None),
            Some(code) => Currency::from_code(&code).map(Some).ok_or(code),
        },
    }
}

/// Sets the order's status and visibility. A status word that the mapping does not contain counts as `pending`.
fn status(subject: &mut Subject, source: &Source, row: &Row<'_>) {
    subject.words = source.mapping.reachable();
    let word = row.text(&source.mapping.status.column);
    match word.as_ref().and_then(|word| source.mapping.status.meaning(word)) {
        Some(WordMeaning::Status(status)) => subject.status = status,
        Some(WordMeaning::Hidden) => subject.visibility = Visibility::Hidden,
        None => {
            subject.status = Status::Pending;
            let unsaid = || match row.raw(&source.mapping.status.column) {
                Some(raw) if matches!(Json::read(&raw), Json::Text(_)) => EMPTY_WORD,
                _ => "null",
            };
            subject.status_word = Some(word.unwrap_or_else(|| unsaid().to_owned()));
        }
    }
    if is_deleted(source, row) {
        subject.visibility = Visibility::Deleted;
    }
}

fn texts(subject: &mut Subject, fields: &Fields, row: &Row<'_>) {
    let joined = |texts: Vec<String>, between: &str| (!texts.is_empty()).then(|| texts.join(between));
    let read = |columns: &[Column]| columns.iter().filter_map(|column| row.text(column)).collect();
    let parts = fields.address.iter().filter_map(|column| row.address(column));
    subject.customer_name = joined(read(&fields.customer_name), " ");
    subject.phone = joined(read(&fields.phone), ", ");
    subject.address = joined(parts.collect(), ", ");
    subject.comment = joined(read(&fields.comment), "\n");
    subject.reason = fields.reason.as_ref().and_then(|column| row.text(column));
    subject.payment.method = fields.payment_method.as_ref().and_then(|column| row.text(column));
}

fn order_type(words: &TypeWords, row: &Row<'_>) -> Option<OrderType> {
    let word = row.text(&words.column)?;
    let has = |words: &[String]| words.contains(&word);
    Some(if has(&words.delivery) {
        OrderType::Delivery
    } else if has(&words.pickup) {
        OrderType::Pickup
    } else if has(&words.dine_in) {
        OrderType::DineIn
    } else {
        canonical_order_type(word)
    })
}

fn canonical_order_type(word: String) -> OrderType {
    match word.as_str() {
        "delivery" => OrderType::Delivery,
        "pickup" => OrderType::Pickup,
        "dine_in" => OrderType::DineIn,
        _ => OrderType::Other(word),
    }
}

fn paid(words: &PaidWords, source: &Source, row: &Row<'_>) -> Option<bool> {
    match row.text(&words.column) {
        Some(word) if words.words.is_empty() => yes_or_no(&word),
        Some(word) => Some(words.words.contains(&word)),
        // If the column holds the time of the payment, null means unpaid. If it holds a word, null means unknown.
        None if source
            .type_of(&words.column)
            .is_some_and(|kind| kind.starts_with("timestamp")) =>
        {
            Some(false)
        }
        None => None,
    }
}

fn amount(
    row: &Row<'_>,
    column: &Column,
    unit: Unit,
    currency: Currency,
    field: &'static str,
    unreadable: &mut Vec<Unreadable>,
) -> Option<i64> {
    let text = row.text(column)?;
    minor_units(&text, unit, currency).or_else(|| not_read(field, &text, unreadable))
}

fn not_read<T>(field: &'static str, text: &str, unreadable: &mut Vec<Unreadable>) -> Option<T> {
    let text = text.chars().take(UNREADABLE_CHARACTERS).collect();
    unreadable.push(Unreadable { field, text });
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::fixtures::source;

    /// A minimal mapping: key, store, and a status with one word.
    const BARE: &str = "table = 'public.orders'\nkind = 'order'\nkey = 'id'\nstore = 'store_id'\n[status]\ncolumn = 'status'\npending = ['new']\n";
    const DETAILS: &str = "[details]\nquery = 'select 1 as key'\n";

    /// Translates `row` with the mapping [`BARE`] plus the TOML `more`; `found` is the result of the look-up.
    fn order(more: &str, types: &[(&str, &str)], row: serde_json::Value, found: Option<serde_json::Value>) -> Subject {
        let found = found.map(|found| found.to_string());
        let context = Context {
            currency: Currency::DEFAULT,
            lookup: found.as_deref().map_or(LookupResult::Nothing, LookupResult::Found),
        };
        source(&format!("{BARE}{more}"), types).translate("1", &row.to_string(), context)
    }

    #[test]
    fn the_items_of_a_details_query_are_read() {
        let items =
            serde_json::json!([{"name": "Soup", "quantity": 2, "price": 12.5, "options": ["hot"]}, {"name": "Tea"}]);
        let encoded = serde_json::Value::from(items.to_string());
        for items in [items, encoded] {
            let order = order(
                DETAILS,
                &[],
                serde_json::json!({}),
                Some(serde_json::json!({"key": 1, "items": items, "table": "5"})),
            );
            let told: Vec<_> = order
                .items
                .list
                .iter()
                .map(|item| (item.name.as_str(), item.price, item.options.len()))
                .collect();
            assert_eq!(told, [("Soup", Some(1250), 1), ("Tea", None, 0)]);
            assert_eq!(order.extra.len(), 1, "{:?}", order.extra);
        }
        let row = serde_json::json!({"items": [{"name": "Soup"}]});
        let order = order(
            &format!("[items]\ncolumn = 'items'\n{DETAILS}"),
            &[],
            row,
            Some(serde_json::json!({"key": 1, "items": null})),
        );
        assert_eq!(
            order.items.list.len(),
            1,
            "if the query returns no items, the items of the row stay"
        );
    }

    #[test]
    fn prices_of_a_details_query_count_as_the_total_does() {
        let price = |more: &str, types: &[(&str, &str)], price: serde_json::Value| {
            let found = serde_json::json!({"items": [{"name": "Soup", "price": price}]});
            order(&format!("{more}{DETAILS}"), types, serde_json::json!({}), Some(found))
                .items
                .list[0]
                .price
        };
        let total = "[fields]\ntotal = { column = 'total', unit = 'major' }\n";
        assert_eq!(price(total, &[("total", "integer")], 12.into()), Some(1200));
        assert_eq!(
            price("[fields]\ntotal = 'total'\n", &[("total", "numeric(10,2)")], 12.into()),
            Some(1200)
        );
        assert_eq!(
            price("[fields]\ntotal = 'total'\n", &[("total", "integer")], 12.into()),
            Some(12)
        );
        assert_eq!(
            price("", &[], 12.into()),
            Some(12),
            "without a unit, a whole number counts minor units"
        );
    }

    #[test]
    fn json_without_a_text_in_a_plain_field_is_marked() {
        let more = "[fields]\ncomment = 'note'\naddress = ['place', 'city']\n[extra]\nTable = 'seat'\n";
        let marks = |row: serde_json::Value| {
            let order = order(more, &[], row, None);
            let marks = order.unreadable.iter().map(|mark| (mark.field, mark.text.clone()));
            (order.comment, marks.collect::<Vec<_>>())
        };
        let notes = serde_json::json!([{"text": "no onions"}]);
        let told = |field| (None, vec![(field, "[{\"text\":\"no onions\"}]".to_owned())]);
        assert_eq!(marks(serde_json::json!({"note": notes})), told("comment"));
        assert_eq!(
            marks(serde_json::json!({"note": notes.to_string()})),
            told("comment"),
            "JSON within text"
        );
        assert_eq!(marks(serde_json::json!({"seat": notes})), told("extra"));
        assert_eq!(
            marks(serde_json::json!({"place": notes, "city": "Cork"})),
            told("address")
        );
        for empty in [
            serde_json::json!(null),
            serde_json::json!([]),
            serde_json::json!({}),
            serde_json::json!([null, ""]),
            serde_json::json!([{}]),
            serde_json::json!("[]"),
        ] {
            assert_eq!(marks(serde_json::json!({"note": empty})), (None, Vec::new()), "{empty}");
        }
        let plain = marks(serde_json::json!({"note": ["no onions", {"text": "cold"}]}));
        assert_eq!(plain, (Some("no onions".to_owned()), Vec::new()));
        let details = order(
            DETAILS,
            &[],
            serde_json::json!({}),
            Some(serde_json::json!({"key": 1, "comment": notes})),
        );
        let marks: Vec<_> = details
            .unreadable
            .iter()
            .map(|mark| (mark.field, mark.text.as_str()))
            .collect();
        assert_eq!(marks, [("details", "comment: [{\"text\":\"no onions\"}]")]);
    }

    #[test]
    fn an_empty_status_and_a_missing_one_are_told_apart() {
        let word = |status: serde_json::Value| order("", &[], serde_json::json!({"status": status}), None).status_word;
        assert_eq!(word(serde_json::json!("")).as_deref(), Some("''"));
        assert_eq!(word(serde_json::json!("  ")).as_deref(), Some("''"));
        assert_eq!(word(serde_json::json!(null)).as_deref(), Some("null"));
    }

    #[test]
    fn items_in_a_form_that_nobody_can_read_are_marked_and_are_no_dish() {
        let php = "a:1:{i:0;a:1:{s:4:\"name\";s:5:\"Pizza\";}}";
        for items in [
            php,
            "[{\"name\": \"Pizza\"}, {\"na",
            "<items><item>Pizza</item></items>",
        ] {
            let told = order(
                "[items]\ncolumn = 'items'\n",
                &[],
                serde_json::json!({"status": "new", "items": items}),
                None,
            );
            assert!(told.items.list.is_empty(), "{items}");
            assert_eq!(told.unreadable[0].field, "items");
            assert!(items.starts_with(&told.unreadable[0].text), "{items}");
        }
    }

    #[test]
    fn an_amount_in_a_currency_that_nobody_knows_is_marked_and_not_shown_in_another() {
        let more = "[fields]\ntotal = { column = 'total', unit = 'major', currency_column = 'money' }\n[items]\ncolumn = 'items'\n";
        let toml = format!("{BARE}{more}");
        let read = |code: &str| {
            let row = serde_json::json!({"money": code, "total": "7.00", "items": [{"name": "Soup", "price": 700}]});
            let context = Context {
                currency: Currency::DEFAULT,
                lookup: LookupResult::Nothing,
            };
            source(&toml, &[]).translate("1", &row.to_string(), context)
        };
        let known = read("eur");
        assert_eq!((known.total, known.currency.as_str()), (Some(700), "EUR"));
        let unknown = read("kroner");
        assert_eq!((unknown.total, unknown.items.list[0].price), (None, None));
        let marks: Vec<_> = unknown
            .unreadable
            .iter()
            .map(|mark| (mark.field, mark.text.as_str()))
            .collect();
        assert_eq!(marks, [("total", "7.00 kroner")]);
    }

    #[test]
    fn a_word_for_the_payment_that_nobody_mapped_says_nothing() {
        let paid = |value: serde_json::Value| {
            order("[fields]\npaid = 'pay'\n", &[], serde_json::json!({"pay": value}), None)
                .payment
                .is_paid
        };
        for unknown in ["UNPAID", "pending", "refused", "cash"] {
            assert_eq!(paid(unknown.into()), None, "{unknown}");
        }
        for yes in ["true", "YES", "t", "1", "2026-11-28 12:00:00", "2026-11-28T12:00:00Z"] {
            assert_eq!(paid(yes.into()), Some(true), "{yes}");
        }
        for no in ["false", "No", "0", "off"] {
            assert_eq!(paid(no.into()), Some(false), "{no}");
        }
        assert_eq!(
            (paid(true.into()), paid(0.into()), paid(3.into())),
            (Some(true), Some(false), Some(true))
        );
        let mapped = "[fields]\npaid = { column = 'pay', words = ['PAID'] }\n";
        let mapped = |word: &str| {
            order(mapped, &[], serde_json::json!({"pay": word}), None)
                .payment
                .is_paid
        };
        assert_eq!((mapped("PAID"), mapped("UNPAID")), (Some(true), Some(false)));
    }

    #[test]
    fn what_the_shops_function_answers_needs_no_word() {
        let next = |more: &str| order(more, &[], serde_json::json!({"status": "new"}), None).next();
        assert_eq!(next(""), []);
        assert_eq!(
            next("[answer]\nfunction = 'app.answer'\n"),
            [Status::Preparing, Status::Rejected]
        );
    }
}
