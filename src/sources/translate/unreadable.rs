//! Finds the fields of a row whose text Vestnik could not read, so that people look at the shop's own page.

use super::{Row, TOO_LARGE, not_read};
use crate::domain::subject::{Unreadable, name_of_due_at, name_of_persons};
use crate::sources::Source;
use crate::sources::json::{Json, member};
use crate::sources::mapping::{Column, Items, ItemsRef};

/// The name of the field of the items. Their reading has rules of its own.
const ITEMS: &str = "items";

/// The fields that the trigger could not record, because the whole row was unreadable or a value was too large, and the
/// fields whose JSON has no text.
pub(super) fn problems(row: &Row<'_>, source: &Source) -> Vec<Unreadable> {
    let whole = |text: &str| {
        vec![Unreadable {
            field: source.mapping.kind.as_str(),
            text: text.to_owned(),
        }]
    };
    let Some(columns) = &row.columns else {
        return whole("");
    };
    if let Some(code) = member(columns, "vst_unreadable") {
        return whole(&Json::read(code).plain().unwrap_or_default());
    }
    let omitted = match member(columns, "vst_omitted").map(Json::read) {
        Some(Json::Array(omitted)) => omitted,
        _ => Vec::new(),
    };
    let omitted: Vec<String> = omitted
        .iter()
        .filter_map(|name| Some(Json::read(name).plain()?.into_owned()))
        .collect();
    let mut problems = Vec::new();
    for (field, column) in fields_of(source) {
        if omitted.contains(&column.name) {
            not_read::<()>(field, TOO_LARGE, &mut problems);
        } else if let Some(json) = without_text(row, column).filter(|_| field != ITEMS) {
            not_read::<()>(field, &json, &mut problems);
        }
    }
    problems
}

/// The JSON of a column that says something, but has no text for people, such as an array of objects. `None`: the
/// column can be read, or is empty.
fn without_text(row: &Row<'_>, column: &Column) -> Option<String> {
    let raw = row.raw(column)?;
    // Most columns hold plain values. They need no second parsing.
    if !raw
        .trim_start()
        .trim_start_matches('"')
        .trim_start()
        .starts_with(['{', '['])
    {
        return None;
    }
    let mut held = String::new();
    let is_unreadable = Json::read_encoded_twice(&raw, &mut held).is_unreadable();
    is_unreadable.then(|| if held.is_empty() { raw.into_owned() } else { held })
}

/// The name of each mapped field, as clients receive it, and its column.
fn fields_of(source: &Source) -> Vec<(&'static str, &Column)> {
    let mapping = &source.mapping;
    let fields = &mapping.fields;
    let texts = [
        ("customer_name", &fields.customer_name),
        ("phone", &fields.phone),
        ("address", &fields.address),
        ("comment", &fields.comment),
    ];
    let mut all: Vec<(&'static str, &Column)> = Vec::new();
    all.extend(
        texts
            .into_iter()
            .flat_map(|(field, columns)| columns.iter().map(move |column| (field, column))),
    );
    all.extend(mapping.number.iter().map(|column| ("number", column)));
    all.extend(
        fields
            .persons
            .iter()
            .map(|column| (name_of_persons(mapping.kind), column)),
    );
    all.extend(fields.payment_method.iter().map(|column| ("payment", column)));
    all.extend(fields.paid.iter().map(|words| ("payment", &words.column)));
    all.extend(fields.order_type.iter().map(|words| ("order_type", &words.column)));
    all.extend(fields.total.iter().map(|money| ("total", &money.column)));
    all.extend(
        fields
            .due_at
            .iter()
            .map(|time| (name_of_due_at(mapping.kind), &time.column)),
    );
    all.extend(fields.reason.iter().map(|column| ("reason", column)));
    all.extend(mapping.extra.iter().map(|(_, column)| ("extra", column)));
    if let Some(Items {
        from: ItemsRef::Column(column),
        ..
    }) = &mapping.items
    {
        all.push((ITEMS, column));
    }
    all
}
