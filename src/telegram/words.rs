//! The texts of `messages/`, a file a language. They are markup with places for what is put in, which is escaped.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use rust_embed::RustEmbed;
use toml::{Table, Value};

#[derive(RustEmbed)]
#[folder = "messages/"]
struct Files;

/// The language of who has chosen none.
pub const DEFAULT: &str = "ru";

static LANGUAGES: LazyLock<BTreeMap<String, Words>> = LazyLock::new(|| {
    let read = |file: std::borrow::Cow<'static, str>| {
        let code = file.strip_suffix(".toml")?.to_owned();
        let text = Files::get(&file)?;
        let table = std::str::from_utf8(&text.data).ok()?.parse::<Table>().ok()?;
        Some((code, Words::new(&table)))
    };
    Files::iter().filter_map(read).collect()
});

/// The texts of one language, by `section.key`.
#[derive(Debug, Default)]
pub struct Words {
    texts: BTreeMap<String, String>,
}

/// Every language there is, by its code.
pub fn languages() -> impl Iterator<Item = &'static str> {
    LANGUAGES.keys().map(String::as_str)
}

/// A language that there is, for one that a person's own program asks for: `en-GB`.
pub fn known(asked: Option<&str>) -> &'static str {
    let found = asked.and_then(|asked| languages().find(|known| asked.starts_with(known)));
    found.unwrap_or(DEFAULT)
}

/// The texts of a language; of the default one, where there is no such language.
pub fn of(language: &str) -> &'static Words {
    static NONE: Words = Words { texts: BTreeMap::new() };
    LANGUAGES
        .get(language)
        .or_else(|| LANGUAGES.get(DEFAULT))
        .unwrap_or(&NONE)
}

impl Words {
    fn new(table: &Table) -> Self {
        let mut texts = BTreeMap::new();
        for (section, keys) in table {
            for (key, value) in keys.as_table().into_iter().flatten() {
                if let Value::String(text) = value {
                    texts.insert(format!("{section}.{key}"), text.clone());
                }
            }
        }
        Self { texts }
    }

    /// A text; the key itself where there is none, so that a gap is seen rather than silent.
    pub fn get<'a>(&'a self, key: &'a str) -> &'a str {
        self.texts.get(key).map_or(key, String::as_str)
    }

    /// A text, if there is one.
    pub fn find(&self, key: &str) -> Option<&str> {
        self.texts.get(key).map(String::as_str)
    }

    /// The keys of a section, in order.
    pub fn keys(&self, section: &str) -> impl Iterator<Item = &str> {
        let prefix = format!("{section}.");
        self.texts.keys().filter_map(move |key| key.strip_prefix(&prefix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The places of a text, in the order of their names.
    fn places(text: &str) -> Vec<&str> {
        let mut places: Vec<&str> = text
            .split('{')
            .skip(1)
            .filter_map(|rest| rest.split('}').next())
            .collect();
        places.sort_unstable();
        places
    }

    #[test]
    fn every_language_has_the_same_texts_with_the_same_places() {
        assert!(languages().count() >= 2);
        let default = of(DEFAULT);
        for (language, words) in LANGUAGES.iter() {
            let (ours, theirs): (Vec<_>, Vec<_>) = (words.texts.keys().collect(), default.texts.keys().collect());
            assert_eq!(ours, theirs, "{language}");
            for (key, text) in &words.texts {
                assert_eq!(places(text), places(default.get(key)), "{language}: {key}");
            }
        }
    }
}
