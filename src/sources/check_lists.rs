//! Reads the words that CHECK constraints list for a column. Postgres reads a constraint only under a lock on the
//! table.

use super::catalog::{Table, TableColumn};
use crate::infra::db::GenericClient;

/// The words or numbers that the CHECK constraints of the column, and of its domain, list. Empty: no constraint lists
/// any.
pub(super) async fn words(
    client: &impl GenericClient,
    table: &Table,
    column: &TableColumn,
) -> Result<Vec<String>, tokio_postgres::Error> {
    const CHECKS: &str = "select pg_get_constraintdef(c.oid) from pg_constraint c \
         join pg_attribute a on a.attrelid = c.conrelid and a.attnum = any (c.conkey) \
         where c.conrelid = $1 and c.contype = 'c' and a.attname = $2 and cardinality(c.conkey) = 1 \
         union all \
         (with recursive domain (type) as ( \
             select atttypid from pg_attribute where attrelid = $1 and attname = $2 \
             union all select t.typbasetype from domain d join pg_type t on t.oid = d.type where t.typtype = 'd') \
          select pg_get_constraintdef(c.oid) from domain d join pg_constraint c on c.contypid = d.type where c.contype = 'c')";
    let mut words = Vec::new();
    for row in client.query(CHECKS, &[&table.oid, &column.name]).await? {
        words.extend(listed_words(row.try_get(0)?));
    }
    Ok(words)
}

/// The words or numbers that a CHECK constraint lists. Example of `check`:
/// `CHECK ((status = ANY (ARRAY['new'::text, 'done'::text])))`.
fn listed_words(check: &str) -> Vec<String> {
    // A CHECK constraint with a range or a pattern does not list words.
    if [" ~", ">", "<", " LIKE ", "length("]
        .iter()
        .any(|part| check.contains(part))
    {
        return Vec::new();
    }
    let mut words = Vec::new();
    let mut rest = check;
    while let Some((_, behind)) = rest.split_once('\'') {
        let Some((word, after)) = behind.split_once('\'') else {
            break;
        };
        words.push(word.to_owned());
        rest = after;
    }
    if words.is_empty() {
        let numbers = check
            .split(|c: char| !c.is_alphanumeric() && c != '_' && c != '-')
            .filter(|part| part.parse::<i64>().is_ok());
        words.extend(numbers.map(str::to_owned));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_lists_its_words() {
        for (check, words) in [
            (
                "CHECK ((status = ANY (ARRAY['new'::text, 'in work'::text])))",
                vec!["new", "in work"],
            ),
            (
                "CHECK (((state)::text = ANY ((ARRAY['a'::character varying, 'b'::character varying])::text[])))",
                vec!["a", "b"],
            ),
            ("CHECK ((status = ANY (ARRAY[10, 20, 30])))", vec!["10", "20", "30"]),
            ("CHECK ((state2 = ANY (ARRAY[1, 2, 4])))", vec!["1", "2", "4"]),
            ("CHECK ((total > 0))", vec![]),
        ] {
            assert_eq!(listed_words(check), words, "{check}");
        }
    }
}
