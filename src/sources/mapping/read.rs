//! Parses a mapping from TOML, and reports all its errors together.

mod derived;

use toml::{Table, Value};

use super::section::{Section, column};
use super::{
    Answer, Column, CurrencyRef, Fields, Items, ItemsRef, Mapping, MappingError, MoneyColumn, PaidWords, StatusWords,
    StoreRef, TimeColumn, TypeWords,
};
use crate::domain::money::Currency;
use crate::domain::status::{Status, SubjectKind};
use crate::sources::zone::USUAL_ZONE;

/// Parses a mapping from TOML. The error lists all problems of the TOML text.
pub fn mapping(text: &str) -> Result<Mapping, MappingError> {
    let table: Table = text.parse().map_err(|error| MappingError {
        problems: vec![not_toml(text, &error)],
    })?;
    let mut problems = Vec::new();
    let mut top = Section::top(table, &mut problems);
    let mapping = match top.table.contains_key("derived") {
        true => derived::whole(&mut top),
        false => whole(&mut top),
    };
    top.finish();
    match mapping {
        Some(mapping) if problems.is_empty() => Ok(mapping),
        _ => Err(MappingError { problems }),
    }
}

/// The problem of a text that is not TOML: the line, its text, and what to write instead.
fn not_toml(text: &str, error: &toml::de::Error) -> String {
    let at = error.span().map_or(0, |span| span.start);
    let number = text.get(..at).unwrap_or(text).matches('\n').count() + 1;
    let line = text.lines().nth(number - 1).unwrap_or_default().trim();
    let remedy = match line.matches('"').count() > 2 {
        true => ": a value that contains quotes stands between three, '''as here'''",
        false => "",
    };
    format!(
        "line {number}, `{line}`: {}{remedy}",
        error.message().replace('\n', " ")
    )
}

fn whole(top: &mut Section<'_>) -> Option<Mapping> {
    let table = top.required("table", "the table with its schema, such as 'public.orders'");
    let kind = kind(top);
    let name = top.text("name");
    let key = top.required("key", "the column of the row's key");
    let store = store(top);
    let number = top.column("number");
    let is_zone_named = top.table.contains_key("zone");
    let zone = top.zone(USUAL_ZONE);
    let status = status(top);
    let (mut fields, mut currency) = match top.below("fields") {
        Some(section) => fields(section, &zone, is_zone_named),
        None => (Fields::default(), CurrencyRef::Store),
    };
    if let Some(code) = top.text("currency") {
        currency = constant_currency(top, &code).unwrap_or(currency);
    }
    let items = top.below("items").and_then(items);
    let extra = top.below("extra").map_or_else(Vec::new, extra);
    let details_zone = fields.due_at.as_ref().map_or(&zone, |due| &due.zone).clone();
    let created_zone = fields.created_at.as_ref().map_or(zone, |created| created.zone.clone());
    let answer = match top.below("answer") {
        Some(section) => answer(section, &created_zone),
        None => Answer {
            zone: created_zone,
            ..Answer::default()
        },
    };
    // If `[fields]` names no column for the reason or the minutes, read the column to which answers write this value.
    fields.reason = fields.reason.or_else(|| answer.reason.as_deref().map(Column::whole));
    fields.minutes = fields.minutes.or_else(|| answer.minutes.as_deref().map(Column::whole));
    let details = top.below("details").and_then(|mut section| {
        let query = section.required("query", "a SELECT of `key` and fields, for the keys in $1");
        section.finish();
        query
    });
    Some(Mapping {
        table: table?,
        kind: kind?,
        name,
        key: key?,
        store: store?,
        number,
        status: status?,
        fields,
        currency,
        items,
        extra,
        answer,
        details,
        details_zone,
        derived: None,
    })
}

fn kind(top: &mut Section<'_>) -> Option<SubjectKind> {
    let name = top.required("kind", "\"order\" or \"booking\"")?;
    let kind = SubjectKind::from_name(&name);
    if kind.is_none() {
        top.problem("kind", format!("`{name}` is neither \"order\" nor \"booking\""));
    }
    kind
}

fn store(top: &mut Section<'_>) -> Option<StoreRef> {
    if let Some(Value::Table(_)) = top.table.get("store") {
        let mut section = top.below("store")?;
        let constant = section.required("constant", "the id of the only store");
        section.finish();
        return constant.map(StoreRef::Constant);
    }
    top.required("store", "the column of the store's id, or { constant = \"1\" }")
        .map(StoreRef::Column)
}

fn status(top: &mut Section<'_>) -> Option<StatusWords> {
    if !top.table.contains_key("status") {
        top.known_keys.push("status");
        top.problem(
            "status",
            "is missing: the column of the status, and what its words mean",
        );
        return None;
    }
    let mut section = top.below("status")?;
    if !section.table.contains_key("column") {
        section.problem("column", "is missing: the column of the status");
    }
    let column = section.column("column");
    let mut seen: Vec<(String, &str)> = Vec::new();
    let mut words = Vec::new();
    for status in Status::ALL {
        let of_status = section.words(status.as_str());
        twice(&mut section, status.as_str(), &of_status, &mut seen);
        if !of_status.is_empty() {
            words.push((status, of_status));
        }
    }
    let hidden = section.words("hidden");
    twice(&mut section, "hidden", &hidden, &mut seen);
    section.finish();
    column.map(|column| StatusWords { column, words, hidden })
}

/// Reports each word of `words` that already has another meaning, and adds the words to `seen`. Only rejected and
/// cancelled may share a word.
fn twice(section: &mut Section<'_>, key: &'static str, words: &[String], seen: &mut Vec<(String, &str)>) {
    for word in words {
        let may = |other: &str| (other, key) == (Status::Rejected.as_str(), Status::Cancelled.as_str());
        if let Some((_, other)) = seen.iter().find(|(known, other)| known == word && !may(other)) {
            section.problem(key, format!("`{word}` stands at `{other}`, too"));
        }
        seen.push((word.clone(), key));
    }
}

fn constant_currency(section: &mut Section<'_>, code: &str) -> Option<CurrencyRef> {
    let currency = Currency::from_code(code).map(CurrencyRef::Constant);
    if currency.is_none() {
        section.problem(
            "currency",
            format!("`{code}` is no currency: write three letters, such as \"EUR\""),
        );
    }
    currency
}

fn fields(mut section: Section<'_>, zone: &str, is_zone_named: bool) -> (Fields, CurrencyRef) {
    let mut currency = CurrencyRef::Store;
    let total = section.column_or_table("total").and_then(|mut below| {
        if let Some(code) = below.text("currency") {
            currency = constant_currency(&mut below, &code).unwrap_or(CurrencyRef::Store);
        }
        if let Some(column) = below.column("currency_column") {
            currency = CurrencyRef::Column(column);
        }
        money(below)
    });
    let fields = Fields {
        customer_name: section.columns("customer_name"),
        phone: section.columns("phone"),
        address: section.columns("address"),
        comment: section.columns("comment"),
        persons: section.column("persons"),
        payment_method: section.column("payment_method"),
        paid: section.column_or_table("paid").and_then(paid),
        change_from: section.column_or_table("change_from").and_then(money),
        order_type: section.column_or_table("type").and_then(order_type),
        total,
        due_at: section
            .column_or_table("due_at")
            .and_then(|below| time(below, zone, is_zone_named)),
        created_at: section
            .column_or_table("created_at")
            .and_then(|below| time(below, zone, is_zone_named)),
        deleted_at: section.column("deleted_at"),
        reason: section.column("reason"),
        minutes: section.column("minutes"),
    };
    section.finish();
    (fields, currency)
}

fn money(mut section: Section<'_>) -> Option<MoneyColumn> {
    let column = section.column("column");
    let unit = section.unit();
    section.finish();
    column.map(|column| MoneyColumn { column, unit })
}

fn paid(mut section: Section<'_>) -> Option<PaidWords> {
    let column = section.column("column");
    let words = section.words("words");
    section.finish();
    column.map(|column| PaidWords { column, words })
}

fn time(mut section: Section<'_>, usual_zone: &str, is_zone_named: bool) -> Option<TimeColumn> {
    let column = section.column("column");
    let is_zone_named = is_zone_named || section.table.contains_key("zone");
    let zone = section.zone(usual_zone);
    section.finish();
    column.map(|column| TimeColumn {
        column,
        zone,
        is_zone_named,
    })
}

fn order_type(mut section: Section<'_>) -> Option<TypeWords> {
    let column = section.column("column");
    let [delivery, pickup, dine_in] = ["delivery", "pickup", "dine_in"].map(|key| section.words(key));
    section.finish();
    column.map(|column| TypeWords {
        column,
        delivery,
        pickup,
        dine_in,
    })
}

fn items(mut section: Section<'_>) -> Option<Items> {
    let (table, order_key, column) = (
        section.text("table"),
        section.text("order_key"),
        section.column("column"),
    );
    let from = match (table, order_key, column) {
        (None, None, Some(column)) => Some(ItemsRef::Column(column)),
        (Some(table), Some(order_key), None) => Some(ItemsRef::Table { table, order_key }),
        (Some(_), None, _) => {
            section.problem(
                "order_key",
                "is missing: the column of the items' table that holds the order's key",
            );
            None
        }
        _ => {
            section.problem(
                "column",
                "is missing: either the JSON `column` of the items, or their `table` and `order_key`",
            );
            None
        }
    };
    let price = section.column_or_table("price").and_then(money);
    let items = Items {
        from: from.unwrap_or(ItemsRef::Column(Column::whole("items"))),
        name: section.column("name"),
        quantity: section.column("quantity"),
        unit: section.unit().or(price.as_ref().and_then(|price| price.unit)),
        price: price.map(|price| price.column),
        note: section.column("note"),
        options: section.column("options"),
        category: section.column("category"),
        deleted_at: section.column("deleted_at"),
    };
    section.finish();
    Some(items)
}

fn extra(mut section: Section<'_>) -> Vec<(String, Column)> {
    let mut extra = Vec::new();
    for (label, value) in std::mem::take(&mut section.table) {
        match value.as_str().and_then(column) {
            Some(column) => extra.push((label, column)),
            None => section.problem(&label, "is a column"),
        }
    }
    extra
}

fn answer(mut section: Section<'_>, usual_zone: &str) -> Answer {
    let url = section.address("url");
    let written = ["function", "updated_at", "accepted_at", "version"];
    if let Some(other) = written
        .iter()
        .find(|other| url.is_some() && section.table.contains_key(**other))
    {
        section.problem(
            "url",
            format!("excludes `{other}`: where the shop's API gets the request, Vestnik writes nothing"),
        );
    }
    let answer = Answer {
        url,
        updated_at: section.text("updated_at"),
        accepted_at: section.text("accepted_at"),
        reason: section.text("reason"),
        minutes: section.text("minutes"),
        version: section.text("version"),
        function: section.text("function"),
        zone: section.zone(usual_zone),
    };
    section.finish();
    answer
}
