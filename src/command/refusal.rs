//! The errors of commands that attach a table or read its mapping: what happened, and what a person can do.

use tokio_postgres::error::SqlState;

use super::Usage;
use crate::sources::attach;
use crate::sources::catalog::{self, Table};

/// Converts an error of [`Table::find`] into the command's error. A missing or unsuitable table counts as wrong usage
/// of the command, but a failed query does not.
pub fn refusal(error: catalog::Error) -> anyhow::Error {
    match error {
        catalog::Error::NoTable(problem) => Usage(problem.to_string()).into(),
        catalog::Error::Failed(error) => error.into(),
    }
}

pub fn wrong_mapping(error: attach::Error) -> anyhow::Error {
    match error {
        attach::Error::Mapping(_)
        | attach::Error::Unfit { .. }
        | attach::Error::ForeignOwner { .. }
        | attach::Error::NameTaken(_)
        | attach::Error::Unknown(_) => Usage(error.to_string()).into(),
        other => other.into(),
    }
}

/// Returns the error of a failed attach. If a right is missing, the error names the right and the role that needs it.
pub async fn not_attached(client: &tokio_postgres::Client, error: attach::Error) -> anyhow::Error {
    let attach::Error::Postgres(denied) = &error else {
        return wrong_mapping(error);
    };
    if denied.code() != Some(&SqlState::INSUFFICIENT_PRIVILEGE) {
        return wrong_mapping(error);
    }
    let role = client.query_one("select quote_ident(current_user)", &[]).await;
    let role: String = role
        .and_then(|row| row.try_get(0))
        .unwrap_or_else(|_| "this role".to_owned());
    let message = denied.as_db_error().map(|db| db.message()).unwrap_or_default();
    let name = message.rsplit(' ').next().unwrap_or_default();
    let remedy = match message.split(" for ").nth(1).and_then(|of| of.split(' ').next()) {
        Some("schema") if name == "vestnik" => format!("grant usage, create on schema vestnik to {role}"),
        Some("schema") => format!("grant usage on schema {name} to {role}"),
        Some("table") if name.starts_with("vst_") => {
            format!("grant select, insert, update, delete on all tables in schema vestnik to {role}")
        }
        Some("table" | "view") => format!("grant select, trigger on {name} to {role}"),
        Some("function") => format!("grant execute on function {name} to {role}"),
        _ => format!(
            "run the command as the role that attached the source or owns {name}, or: grant THAT_ROLE to {role}"
        ),
    };
    Usage(format!("{error}, as role {role}: {remedy}")).into()
}

/// Returns the error for a mapping with expressions that fail for the table's newest rows.
pub fn unfit(table: &Table, problems: Vec<String>) -> anyhow::Error {
    let table = table.quoted.clone();
    wrong_mapping(attach::Error::Unfit { table, problems })
}
