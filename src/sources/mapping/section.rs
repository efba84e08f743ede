//! Reads one TOML table of a mapping, key by key, and collects the errors. At the end, each key that no code has read
//! is reported as unknown.

use toml::{Table, Value};

use super::Column;
use crate::domain::money::Unit;
use crate::infra::standard_webhook::address;
use crate::sources::zone;

/// Maximum edit distance between an unknown key and the known key that the error suggests.
const NEAR_EDITS: usize = 2;

/// A TOML table of a mapping. Reading a key removes the key from `table`, so the keys that remain at the end are
/// unknown.
pub(super) struct Section<'p> {
    /// The name of this TOML table in the mapping, such as `fields.total`. Empty: the top level of the mapping.
    pub(super) path: String,
    pub(super) table: Table,
    pub(super) known_keys: Vec<&'static str>,
    pub(super) problems: &'p mut Vec<String>,
}

impl<'p> Section<'p> {
    pub(super) fn top(table: Table, problems: &'p mut Vec<String>) -> Self {
        Self {
            path: String::new(),
            table,
            known_keys: Vec::new(),
            problems,
        }
    }

    pub(super) fn place(&self, key: &str) -> String {
        match self.path.as_str() {
            "" => key.to_owned(),
            path => format!("{path}.{key}"),
        }
    }

    pub(super) fn problem(&mut self, key: &str, what: impl AsRef<str>) {
        let place = self.place(key);
        self.problems.push(format!("{place}: {}", what.as_ref()));
    }

    pub(super) fn take(&mut self, key: &'static str) -> Option<Value> {
        self.known_keys.push(key);
        self.table.remove(key)
    }

    /// Reads the TOML table under this key. Returns `None` if the key is missing. Also returns `None`, and reports a
    /// problem, if the value is not a table.
    pub(super) fn below(&mut self, key: &'static str) -> Option<Section<'_>> {
        match self.take(key)? {
            Value::Table(table) => Some(Section {
                path: self.place(key),
                table,
                known_keys: Vec::new(),
                problems: self.problems,
            }),
            _ => {
                self.problem(key, "must be a table");
                None
            }
        }
    }

    pub(super) fn text(&mut self, key: &'static str) -> Option<String> {
        let value = self.take(key)?;
        match value {
            Value::String(text) if !text.trim().is_empty() => Some(text),
            _ => {
                self.problem(key, "must be a text that is not empty");
                None
            }
        }
    }

    /// Reads the address of the shop's API. Returns `None` if the key is missing. Also returns `None`, and reports a
    /// problem, if the address is invalid.
    pub(super) fn address(&mut self, key: &'static str) -> Option<String> {
        let text = self.text(key)?;
        // Accept private addresses here, because the setting `webhook.allow_private` is not known here. `source check`
        // and each request apply the setting.
        match address::check(&text, true) {
            Ok(_) => Some(text),
            Err(refused) => {
                self.problem(key, refused.to_string());
                None
            }
        }
    }

    pub(super) fn required(&mut self, key: &'static str, what: &str) -> Option<String> {
        if !self.table.contains_key(key) {
            self.known_keys.push(key);
            self.problem(key, format!("is missing: {what}"));
            return None;
        }
        self.text(key)
    }

    /// Reads a reference to a column, such as `contact.phone`.
    pub(super) fn column(&mut self, key: &'static str) -> Option<Column> {
        let text = self.text(key)?;
        self.parsed(key, &text)
    }

    pub(super) fn parsed(&mut self, key: &'static str, text: &str) -> Option<Column> {
        let column = column(text);
        if column.is_none() {
            self.problem(
                key,
                format!("`{text}` is no column: write its name, and names behind dots for a path into JSON"),
            );
        }
        column
    }

    /// Reads one reference to a column, or a list of references. The values of several columns are joined.
    pub(super) fn columns(&mut self, key: &'static str) -> Vec<Column> {
        match self.take(key) {
            None => Vec::new(),
            Some(Value::String(text)) => self.parsed(key, &text).into_iter().collect(),
            Some(Value::Array(texts)) => {
                let texts: Option<Vec<String>> =
                    texts.into_iter().map(|text| Some(text.as_str()?.to_owned())).collect();
                match texts {
                    Some(texts) => texts.iter().filter_map(|text| self.parsed(key, text)).collect(),
                    None => {
                        self.problem(key, "must be a column, or a list of columns");
                        Vec::new()
                    }
                }
            }
            Some(_) => {
                self.problem(key, "must be a column, or a list of columns");
                Vec::new()
            }
        }
    }

    /// Reads a list of the shop's words, or one word, such as `["PENDING"]`, `[0, 1]` or `true`.
    pub(super) fn words(&mut self, key: &'static str) -> Vec<String> {
        let words = match self.take(key) {
            None => return Vec::new(),
            Some(Value::Array(words)) => words,
            Some(word) => vec![word],
        };
        let text = |word: Value| match word {
            Value::String(text) => Some(text),
            Value::Integer(number) => Some(number.to_string()),
            Value::Boolean(truth) => Some(truth.to_string()),
            _ => None,
        };
        let words: Option<Vec<String>> = words.into_iter().map(text).collect();
        if words.is_none() {
            self.problem(key, "is a list of words, numbers, or true and false");
        }
        words.unwrap_or_default()
    }

    /// Reads a reference to a column, or a TOML table with the key `column` and more keys. Returns a plain reference as
    /// a table that has only the key `column`.
    pub(super) fn column_or_table(&mut self, key: &'static str) -> Option<Section<'_>> {
        if let Some(Value::Array(_)) = self.table.get(key) {
            self.take(key);
            let remedy = match key {
                "due_at" => {
                    ": where the date and the time stand in two, let the query of [details] return \
                     `(date + time) at time zone 'Europe/Paris' as due_at`"
                }
                _ => ", and no list",
            };
            self.problem(key, format!("is one column{remedy}"));
            return None;
        }
        if let Some(Value::String(_)) = self.table.get(key) {
            let mut table = Table::new();
            table.insert("column".into(), self.take(key)?);
            return Some(Section {
                path: self.place(key),
                table,
                known_keys: Vec::new(),
                problems: self.problems,
            });
        }
        self.below(key)
    }

    pub(super) fn unit(&mut self) -> Option<Unit> {
        match self.text("unit")?.as_str() {
            "minor" => Some(Unit::Minor),
            "major" => Some(Unit::Major),
            other => {
                self.problem("unit", format!("`{other}` is neither \"minor\" nor \"major\""));
                None
            }
        }
    }

    pub(super) fn zone(&mut self, usual: &str) -> String {
        let Some(name) = self.text("zone") else {
            return usual.to_owned();
        };
        if !zone::is_known(&name) {
            let meant = zone::nearest(&name).unwrap_or("Europe/Moscow");
            self.problem(
                "zone",
                format!("`{name}` is no time zone: write a name such as \"{meant}\""),
            );
        }
        name
    }

    /// Ends the reading of this TOML table. Each key that no code has read is reported as unknown.
    pub(super) fn finish(self) {
        let section = match self.path.as_str() {
            "" => "a mapping".to_owned(),
            path => format!("[{path}]"),
        };
        for key in self.table.keys() {
            let place = self.place(key);
            let near = self
                .known_keys
                .iter()
                .find(|known| strsim::damerau_levenshtein(known, key) <= NEAR_EDITS);
            let hint = near.map_or_else(String::new, |near| format!(": did you mean `{near}`?"));
            self.problems.push(format!("{place}: is no key of {section}{hint}"));
        }
    }
}

/// Parses a reference to a column, such as `contact.phone` or `"a.b".c`; `None`: the text is not a reference.
pub(super) fn column(text: &str) -> Option<Column> {
    let mut names = Vec::new();
    let mut rest = text.trim();
    loop {
        let (name, behind) = match rest.strip_prefix('"') {
            Some(quoted) => {
                let (name, behind) = quoted.split_once('"')?;
                (name, behind.strip_prefix('.').or(behind.is_empty().then_some(""))?)
            }
            None => rest.split_once('.').unwrap_or((rest, "")),
        };
        if name.is_empty() {
            return None;
        }
        names.push(name.to_owned());
        if behind.is_empty() {
            let ends_well = !rest.ends_with('.');
            let mut names = names.into_iter();
            return ends_well.then_some(Column {
                name: names.next()?,
                path: names.collect(),
            });
        }
        rest = behind;
    }
}
