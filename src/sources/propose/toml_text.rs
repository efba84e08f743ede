//! Formats a proposal as TOML for a person. Each question is a comment above the line to which it belongs.

use super::{Draft, Items, Proposal, TypeWords, one_line};
use crate::domain::money::Currency;
use crate::domain::status::Status;
use crate::sources::mapping::Column;

/// Maximum length of a line with the names of unused columns, in characters. A longer list has several lines.
const LINE_CHARACTERS: usize = 120;
/// The beginning of a TOML comment that is a question for a person.
const QUESTION: &str = "# ? ";

/// The questions that a person has not deleted from a proposal, each with its line number, counted from 1.
pub fn open_questions(toml: &str) -> Vec<(usize, &str)> {
    let lines = toml.lines().enumerate();
    lines
        .filter_map(|(at, line)| Some((at + 1, line.trim_start().strip_prefix(QUESTION)?)))
        .collect()
}

/// Formats the draft of a proposal as TOML, and lists its questions and guesses.
pub fn write(draft: &Draft) -> Proposal {
    let mut text = Text::new(draft);
    text.line("table", Some(quoted(&draft.table)));
    text.line("kind", draft.kind.map(|kind| quoted(kind.as_str())));
    text.line("key", draft.key.as_deref().map(quoted));
    text.line("store", draft.store.as_deref().map(quoted));
    if let Some(number) = &draft.number {
        text.line("number", Some(reference(number)));
    }
    statuses(&mut text, draft);
    fields(&mut text, draft);
    items(&mut text, draft);
    section(
        &mut text,
        "extra",
        draft
            .extra
            .iter()
            .map(|(label, column)| (bare_or_quoted(label), reference(column))),
    );
    answer(&mut text, draft);
    if !draft.left.is_empty() {
        text.text.push_str(&not_shown("Not shown to anybody", &draft.left));
        if draft.has_key_left {
            text.text
                .push_str("# A section [derived] shows what stands behind such a key: docs/derived-sources.md\n");
        }
    }
    if let Some(Items::Table { table, left, .. }) = draft.items.as_ref()
        && !left.is_empty()
    {
        let head = format!("Not shown of {}", one_line(table));
        text.text.push_str(&not_shown(&head, left));
    }
    if let Some(hint) = &draft.referring {
        text.text.push_str(&format!("\n# {}\n", one_line(hint)));
    }
    let has_amounts = draft.total.is_some() || draft.items.as_ref().is_some_and(Items::has_price);
    Proposal {
        toml: text.text,
        referring: draft.referring.clone(),
        lacks_currency: has_amounts && draft.currency.is_none(),
        questions: draft
            .questions
            .iter()
            .map(|(key, question)| format!("{key}: {question}"))
            .collect(),
        guesses: draft
            .guesses
            .iter()
            .map(|(key, guess)| format!("{key}: a guess to confirm: {guess}"))
            .collect(),
    }
}

/// The comment that lists the columns that the proposal does not use.
fn not_shown(head: &str, columns: &[String]) -> String {
    let mut text = format!("\n# {head}:");
    let mut characters = text.chars().count();
    for (at, column) in columns.iter().enumerate() {
        let comma = if at + 1 == columns.len() { "" } else { "," };
        let length = column.chars().count() + 2;
        if characters + length > LINE_CHARACTERS {
            text.push_str("\n#");
            characters = 1;
        }
        text.push_str(&format!(" {}{comma}", one_line(column)));
        characters += length;
    }
    text + "\n"
}

struct Text<'a> {
    draft: &'a Draft,
    text: String,
}

impl<'a> Text<'a> {
    fn new(draft: &'a Draft) -> Self {
        let head = match draft.questions.is_empty() {
            true => "# What the columns of this table mean. docs/sources.md says what each key means.\n",
            false => {
                "# What the columns of this table mean. Answer each question and delete its line, then: vestnik attach --map THIS_FILE\n\
                 # docs/sources.md says what each key means. Where a value stands in another table, or follows from several\n\
                 # columns, write a section [derived] instead: docs/derived-sources.md.\n"
            }
        };
        Self {
            draft,
            text: head.to_owned(),
        }
    }

    /// Writes the questions and guesses about a key as TOML comments.
    fn questions(&mut self, key: &str) {
        for (_, question) in self.draft.questions.iter().filter(|(about, _)| *about == key) {
            self.text.push_str(&format!("{QUESTION}{question}\n"));
        }
        for (_, guess) in self.draft.guesses.iter().filter(|(about, _)| *about == key) {
            self.text.push_str(&format!("# a guess to confirm: {guess}\n"));
        }
    }

    fn line(&mut self, key: &str, value: Option<String>) {
        self.questions(key);
        match value {
            Some(value) => self.text.push_str(&format!("{key} = {value}\n")),
            None => self.text.push_str(&format!("# {key} = \n")),
        }
    }
}

fn statuses(text: &mut Text<'_>, draft: &Draft) {
    text.text.push_str("\n[status]\n");
    let Some((column, words)) = &draft.status else {
        text.questions("status");
        text.text.push_str("# column = \n# pending = []\n");
        return;
    };
    text.text.push_str(&format!("column = {}\n", reference(column)));
    let list = |words: &[String], is_bare: bool| {
        let words: Vec<String> = words
            .iter()
            .map(|word| if is_bare { word.clone() } else { quoted(word) })
            .collect();
        format!("[{}]", words.join(", "))
    };
    let mut first = true;
    for status in Status::ALL {
        let Some((_, of_status)) = words.known.iter().find(|(known, _)| *known == status) else {
            continue;
        };
        let hint = match (std::mem::take(&mut first), status) {
            (true, _) => "   # the first word is the one written back",
            (false, Status::Completed) => "   # an order that begins with one of these never rings",
            (false, _) => "",
        };
        if status == Status::Pending {
            text.questions("status.pending");
        }
        text.text.push_str(&format!(
            "{} = {}{hint}\n",
            status.as_str(),
            list(of_status, words.is_bare)
        ));
    }
    if !words.hidden.is_empty() {
        text.text
            .push_str(&format!("hidden = {}\n", list(&words.hidden, words.is_bare)));
    }
    text.questions("status");
    let missing = Status::ALL
        .into_iter()
        .filter(|status| words.known.iter().all(|(known, _)| known != status));
    if draft.questions.iter().any(|(about, _)| about.starts_with("status")) || words.known.is_empty() {
        for status in missing {
            text.text.push_str(&format!("# {} = []\n", status.as_str()));
        }
        if words.hidden.is_empty() {
            text.text
                .push_str("# hidden = []              # carts, and what waits for its payment\n");
        }
    }
}

fn fields(text: &mut Text<'_>, draft: &Draft) {
    text.text.push_str("\n[fields]\n");
    for (key, columns) in &draft.fields {
        let columns: Vec<String> = columns.iter().map(|column| reference(column)).collect();
        text.line(key, Some(one_or_list(&columns)));
    }
    for (key, members) in &draft.members {
        let members: Vec<String> = members
            .iter()
            .map(|(column, member)| path_reference(column, member))
            .collect();
        text.line(key, Some(one_or_list(&members)));
    }
    if let Some((column, words)) = &draft.paid_words {
        let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
        let value = format!("{{ column = {}, words = [{}] }}", reference(column), words.join(", "));
        text.line("paid", Some(value));
    }
    if let Some((column, unit)) = &draft.change_from {
        let value = match unit {
            Some(unit) => format!("{{ column = {}, unit = {} }}", reference(column), quoted(unit)),
            None => reference(column),
        };
        text.line("change_from", Some(value));
    }
    if let Some((column, words)) = &draft.order_type {
        text.line("type", Some(type_words(column, words)));
    }
    if let Some((column, unit)) = &draft.total {
        text.text.push_str(&without_currency(draft));
        let currency = draft.currency.as_ref().map_or_else(String::new, |column| {
            format!(", currency_column = {}", reference(column))
        });
        text.line(
            "total",
            Some(format!(
                "{{ column = {}, unit = {}{currency} }}",
                reference(column),
                quoted(unit)
            )),
        );
    }
    for (key, column, zone) in &draft.times {
        let value = match zone {
            Some(zone) => format!("{{ column = {}, zone = {} }}", reference(column), quoted(zone)),
            None => reference(column),
        };
        text.line(key, Some(value));
    }
    for note in &draft.notes {
        text.text.push_str(&format!("# {}\n", one_line(note)));
    }
}

fn one_or_list(references: &[String]) -> String {
    match references {
        [one] => one.clone(),
        several => format!("[{}]", several.join(", ")),
    }
}

/// The comment for amounts whose currency no column names. Empty: a column names it.
fn without_currency(draft: &Draft) -> String {
    match draft.currency {
        Some(_) => String::new(),
        None => format!(
            "# no column names the currency: amounts are in the currency of the store (`vestnik store set`), and in {} where the store has \
             none. Write `currency = \"EUR\"` above [status] where all amounts are in euros\n",
            Currency::DEFAULT
        ),
    }
}

fn type_words(column: &str, words: &TypeWords) -> String {
    let mut parts = vec![format!("column = {}", reference(column))];
    for (key, words) in [
        ("delivery", &words.delivery),
        ("pickup", &words.pickup),
        ("dine_in", &words.dine_in),
    ] {
        if !words.is_empty() {
            let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
            parts.push(format!("{key} = [{}]", words.join(", ")));
        }
    }
    format!("{{ {} }}", parts.join(", "))
}

fn items(text: &mut Text<'_>, draft: &Draft) {
    let Some(items) = &draft.items else { return };
    text.text.push_str("\n[items]\n");
    text.questions("items");
    match items {
        Items::Column { name, path, quantity } => {
            let column = match path {
                Some(member) => path_reference(name, member),
                None => reference(name),
            };
            text.text.push_str(&format!("column = {column}\n"));
            if let Some(member) = quantity {
                text.text.push_str(&format!("quantity = {}\n", reference(member)));
            }
        }
        Items::Table {
            table,
            order_key,
            columns,
            unit,
            ..
        } => {
            text.text.push_str(&format!(
                "table = {}\norder_key = {}\n",
                quoted(table),
                quoted(order_key)
            ));
            for (key, column) in columns {
                if *key == "price" && draft.total.is_none() {
                    text.text.push_str(&without_currency(draft));
                }
                let value = match (*key, unit) {
                    ("price", Some(unit)) => {
                        format!("{{ column = {}, unit = {} }}", reference(column), quoted(unit.word))
                    }
                    _ => reference(column),
                };
                text.text.push_str(&format!("{key} = {value}\n"));
            }
        }
    }
}

fn answer(text: &mut Text<'_>, draft: &Draft) {
    if draft.answer.is_empty() {
        return;
    }
    text.text.push_str("\n[answer]\n");
    for (key, column) in &draft.answer {
        text.questions(&format!("answer.{key}"));
        text.text.push_str(&format!("{key} = {}\n", quoted(column)));
    }
}

fn section(text: &mut Text<'_>, name: &str, lines: impl Iterator<Item = (String, String)>) {
    let lines: Vec<String> = lines.map(|(key, value)| format!("{key} = {value}\n")).collect();
    if !lines.is_empty() {
        text.text.push_str(&format!("\n[{name}]\n{}", lines.concat()));
    }
}

/// A text as a quoted TOML string.
fn quoted(text: &str) -> String {
    match text.contains('"') && !text.contains('\'') {
        true => format!("'{text}'"),
        false => toml::Value::from(text).to_string(),
    }
}

/// A reference to a whole column as a TOML string. A column name with a dot gets a second pair of quotes, because an
/// unquoted dot starts a path into JSON.
fn reference(column: &str) -> String {
    let whole = Column::whole(column);
    match must_be_quoted(&whole.name) {
        true => quoted(&format!("\"{}\"", whole.name)),
        false => quoted(&whole.name),
    }
}

/// A reference to a member of a JSON column as a TOML string. The member's name has no dot.
fn path_reference(column: &str, member: &str) -> String {
    match must_be_quoted(column) {
        true => quoted(&format!("\"{column}\".{member}")),
        false => quoted(&format!("{column}.{member}")),
    }
}

/// Whether a column's name needs quotes of its own in a mapping: a dot outside of quotes starts a path, and blanks at
/// its ends are ignored.
fn must_be_quoted(column: &str) -> bool {
    column.contains(['.', '"']) || column.trim() != column
}

fn bare_or_quoted(key: &str) -> String {
    toml::Value::from(key).to_string()
}
