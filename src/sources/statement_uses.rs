//! Finds the tables, functions and sequences that an SQL statement of a mapping names. The text is split into words and
//! not parsed, so a found name may belong to no object.

/// A table that an SQL statement uses, and the command that the statement runs on the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Use {
    /// The table's name as it is written in the statement.
    pub name: String,
    pub command: Command,
    pub columns: Columns,
}

/// The SQL command that a statement runs on a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    Select,
    Insert,
    Update,
    Delete,
}

impl Command {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Select => "select",
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// The columns of a table to which a command gives a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Columns {
    /// The statement's text does not show the columns.
    Unknown,
    /// The command needs all columns, also the system columns.
    All,
    /// The columns with these names, unquoted.
    Named(Vec<String>),
    /// The columns at these places of the table, counted from 1. The statement gives values for them without names.
    At(Vec<i32>),
}

/// A call of a function in an SQL statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call {
    /// The function's name as it is written in the statement.
    pub name: String,
    /// The number of arguments.
    pub arguments: i32,
}

/// The word that stands for a string literal.
const LITERAL: &str = "''";

/// The tables that an SQL statement uses, in the order of its text. A name in the result may belong to no table.
pub(super) fn uses(sql: &str) -> Vec<Use> {
    let words = words(sql);
    let mut uses: Vec<Use> = Vec::new();
    let mut add = |name: &str, command: Command, columns: Columns| {
        let named = Use {
            name: name.to_owned(),
            command,
            columns,
        };
        if !uses.contains(&named) {
            uses.push(named);
        }
    };
    let word = |at: usize| words.get(at).map(String::as_str).unwrap_or_default();
    let mut written = "";
    for (at, keyword) in words.iter().enumerate() {
        let before = at.checked_sub(1).map(word).unwrap_or_default();
        let named_at = if word(at + 1) == "only" { at + 2 } else { at + 1 };
        let name = word(named_at);
        // `on conflict do update set`, and `when matched then update set` of MERGE, name no table.
        if keyword == "update" && matches!(before, "do" | "then") {
            add(written, Command::Update, set_columns(&words[at..]));
            add(written, Command::Select, Columns::Unknown);
            continue;
        }
        if !is_name(name) || name.split('.').count() > 2 {
            continue;
        }
        match keyword.as_str() {
            "update" if before != "for" => {
                add(name, Command::Update, set_columns(&words[named_at..]));
                add(name, Command::Select, Columns::Unknown);
            }
            "into" => {
                written = name;
                match before {
                    "merge" => add(name, Command::Select, Columns::Unknown),
                    _ => add(name, Command::Insert, inserted_columns(&words[named_at + 1..])),
                }
            }
            "from" if before == "delete" => {
                add(name, Command::Delete, Columns::Unknown);
                add(name, Command::Select, Columns::Unknown);
            }
            "from" | "join" | "using" => add(name, Command::Select, Columns::Unknown),
            _ => {}
        }
    }
    uses
}

/// The names of the tables that the SQL query `sql` reads. A name in the result may belong to no table.
pub(super) fn tables(sql: &str) -> Vec<String> {
    let mut tables = Vec::new();
    for Use { name, command, .. } in uses(sql) {
        let is_whole = name.split('.').all(|part| !part.is_empty());
        if command == Command::Select && is_whole && !tables.contains(&name) {
            tables.push(name);
        }
    }
    tables
}

/// The functions that an SQL statement calls, in the order of its text. A name in the result may belong to no function.
pub(super) fn calls(sql: &str) -> Vec<Call> {
    let words = words(sql);
    let mut calls = Vec::new();
    for (at, name) in words.iter().enumerate() {
        let before = at.checked_sub(1).map(|at| words[at].as_str()).unwrap_or_default();
        let is_call = is_name(name) && words.get(at + 1).is_some_and(|next| next == "(");
        if !is_call || matches!(before, "into" | "update" | "only" | "as") {
            continue;
        }
        let arguments = list(&words[at + 1..]);
        let is_empty = arguments.len() == 1 && arguments[0].is_empty();
        let call = Call {
            name: name.clone(),
            arguments: if is_empty { 0 } else { count(arguments.len()) },
        };
        if !calls.contains(&call) {
            calls.push(call);
        }
    }
    calls
}

/// The names of the sequences from which an SQL statement takes numbers with `nextval('NAME')` or reads the last one
/// with `currval('NAME')`.
pub(super) fn sequences(sql: &str) -> Vec<String> {
    let lower = sql.to_ascii_lowercase();
    let mut named = Vec::new();
    for function in ["nextval", "currval"] {
        for (at, _) in lower.match_indices(function) {
            let behind = sql[at + function.len()..].trim_start().strip_prefix('(');
            let name = behind.and_then(|behind| behind.trim_start().strip_prefix('\''));
            let name = name.and_then(|name| name.split('\'').next()).map(str::to_owned);
            named.extend(name.filter(|name| !named.contains(name)));
        }
    }
    named
}

/// Whether a word can be the name of a table or a function.
fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_alphabetic() || c == '_' || c == '"')
}

/// A column's name without its quotes.
fn unquoted(name: &str) -> String {
    name.trim_matches('"').replace("\"\"", "\"")
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// The parts of a list in parentheses, which are separated by commas. `words` begins with the opening parenthesis.
fn list(words: &[String]) -> Vec<&[String]> {
    let (mut depth, mut start, mut parts) = (0_usize, 1, Vec::new());
    for (at, word) in words.iter().enumerate() {
        match word.as_str() {
            "(" | "[" => depth += 1,
            ")" | "]" => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    parts.push(&words[start..at]);
                    return parts;
                }
            }
            "," if depth == 1 => {
                parts.push(&words[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts
}

/// The columns that the SET clause of an UPDATE changes. `words` begins before the word `set`.
fn set_columns(words: &[String]) -> Columns {
    let Some(set) = words.iter().position(|word| word == "set") else {
        return Columns::Unknown;
    };
    let (mut depth, mut is_target, mut named) = (0_usize, true, Vec::new());
    for (at, word) in words.iter().enumerate().skip(set + 1) {
        match word.as_str() {
            "(" if is_target && depth == 0 => {
                let columns = list(&words[at..]).into_iter().filter_map(<[String]>::first);
                named.extend(columns.map(|name| unquoted(name)));
                is_target = false;
                depth += 1;
            }
            "(" | "[" => depth += 1,
            ")" | "]" if depth == 0 => break,
            ")" | "]" => depth -= 1,
            "from" | "where" | "returning" | "when" if depth == 0 => break,
            "," if depth == 0 => is_target = true,
            name if is_target && is_name(name) => {
                named.push(unquoted(name));
                is_target = false;
            }
            _ => {}
        }
    }
    Columns::Named(named)
}

/// The columns to which an INSERT gives a value. A column with the word DEFAULT gets no value. `words` begins behind
/// the table's name.
fn inserted_columns(words: &[String]) -> Columns {
    let mut rest = words;
    // An alias, and `overriding system value`, may stand before the values.
    while let Some((word, behind)) = rest.split_first() {
        if matches!(word.as_str(), "(" | "values" | "select" | "with" | "default") {
            break;
        }
        rest = behind;
    }
    let Some(first) = rest.first() else {
        return Columns::Unknown;
    };
    let names: Option<Vec<String>> = (first == "(").then(|| {
        let columns = list(rest).into_iter().filter_map(<[String]>::first);
        columns.map(|name| unquoted(name)).collect()
    });
    if first == "default" {
        return Columns::Named(Vec::new());
    }
    let values = rest.iter().position(|word| word == "values");
    let selects = rest.iter().position(|word| word == "select");
    let values = values.filter(|values| selects.is_none_or(|select| *values < select));
    let given: Option<Vec<bool>> = values.map(|at| {
        let row = list(&rest[at + 1..]);
        row.iter()
            .map(|value| !matches!(value, [word] if word == "default"))
            .collect()
    });
    match (names, given) {
        // The parenthesis of `insert into t (select ...)` holds no names.
        (Some(names), _) if names.first().is_some_and(|name| name == "select") => Columns::Unknown,
        (Some(names), Some(given)) if names.len() == given.len() => {
            let given = names.into_iter().zip(given);
            Columns::Named(given.filter(|(_, is_given)| *is_given).map(|(name, _)| name).collect())
        }
        (Some(names), _) => Columns::Named(names),
        (None, Some(given)) => {
            let places = given.iter().enumerate().filter(|(_, is_given)| **is_given);
            Columns::At(places.map(|(at, _)| count(at + 1)).collect())
        }
        (None, None) => Columns::Unknown,
    }
}

/// The words of an SQL statement, without comments. A string literal is the word [`LITERAL`]. A name with its schema is
/// one word, and quoted names keep their quotes. Unquoted words are in lower case.
fn words(sql: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quoted = None;
    let mut letters = sql.chars().peekable();
    while let Some(c) = letters.next() {
        match quoted {
            Some('"') => {
                word.push(c);
                if c == '"' {
                    quoted = None;
                }
            }
            Some(end) => {
                if c == end {
                    quoted = None;
                }
            }
            None if c == '"' => {
                word.push(c);
                quoted = Some(c);
            }
            None if c.is_alphanumeric() || matches!(c, '_' | '.' | '$') => word.extend(c.to_lowercase()),
            None => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                match (c, letters.peek()) {
                    ('\'', _) => {
                        words.push(LITERAL.to_owned());
                        quoted = Some(c);
                    }
                    ('-', Some('-')) => quoted = Some('\n'),
                    // A parenthesis is a word of its own, so that a name after `from (` is not taken for a table.
                    _ if !c.is_whitespace() => words.push(c.to_string()),
                    _ => {}
                }
            }
        }
    }
    words.push(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(sql: &str) -> Vec<String> {
        let uses = uses(sql);
        uses.iter()
            .map(|it| format!("{} {}", it.command.as_str(), it.name))
            .collect()
    }

    fn columns(sql: &str) -> Columns {
        uses(sql).remove(0).columns
    }

    fn named(names: &[&str]) -> Columns {
        Columns::Named(names.iter().map(|&name| name.to_owned()).collect())
    }

    #[test]
    fn the_tables_of_a_statement_are_found() {
        let sql = "UPDATE only \"Booking\" b set status = 'from x' -- it's done\n\
            from users u join \"my\".\"Team\" t on true where b.id in (select id from (select 1) s)";
        assert_eq!(
            told(sql),
            [
                "update \"Booking\"",
                "select \"Booking\"",
                "select users",
                "select \"my\".\"Team\""
            ]
        );
        assert_eq!(told("insert into log (a) values ($1)"), ["insert log"]);
        assert_eq!(
            told("delete from only a.b using c"),
            ["delete a.b", "select a.b", "select c"]
        );
        assert_eq!(
            told("insert into log (a) values ($1) on conflict (a) do update set a = 1"),
            ["insert log", "update log", "select log"]
        );
    }

    #[test]
    fn the_columns_that_a_statement_writes_are_found() {
        assert_eq!(
            columns("update t set \"Status\" = coalesce(a, 'x'), (b, c) = (1, 2), d[1] = 3 where e = 4"),
            named(&["Status", "b", "c", "d"])
        );
        assert_eq!(
            columns("insert into t (id, a, b) values (default, $1, f(1, 2))"),
            named(&["a", "b"])
        );
        assert_eq!(columns("insert into t (a) select $1 from s"), named(&["a"]));
        assert_eq!(columns("insert into t default values"), named(&[]));
        assert_eq!(
            columns("insert into t as x values (default, $1, 'a, b')"),
            Columns::At(vec![2, 3])
        );
        assert_eq!(columns("insert into t select * from s"), Columns::Unknown);
        assert_eq!(columns("insert into t (select * from s)"), Columns::Unknown);
    }

    #[test]
    fn the_functions_and_sequences_of_a_statement_are_found() {
        let sql = "select my.accept($1::bigint, 'x', (select 1)), now() from t where id in (nextval('s.\"Q\"'))";
        let calls: Vec<String> = calls(sql)
            .iter()
            .map(|it| format!("{} {}", it.name, it.arguments))
            .collect();
        assert_eq!(calls, ["my.accept 3", "now 0", "in 1", "nextval 1"]);
        assert_eq!(sequences(sql), ["s.\"Q\""]);
    }
}
