//! The catalogs of texts for people: one file in `messages/` for each language. A text is HTML with placeholders, and
//! the values for the placeholders are escaped.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, OnceLock};

use rust_embed::RustEmbed;
use toml::{Table, Value};

#[derive(RustEmbed)]
#[folder = "messages/"]
struct Files;

/// The language of a chat that has chosen no language.
pub const DEFAULT: &str = "ru";

static LANGUAGES: LazyLock<BTreeMap<String, Catalog>> = LazyLock::new(|| {
    let read = |file: std::borrow::Cow<'static, str>| {
        let code = file.strip_suffix(".toml")?.to_owned();
        let text = Files::get(&file)?;
        let table = std::str::from_utf8(&text.data).ok()?.parse::<Table>().ok()?;
        Some((code, Catalog::new(&table)))
    };
    Files::iter().filter_map(read).collect()
});

/// The operator's own texts, by language and store id. If the store id is `None`, the texts are for all stores.
static OWN: OnceLock<OwnTexts> = OnceLock::new();

type OwnTexts = BTreeMap<(String, Option<String>), Catalog>;

/// The reason why the operator's own texts were refused.
#[derive(Debug, thiserror::Error)]
pub enum OwnTextsError {
    /// A file or directory could not be read.
    #[error("the texts in {} cannot be read: {source}", .path.display())]
    Unreadable {
        /// The file or directory.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// Files have invalid content. Each problem names the file, the invalid part, and how to correct it.
    #[error("{}", .0.join("\n"))]
    Invalid(Vec<String>),
}

/// The texts of one language. The name of a text is `section.key`.
#[derive(Debug, Default, Clone)]
pub struct Catalog {
    texts: BTreeMap<String, String>,
}

/// The codes of all languages that have texts.
pub fn languages() -> impl Iterator<Item = &'static str> {
    LANGUAGES.keys().map(String::as_str)
}

/// Returns the code of the language to use, such as `en`. `wanted` is the language code of a person's app, such as
/// `en-GB`. If no language fits, returns the default language.
pub fn known(wanted: Option<&str>) -> &'static str {
    let found = wanted.and_then(|wanted| languages().find(|known| wanted.starts_with(known)));
    found.unwrap_or(DEFAULT)
}

/// Reads the operator's own texts. It must be called once, before any text is used. The file `DIRECTORY/en.toml` is for
/// all stores, and `DIRECTORY/STORE/en.toml` for one store. A file contains only the texts that differ from the
/// original. A text may use only placeholders of the original text.
pub fn load_own(directory: &Path) -> Result<(), OwnTextsError> {
    let own = read_all(directory)?;
    tracing::info!(files = own.len(), "the operator's own texts are used");
    let _is_first = OWN.set(own);
    Ok(())
}

/// Reads the files of a directory, and the files in the directories of stores below it. Reports all problems of these
/// files together.
fn read_all(directory: &Path) -> Result<OwnTexts, OwnTextsError> {
    let (mut own, mut problems, mut stores) = (OwnTexts::new(), Vec::new(), Vec::new());
    for entry in entries(directory)? {
        match entry.is_dir() {
            true => stores.push(entry),
            false => problems.extend(read_own(&entry, None, &mut own)?),
        }
    }
    for directory in stores {
        let store = directory.file_name().and_then(|name| name.to_str()).map(str::to_owned);
        for entry in entries(&directory)? {
            problems.extend(read_own(&entry, store.as_deref(), &mut own)?);
        }
    }
    match problems.is_empty() {
        true => Ok(own),
        false => Err(OwnTextsError::Invalid(problems)),
    }
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>, OwnTextsError> {
    let unreadable = |source| OwnTextsError::Unreadable {
        path: directory.to_owned(),
        source,
    };
    let entries = std::fs::read_dir(directory).map_err(unreadable)?;
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry.map_err(unreadable)?.path());
    }
    paths.sort();
    Ok(paths)
}

/// Reads one file of the operator's own texts, and adds the texts to `own`. Returns the problems of this file.
fn read_own(path: &Path, store: Option<&str>, own: &mut OwnTexts) -> Result<Vec<String>, OwnTextsError> {
    let problem = |problem: String| format!("{}: {problem}", path.display());
    let language = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".toml"));
    let Some((language, ours)) = language.and_then(|language| LANGUAGES.get_key_value(language)) else {
        let known: Vec<&str> = languages().collect();
        return Ok(vec![problem(format!(
            "a file of texts is called LANGUAGE.toml, with one of {}",
            known.join(", ")
        ))]);
    };
    let text = std::fs::read_to_string(path).map_err(|source| OwnTextsError::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    let table: Table = match text.parse() {
        Ok(table) => table,
        Err(error) => return Ok(vec![problem(error.to_string())]),
    };
    let theirs = Catalog::new(&table);
    let no_texts = not_texts(&table)
        .into_iter()
        .map(|name| format!("{name}: a text is written in quotes, in a section such as [title]"));
    let invalid = theirs.texts.iter().filter_map(|(key, text)| invalid(key, text, ours));
    let problems: Vec<String> = no_texts.chain(invalid).map(problem).collect();
    let base = own.get(&(language.clone(), None)).unwrap_or(ours);
    let mut words = base.clone();
    words.texts.extend(theirs.texts);
    own.insert((language.clone(), store.map(str::to_owned)), words);
    Ok(problems)
}

/// The reason why the operator's text for a key cannot replace the original text. `None`: the text can be used.
fn invalid(key: &str, text: &str, ours: &Catalog) -> Option<String> {
    let Some(ours) = ours.find(key) else {
        return Some(format!("there is no text {key}"));
    };
    if let Some(place) = places(text).into_iter().find(|place| !places(ours).contains(place)) {
        let known = places(ours).join(", ");
        return Some(format!("{key} has no place {{{place}}}; it has {known}"));
    }
    if text.trim().is_empty() {
        return Some(format!(
            "{key} is empty: delete the line, and the original text is used"
        ));
    }
    if text.matches('{').count() != text.matches('}').count() {
        return Some(format!(
            "{key}: a brace is not closed; a place is written as {{number}}"
        ));
    }
    if !super::html::is_well_formed(text) {
        return Some(format!("{key}: a tag is not closed, or not one of Telegram's"));
    }
    let section = key.split('.').next().unwrap_or_default();
    if PLAIN.contains(&section) && super::html::to_plain_text(text) != *text {
        return Some(format!(
            "{key} is shown without markup: write it without tags and entities"
        ));
    }
    let (wanted, given) = (ours.split_whitespace().count(), text.split_whitespace().count());
    (LISTS.contains(&key) && given != wanted)
        .then(|| format!("{key} has {given} words and needs {wanted}, with a space between"))
}

/// Finds invalid values in an operator's file, and returns their names. Each value must be a text, and belong to a
/// section. So a number is invalid, and so is a value outside all sections.
fn not_texts(table: &Table) -> Vec<String> {
    let of_section = |(section, keys): (&String, &Value)| match keys {
        Value::Table(keys) => {
            let wrong = keys.iter().filter(|(_, value)| !value.is_str());
            wrong.map(|(key, _)| format!("{section}.{key}")).collect()
        }
        _ => vec![section.clone()],
    };
    table.iter().flat_map(of_section).collect()
}

/// The ids of the stores for which the operator has own texts, sorted.
pub fn stores_with_own_texts() -> Vec<&'static str> {
    let own = OWN.get().into_iter().flat_map(BTreeMap::keys);
    let mut stores: Vec<&str> = own.filter_map(|(_, store)| store.as_deref()).collect();
    stores.sort_unstable();
    stores.dedup();
    stores
}

/// The sections whose texts Telegram shows without markup: labels of buttons, responses to presses of buttons, and the
/// menu.
const PLAIN: [&str; 5] = ["button", "language", "menu", "pressed", "reject_reason"];
/// The texts that are lists of words, separated by spaces.
const LISTS: [&str; 2] = ["language.months", "language.weekdays"];

/// The names of the placeholders in a text, sorted: `number` for `Order {number}`.
fn places(text: &str) -> Vec<&str> {
    let mut places: Vec<&str> = text
        .split('{')
        .skip(1)
        .filter_map(|rest| rest.split('}').next())
        .collect();
    places.sort_unstable();
    places
}

/// The texts of a language for one store: the operator's own texts for this store. If the store has none, the texts for
/// all stores.
pub fn of_store(language: &str, store: &str) -> &'static Catalog {
    let own = OWN
        .get()
        .and_then(|own| own.get(&(language.to_owned(), Some(store.to_owned()))));
    own.unwrap_or_else(|| of(language))
}

/// The texts of a language for all stores. If the language has no texts, the default language is used.
pub fn of(language: &str) -> &'static Catalog {
    static NONE: Catalog = Catalog { texts: BTreeMap::new() };
    if let Some(own) = OWN.get().and_then(|own| own.get(&(language.to_owned(), None))) {
        return own;
    }
    LANGUAGES
        .get(language)
        .or_else(|| LANGUAGES.get(DEFAULT))
        .unwrap_or(&NONE)
}

impl Catalog {
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

    /// The text with this name. If the text is missing, returns the name, so that people notice the gap.
    pub fn get<'a>(&'a self, key: &'a str) -> &'a str {
        self.texts.get(key).map_or(key, String::as_str)
    }

    /// The text with this name. `None`: the text is missing.
    pub fn find(&self, key: &str) -> Option<&str> {
        self.texts.get(key).map(String::as_str)
    }

    /// The keys of the texts in a section, sorted.
    pub fn keys(&self, section: &str) -> impl Iterator<Item = &str> {
        let prefix = format!("{section}.");
        self.texts.keys().filter_map(move |key| key.strip_prefix(&prefix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn an_operators_texts_are_checked() {
        let directory = std::env::temp_dir().join(format!("vestnik-texts-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let read = |text: &str| {
            std::fs::write(directory.join("en.toml"), text).unwrap();
            read_all(&directory)
        };
        let own = read("[title]\norder_pending = \"<b>#{number}!</b>\"").unwrap();
        let words = &own[&("en".to_owned(), None)];
        assert_eq!(words.get("title.order_pending"), "<b>#{number}!</b>");
        assert_eq!(
            words.get("button.accept"),
            of("en").get("button.accept"),
            "the other texts are the original ones"
        );
        for (wrong, problem) in [
            ("[title]\norder_eaten = \"x\"", "there is no text title.order_eaten"),
            (
                "[title]\norder_pending = \"{name}\"",
                "title.order_pending has no place {name}; it has number",
            ),
            ("[title]\norder_pending = \"<b>\"", "a tag is not closed"),
            ("[title", "TOML"),
            (
                "[title]\norder_pending = 5",
                "title.order_pending: a text is written in quotes",
            ),
            (
                "[title]\norder_pending = [\"x\"]",
                "title.order_pending: a text is written in quotes",
            ),
            (
                "order_pending = \"x\"",
                "order_pending: a text is written in quotes, in a section",
            ),
            (
                "[title]\norder_pending = \"#{number\"",
                "title.order_pending: a brace is not closed",
            ),
            ("[title]\norder_pending = \" \"", "title.order_pending is empty"),
            (
                "[button]\naccept = \"<b>Yes</b>\"",
                "button.accept is shown without markup",
            ),
            (
                "[pressed]\nfailed = \"no &amp; no\"",
                "pressed.failed is shown without markup",
            ),
            (
                "[language]\nmonths = \"Jan Feb\"",
                "language.months has 2 words and needs 12",
            ),
        ] {
            let error = read(wrong).unwrap_err().to_string();
            assert!(error.contains(problem), "{wrong}: {error}");
        }
        std::fs::write(directory.join("ru.toml"), "[title]\norder_eaten = \"x\"").unwrap();
        let all = read("[title]\norder_pending = \"<b>\"\norder_ready = \"\"")
            .unwrap_err()
            .to_string();
        let problems = [
            "order_pending: a tag",
            "order_ready is empty",
            "ru.toml: there is no text title.order_eaten",
        ];
        assert_eq!(all.lines().count(), 3, "{all}");
        assert!(problems.iter().all(|problem| all.contains(problem)), "{all}");
        std::fs::remove_dir_all(directory).unwrap();
    }
}
