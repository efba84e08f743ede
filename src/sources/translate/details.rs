//! Adds data to a translated order: the result of the mapping's `[details]` query.

use super::Row;
use crate::domain::Subject;
use crate::domain::money::minor_units;
use crate::domain::subject::{Extra, Unreadable, name_of_due_at};
use crate::sources::json::Json;
use crate::sources::yes_no::yes_or_no;
use crate::sources::{Source, address, items, zone};

/// Adds the result of the mapping's `[details]` query to an order. A column with the name of a field, such as `phone`,
/// sets this field. Any other column becomes an extra field.
pub(super) fn add(subject: &mut Subject, source: &Source, looked_up: &Row<'_>, unreadable: &mut Vec<Unreadable>) {
    if source.mapping.details.is_none() {
        return;
    }
    for (name, raw) in looked_up.columns.iter().flatten() {
        let mut held = String::new();
        let value = Json::read_encoded_twice(raw, &mut held);
        if name == "items" {
            if !source.has_items_table() && value != Json::Null {
                subject.items = items::read_canonical(raw, source.unit_of_items(), subject.currency);
            }
            continue;
        }
        let Some(text) = value.readable() else {
            if value.is_unreadable() {
                super::not_read::<()>("details", &format!("{name}: {raw}"), unreadable);
            }
            continue;
        };
        match name.as_str() {
            "key" => {}
            "number" => subject.number = text,
            "customer_name" => subject.customer_name = Some(text),
            "phone" => subject.phone = Some(text),
            "address" => subject.address = address::readable(value),
            "comment" => subject.comment = Some(text),
            "reason" => subject.reason = Some(text),
            "payment_method" => subject.payment.method = Some(text),
            "paid" => subject.payment.is_paid = yes_or_no(&text),
            "order_type" => subject.order_type = Some(super::canonical_order_type(text)),
            "persons" | "guests" => subject.persons = Some(items::quantity(&text)),
            "minutes" => subject.promised_minutes = text.parse().ok(),
            "total" => {
                let unit = source.unit_of_details(&text);
                subject.total =
                    minor_units(&text, unit, subject.currency).or_else(|| super::not_read("total", &text, unreadable));
            }
            "due_at" | "starts_at" => {
                let field = name_of_due_at(subject.kind);
                subject.due_at = zone::moment(&text, &source.mapping.details_zone)
                    .or_else(|| super::not_read(field, &text, unreadable));
            }
            _ => subject.extra.push(Extra {
                label: name.clone(),
                value: text,
            }),
        }
    }
}
