//! Explains common errors of Postgres about a mapping's SQL: the text says what to write instead.

use tokio_postgres::error::SqlState;

use crate::infra::db;

/// What kind of SQL of the mapping is wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// An expression or a query that reads the shop's row as `o`.
    OfRow,
    /// A statement of its own, which has no row `o`: a `keys` query, or a statement that saves a person's answer.
    Statement,
}

/// The text of Postgres' error about an expression of the mapping. For a common mistake, the text also says what to
/// write instead.
pub(super) fn reason(error: &tokio_postgres::Error, sql: &str) -> String {
    with_remedy(error, sql, Kind::OfRow)
}

/// The text of Postgres' error about a statement of the mapping, as [`reason`] gives it about an expression.
pub(super) fn of_statement(error: &tokio_postgres::Error, sql: &str) -> String {
    with_remedy(error, sql, Kind::Statement)
}

fn with_remedy(error: &tokio_postgres::Error, sql: &str, kind: Kind) -> String {
    let reason = without_wrapper(&db::reason(error), sql);
    let (Some(code), Some(db)) = (error.code(), error.as_db_error()) else {
        return reason;
    };
    match remedy(code, db.message(), sql, kind) {
        Some(remedy) => format!("{}: {remedy}", reason.trim_end_matches('.')),
        None => reason,
    }
}

/// Rewrites a syntax error at `as` or at a parenthesis that Vestnik added after the mapping's SQL. The person who wrote
/// the mapping does not know these additions, so the text names the end of the SQL instead.
fn without_wrapper(reason: &str, sql: &str) -> String {
    let end = "syntax error at its end: a parenthesis, a quote or an END is missing or too many";
    let reason = reason.replace("syntax error at or near \"as\"", end);
    match sql.matches('(').count() >= sql.matches(')').count() {
        true => reason.replace("syntax error at or near \")\"", end),
        false => reason,
    }
}

fn remedy(code: &SqlState, message: &str, sql: &str, kind: Kind) -> Option<String> {
    match *code {
        SqlState::UNDEFINED_COLUMN => {
            let name = message.strip_prefix("column ")?.strip_suffix(" does not exist")?;
            let bare = name.trim_matches('"');
            let (alias, column) = bare.rsplit_once('.').unwrap_or(("", bare));
            let written = as_written(sql, column)?;
            let in_mixed_case = written != column && written.chars().any(char::is_lowercase);
            match (alias, written != column) {
                ("", _) if kind == Kind::Statement && in_mixed_case => Some(format!(
                    "a column in mixed case is quoted, `\"{written}\"`, and a text stands in quotes, `'{written}'`"
                )),
                ("", _) if kind == Kind::Statement => Some(format!(
                    "no table of the statement has this column, and a text stands in quotes, `'{written}'`"
                )),
                ("", _) if in_mixed_case => Some(format!(
                    "a column in mixed case is quoted, `o.\"{written}\"`, and a text stands in quotes, `'{written}'`"
                )),
                ("", _) => Some(format!(
                    "a text stands in quotes, `'{written}'`, and a column of the row is `o.{column}`"
                )),
                (alias, true) => Some(format!("a name in mixed case is quoted: `{alias}.\"{written}\"`")),
                (_, false) => None,
            }
        }
        SqlState::UNDEFINED_TABLE => {
            let name = message.strip_prefix("relation \"")?.strip_suffix("\" does not exist")?;
            let written = as_written(sql, name)?;
            (written != name).then(|| format!("a name in mixed case is quoted: `\"{written}\"`"))
        }
        SqlState::AMBIGUOUS_COLUMN => {
            let name = message
                .strip_prefix("column reference \"")?
                .strip_suffix("\" is ambiguous")?;
            Some(match kind {
                Kind::OfRow => format!("write `o.{name}` for the column of the row, or the alias of the joined table"),
                Kind::Statement => format!("write the name or the alias of its table before it, as in `t.{name}`"),
            })
        }
        SqlState::UNDEFINED_FUNCTION => {
            let types = message.strip_prefix("operator does not exist: ")?;
            let mut words = types.split(' ');
            let (one, other) = (words.next()?, words.next_back()?);
            let number = if one == "text" { other } else { one };
            let is_text = one == "text" || other == "text";
            Some(match is_text && sql.contains('$') {
                // The values of a watched table come together, as one array.
                true if sql.contains("any ($1)") || sql.contains("any($1)") => {
                    format!("`$1` is an array of texts: write `any ($1::{}[])`", short(number))
                }
                true => format!("the parameters are texts: write `$1::{}`", short(number)),
                // A cast to `character` alone keeps one character.
                false if types.contains("character") => {
                    "the two sides have different types: write `::text` behind both of them".to_owned()
                }
                false => format!(
                    "the two sides have different types: write `::{}` behind one of them",
                    short(number)
                ),
            })
        }
        SqlState::INVALID_TABLE_DEFINITION if message.ends_with("has pseudo-type record") => Some(
            "an expression gives one value: join several with `||`, such as `o.street || ', ' || o.house`, or use concat_ws".to_owned(),
        ),
        _ => None,
    }
}

/// The usual short name of an SQL type, such as `int` for `integer`.
fn short(kind: &str) -> &str {
    match kind {
        "integer" => "int",
        kind => kind,
    }
}

/// Finds the first unquoted word in `sql` that Postgres converts to the lower-case `name`. Returns the word as `sql`
/// spells it, for example `orderId` for `orderid`.
fn as_written<'a>(sql: &'a str, name: &str) -> Option<&'a str> {
    let is_letter = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    let outside = sql.split('\'').step_by(2).flat_map(|part| part.split('"').step_by(2));
    let mut words = outside.flat_map(|part| part.split(move |c| !is_letter(c)));
    words.find(|word| word.to_lowercase() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_usual_mistake_is_told_with_what_to_write() {
        let told =
            |code: SqlState, message: &str, sql: &str| remedy(&code, message, sql, Kind::OfRow).unwrap_or_default();
        let column = |message: &str, sql: &str| told(SqlState::UNDEFINED_COLUMN, message, sql);
        assert_eq!(
            column("column \"eur\" does not exist", "EUR"),
            "a text stands in quotes, `'EUR'`, and a column of the row is `o.eur`"
        );
        assert_eq!(
            column("column o.orderstatusid does not exist", "o.OrderStatusId = 10"),
            "a name in mixed case is quoted: `o.\"OrderStatusId\"`"
        );
        assert_eq!(column("column o.phone does not exist", "o.phone"), "");
        assert_eq!(
            told(
                SqlState::UNDEFINED_TABLE,
                "relation \"booking\" does not exist",
                "update Booking set status = 'booking'"
            ),
            "a name in mixed case is quoted: `\"Booking\"`"
        );
        assert_eq!(
            told(
                SqlState::AMBIGUOUS_COLUMN,
                "column reference \"company_id\" is ambiguous",
                "company_id"
            ),
            "write `o.company_id` for the column of the row, or the alias of the joined table"
        );
        assert_eq!(
            told(
                SqlState::UNDEFINED_FUNCTION,
                "operator does not exist: integer = text",
                "update t set a = 1 where id = $1"
            ),
            "the parameters are texts: write `$1::int`"
        );
        assert_eq!(
            told(
                SqlState::UNDEFINED_FUNCTION,
                "operator does not exist: integer = text",
                "select id from orders where address_id = any ($1)"
            ),
            "`$1` is an array of texts: write `any ($1::int[])`"
        );
        assert_eq!(
            told(
                SqlState::UNDEFINED_FUNCTION,
                "operator does not exist: character = uuid",
                "select 1 from ticket t where t.order_id = o.id::uuid"
            ),
            "the two sides have different types: write `::text` behind both of them"
        );
    }

    #[test]
    fn a_statement_is_not_told_of_a_row_that_it_does_not_have() {
        let told =
            |code: SqlState, message: &str, sql: &str| remedy(&code, message, sql, Kind::Statement).unwrap_or_default();
        for (message, sql, says) in [
            (
                "column \"state\" does not exist",
                "update purchase set shop = 1 where state = 'new'",
                "no table of the statement has this column, and a text stands in quotes, `'state'`",
            ),
            (
                "column \"orderid\" does not exist",
                "delete from lines where orderId = 1",
                "a column in mixed case is quoted, `\"orderId\"`, and a text stands in quotes, `'orderId'`",
            ),
        ] {
            assert_eq!(told(SqlState::UNDEFINED_COLUMN, message, sql), says);
        }
        assert_eq!(
            told(
                SqlState::AMBIGUOUS_COLUMN,
                "column reference \"id\" is ambiguous",
                "update a set n = 1 from b where id = 1"
            ),
            "write the name or the alias of its table before it, as in `t.id`"
        );
    }
}
