//! Finds the customer's name, telephone number and address in a JSON column such as `customer`, by what the newest rows
//! hold.

use super::Draft;
use super::columns::{Columns, is_json};
use super::synonyms::underscored;
use crate::infra::db::GenericClient;
use crate::sources::catalog::{self, Table, TableColumn};
use crate::sources::json::{Json, member};
use crate::sources::sql::ident;

/// Maximum number of the newest rows that are examined.
const NEWEST_ROWS: usize = 20;
/// Maximum size of a value that is examined, bytes as Postgres stores it.
const VALUE_BYTES: usize = 64 * 1024;

/// Names of JSON columns that describe the customer.
const CUSTOMERS: &[&str] = &[
    "customer", "customer_info", "customer_data", "customer_details", "customer_contact", "client", "client_info", "client_data", "contact",
    "contact_info", "contact_details", "contacts", "guest", "guest_info", "buyer", "buyer_info", "recipient", "receiver", "user_info", "user_data",
    "клиент", "покупатель", "получатель", "контакты",
];
/// The names of members for each field. A field with two lists needs both of them, such as the first and the last name.
const MEMBERS: &[(&str, &[&[&str]])] = &[
    ("customer_name", &[&["name", "full_name", "customer_name", "client_name", "имя", "фио"]]),
    (
        "customer_name",
        &[&["first_name", "firstname", "given_name"], &["last_name", "lastname", "surname", "family_name"]],
    ),
    (
        "phone",
        &[&["phone", "phone_number", "telephone", "tel", "mobile", "mobile_phone", "contact_phone", "телефон"]],
    ),
    (
        "address",
        &[&["address", "delivery_address", "shipping_address", "full_address", "адрес"]],
    ),
];

/// Finds the fields of the customer that no column has in JSON columns. Adds them to the draft of the proposal, each as
/// a guess.
pub(super) async fn find(
    client: &impl GenericClient,
    table: &Table,
    columns: &mut Columns<'_>,
    draft: &mut Draft,
) -> Result<(), catalog::Error> {
    let mut seen: Vec<&TableColumn> = Vec::new();
    while let Some(column) = columns.peek(CUSTOMERS, |column| {
        is_json(column) && seen.iter().all(|known| known.name != column.name)
    }) {
        seen.push(column);
        let values = newest(client, table, column, draft).await?;
        let before = draft.members.len();
        for (field, lists) in MEMBERS {
            let has = draft.fields.iter().any(|(key, _)| key == field)
                || draft.members.iter().any(|(key, _)| key == field);
            if !has && let Some(members) = members_of(&values, lists) {
                let found = members.into_iter().map(|member| (column.name.clone(), member));
                draft.members.push((field, found.collect()));
            }
        }
        let found: Vec<&str> = draft.members[before..].iter().map(|(field, _)| *field).collect();
        if let Some(first) = found.first() {
            let guess = format!("the newest values of {} have {}", column.name, found.join(", "));
            draft.guess(first, guess);
            columns.use_named(&column.name);
        }
    }
    Ok(())
}

/// The newest values of a JSON column that are not null.
async fn newest(
    client: &impl GenericClient,
    table: &Table,
    column: &TableColumn,
    draft: &Draft,
) -> Result<Vec<String>, catalog::Error> {
    let name = ident(&column.name);
    let order = draft
        .key
        .as_ref()
        .map_or_else(String::new, |key| format!("order by {} desc", ident(key)));
    let sql = format!(
        "select value::text from (select {name} as value from {} where {name} is not null {order} limit {NEWEST_ROWS}) newest \
         where pg_column_size(value) <= {VALUE_BYTES}",
        table.quoted
    );
    let rows = client.query(&sql, &[]).await?;
    let values = rows.iter().map(|row| row.try_get(0));
    Ok(values.collect::<Result<_, tokio_postgres::Error>>()?)
}

/// The members that most values have, one for each list of names. `None`: there is a list of which they have no member.
fn members_of(values: &[String], lists: &[&[&str]]) -> Option<Vec<String>> {
    let of_list = |names: &&[&str]| {
        let mut counted: Vec<(String, usize)> = Vec::new();
        for value in values {
            let mut held = String::new();
            let Json::Object(members) = Json::read_encoded_twice(value, &mut held) else {
                continue;
            };
            let is_named = |name: &&&str| members.iter().any(|(known, _)| underscored(known) == **name);
            let named = names.iter().find(is_named);
            let known = members.iter().find(|(known, _)| named.is_some_and(|name| underscored(known) == *name));
            let Some((name, _)) = known.filter(|(name, _)| is_usable(&members, name)) else {
                continue;
            };
            match counted.iter_mut().find(|(known, _)| known == name) {
                Some((_, count)) => *count += 1,
                None => counted.push((name.clone(), 1)),
            }
        }
        let most = counted.into_iter().max_by_key(|(_, count)| *count);
        most.filter(|(_, count)| count * 2 > values.len()).map(|(name, _)| name)
    };
    lists.iter().map(of_list).collect()
}

/// Whether a mapping can name this member, and whether it has a value.
fn is_usable(members: &[(String, &str)], name: &str) -> bool {
    let is_word = name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-'));
    is_word && member(members, name).is_some_and(|value| Json::read(value).readable().is_some())
}
