//! Translates the newest rows of a table into orders, and formats them as lines of text. The commands `vestnik attach`
//! and `vestnik source check` print the lines.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_postgres::{Client, IsolationLevel};

use super::catalog::{self, Table};
use super::lookup_failure;
use super::lookup_parts::Part;
use super::lookup_query::look_up;
use super::lookup_results::{LookupResult, Lookups};
use super::mapping::StoreRef;
use super::sql::{ident, literal};
use super::translate::{NamedCurrency, named_currency};
use super::{Context, Source};
use crate::domain::Subject;
use crate::domain::event::{StoreId, SubjectId};
use crate::domain::money::Currency;
use crate::domain::subject::{Quantity, Visibility};
use crate::domain::wire_time::WireTime;

/// An order as a client of the order's store would receive it.
#[derive(Debug)]
pub struct Preview {
    /// The id of the order's store; `None`: the row names no store, so no client would receive the order.
    pub store: Option<StoreId>,
    /// The translated order or booking.
    pub subject: Subject,
    /// Whether the mapping or the row names the currency of the row's amounts. The row may also contain an invalid
    /// currency code.
    pub currency: NamedCurrency,
    /// Whether a currency is set for the order's store.
    pub store_has_currency: bool,
}

/// Translates the newest rows of a table; `rows` is the maximum number of rows. If the look-up of items or details
/// fails, the orders come without them, and the second value has the reasons.
pub async fn newest(
    client: &mut Client,
    source: &Source,
    table: &Table,
    currencies: &HashMap<StoreId, Currency>,
    rows: i64,
) -> Result<(Vec<Preview>, Vec<String>), catalog::Error> {
    let mapping = &source.mapping;
    let newest = match mapping
        .fields
        .created_at
        .as_ref()
        .filter(|created| created.column.path.is_empty())
    {
        Some(created) if table.column(&created.column.name).is_some() => ident(&created.column.name),
        _ => ident(&mapping.key),
    };
    let store = match &mapping.store {
        StoreRef::Column(name) => format!("t.{}::text", ident(name)),
        StoreRef::Constant(store) => literal(store),
    };
    let sql = format!(
        "select vestnik.vst_readable({store}), vestnik.vst_readable(t.{}::text), \
             vestnik.vst_readable({})::text \
         from {} t order by t.{newest} desc nulls last, t.{key} desc limit $1",
        ident(&mapping.key),
        table.columns_json(mapping.recorded_columns()),
        table.quoted,
        key = ident(&mapping.key),
    );
    let transaction = client
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .await?;
    let rows = transaction.query(&sql, &[&rows]).await?;
    let mut found = Vec::with_capacity(rows.len());
    for row in &rows {
        let key: Option<String> = row.try_get(1)?;
        found.push((
            row.try_get::<_, Option<&str>>(0)?.map(StoreId::new),
            key.unwrap_or_default(),
            row.try_get::<_, String>(2)?,
        ));
    }
    let keys: Vec<Arc<str>> = found.iter().map(|(_, key, _)| key.as_str().into()).collect();
    let mut lookups = Lookups::default();
    let looked_up = look_up(&transaction, source, &keys, source.parts()).await?;
    let mut failures = Vec::new();
    for failed in lookups.extend(source.id, looked_up) {
        let place = match failed.part {
            Part::Items => "items",
            Part::Details => "details.query",
        };
        let reason = lookup_failure::reason(&transaction, &failed.error).await?;
        failures.push(match failed.first_key() {
            Some(key) => format!("{place}: {reason}, first for the order with key {key}"),
            None => format!("{place}: {reason}"),
        });
    }
    transaction.commit().await?;
    let preview = |(store, key, data): (Option<StoreId>, String, String)| {
        let known = store.as_ref().and_then(|store| currencies.get(store));
        let currency = known.copied().unwrap_or(Currency::DEFAULT);
        let id = SubjectId {
            source: source.id,
            key: key.as_str().into(),
        };
        let lookup: LookupResult<'_> = lookups.get(&id);
        Preview {
            subject: source.translate(&key, &data, Context { currency, lookup }),
            currency: named_currency(source, &data),
            store_has_currency: known.is_some(),
            store,
        }
    };
    let orders = found.into_iter().map(preview).collect();
    Ok((orders, failures))
}

/// Formats an order as lines of text for a person.
pub fn lines(preview: &Preview) -> Vec<String> {
    let it = &preview.subject;
    let status = match (&it.status_word, it.visibility) {
        (Some(word), _) => format!("{word} (not mapped: it rings)"),
        (None, Visibility::Visible) => it.status.as_str().to_owned(),
        (None, Visibility::Hidden) => "hidden: nobody sees it".to_owned(),
        (None, Visibility::Deleted) => "deleted: nobody sees it".to_owned(),
    };
    let store = preview
        .store
        .as_ref()
        .map_or("NONE: nobody receives it", StoreId::as_str);
    let money = |minor: i64| {
        let (digits, sign) = (usize::from(it.currency.digits()), if minor < 0 { "-" } else { "" });
        let text = format!("{:0>width$}", minor.unsigned_abs(), width = digits + 1);
        let (whole, fraction) = text.split_at(text.len() - digits);
        let point = if digits > 0 { "." } else { "" };
        format!("{sign}{whole}{point}{fraction} {}", it.currency)
    };
    let quantity = |quantity: &Quantity| match quantity.to_json() {
        serde_json::Value::String(words) => words,
        number => number.to_string(),
    };
    let mut lines = vec![format!(
        "{} #{} of store {store}: {status}",
        it.kind.as_str(),
        it.number
    )];
    let mut fact = |name: &str, value: Option<String>| lines.extend(value.map(|value| format!("  {name:<12} {value}")));
    fact("key", (*it.number != *it.id.key).then(|| it.id.key.to_string()));
    fact("type", it.order_type.as_ref().map(|it| it.as_str().to_owned()));
    fact("customer", it.customer_name.clone());
    fact("phone", it.phone.clone());
    fact("address", it.address.clone());
    fact("comment", it.comment.clone());
    fact("persons", it.persons.as_ref().map(quantity));
    let payment = [
        it.payment.method.clone(),
        it.payment
            .is_paid
            .map(|paid| if paid { "paid" } else { "not paid" }.to_owned()),
        it.payment
            .change_from
            .map(|from| format!("change from {}", money(from))),
    ];
    let payment: Vec<String> = payment.into_iter().flatten().collect();
    fact("payment", (!payment.is_empty()).then(|| payment.join(", ")));
    fact("total", it.total.map(money));
    fact("due", it.due_at.map(|at| WireTime(at).to_string()));
    fact("promised", it.promised_minutes.map(|minutes| format!("{minutes} min")));
    fact("created", it.created_at.map(|at| WireTime(at).to_string()));
    fact("reason", it.reason.clone());
    for extra in &it.extra {
        fact(&extra.label, Some(extra.value.clone()));
    }
    for item in &it.items.list {
        let options = if item.options.is_empty() {
            String::new()
        } else {
            format!(" + {}", item.options.join(", "))
        };
        let note = item.note.as_ref().map_or_else(String::new, |note| format!(" ({note})"));
        let category = item
            .category
            .as_ref()
            .map_or_else(String::new, |category| format!(" [{category}]"));
        let price = item
            .price
            .map_or_else(String::new, |price| format!(", {} each", money(price)));
        lines.push(format!(
            "  - {} x {}{options}{note}{category}{price}",
            quantity(&item.quantity),
            item.name
        ));
    }
    for unreadable in &it.unreadable {
        lines.push(format!("  ! {} cannot be read: {}", unreadable.field, unreadable.text));
    }
    lines
}
