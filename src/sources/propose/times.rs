//! Finds the columns of the wished time and of the creation time, and those that hold only a part of a time.

use super::columns::{Columns, is_moment, is_text};
use super::synonyms::{self, underscored};
use super::{Draft, label};
use crate::domain::status::SubjectKind;
use crate::infra::db::GenericClient;
use crate::sources::catalog::{self, Table, TableColumn};
use crate::sources::sql::ident;

/// Finds the columns of the wished time and of the creation time, and adds them to the draft of the proposal. If a time
/// has no zone and the database writes it, adds a question.
pub(super) async fn find(
    client: &impl GenericClient,
    columns: &mut Columns<'_>,
    kind: SubjectKind,
    draft: &mut Draft,
) -> Result<(), catalog::Error> {
    let zone: String = client
        .query_one("select current_setting('TimeZone')", &[])
        .await?
        .try_get(0)?;
    let zone_is_utc = matches!(zone.as_str(), "UTC" | "Etc/UTC" | "GMT" | "Etc/UCT" | "UCT" | "Zulu");
    let due = match kind {
        SubjectKind::Order => columns.take(synonyms::DUE, is_moment),
        SubjectKind::Booking => columns
            .take(synonyms::STARTS, is_moment)
            .or_else(|| columns.take(synonyms::DUE, is_moment)),
    };
    let created = columns.take(synonyms::CREATED, is_moment);
    for (key, column) in [("due_at", due), ("created_at", created)] {
        let Some(column) = column else { continue };
        let is_naive = column.base.contains("without");
        let by_database = column.default.as_deref().is_some_and(is_now);
        let says_utc = synonyms::ZONES
            .iter()
            .any(|suffix| underscored(&column.name).ends_with(suffix));
        if is_naive && by_database && !zone_is_utc && !says_utc {
            draft.ask(
                key,
                format!(
                    "{} says no time zone: is it UTC, as most frameworks write, or {zone}, as its default in this database writes?",
                    column.name
                ),
            );
        }
        draft.times.push((key, column.name.clone(), None));
    }
    Ok(())
}

/// Makes the columns that hold only a part of a time extra fields. A text such as `18:00-19:00`, or a time without a date,
/// cannot be read as a time. A date without a time would be midnight: an order would be late all day.
pub(super) fn parts(table: &Table, columns: &mut Columns<'_>, kind: SubjectKind, draft: &mut Draft) {
    let is_date_or_time = |column: &TableColumn| column.base == "date" || column.base.starts_with("time ");
    let mut parts = columns.all(synonyms::DUE, |column| is_text(column) || is_date_or_time(column));
    let has = |key: &str| draft.times.iter().any(|(known, ..)| *known == key);
    if !has("due_at") {
        if kind == SubjectKind::Booking {
            parts.extend(columns.all(synonyms::STARTS, is_date_or_time));
            parts.extend(columns.all(synonyms::BOOKED, is_date_or_time));
        }
        draft.notes = due_in_two_columns(table, &parts, draft.key.as_deref());
    }
    if !has("created_at") {
        parts.extend(columns.all(synonyms::CREATED, is_date_or_time));
    }
    for column in parts {
        draft.extra.push((label(&column.name), column.name.clone()));
    }
}

/// The lines that say how to map a wished time whose date and time of day stand in two of the columns `parts`. Empty: they
/// do not.
fn due_in_two_columns(table: &Table, parts: &[&TableColumn], key: Option<&str>) -> Vec<String> {
    let part = |base: &str| parts.iter().find(|column| column.base.starts_with(base));
    let key = key.and_then(|key| table.column(key));
    let (Some(date), Some(time), Some(key)) = (part("date"), part("time "), key) else {
        return Vec::new();
    };
    vec![
        format!(
            "due_at: the date stands in {} and the time in {}. Delete both under [extra], and write at the end, with your time zone:",
            date.name, time.name
        ),
        "[details]".to_owned(),
        format!(
            "query = '''select {id}::text as key, ({} + {}) at time zone 'Europe/Paris' as due_at from {} where {id} = any ($1::text[]::{}[])'''",
            ident(&date.name),
            ident(&time.name),
            table.quoted,
            key.kind,
            id = ident(&key.name)
        ),
    ]
}

fn is_now(default: &str) -> bool {
    let default = default.to_lowercase();
    ["now()", "current_timestamp", "localtimestamp", "clock_timestamp()"]
        .iter()
        .any(|now| default.starts_with(now))
}
