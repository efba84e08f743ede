//! Parses any JSON that Postgres can store, one level at a time. The parser accepts numbers of any size, invalid
//! escapes, and any depth of nesting. No function in this file fails or recurses.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Maximum number of values of a JSON object or array that are joined into one text.
pub const JOINED_VALUES: usize = 20;

/// The top level of a JSON text. Values inside an array or object stay unparsed text.
#[derive(Debug, Clone, PartialEq)]
pub enum Json<'a> {
    /// `null`, or invalid JSON.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// The text of a number, because no number type can hold all digits that Postgres allows.
    Number(&'a str),
    /// A string, with U+FFFD in place of each invalid character and each NUL. Many JSON parsers and Postgres reject
    /// NUL.
    Text(String),
    /// The elements of an array, each as JSON text.
    Array(Vec<&'a str>),
    /// The members of an object in order, each with its name and its value as JSON text. A name may occur twice.
    Object(Vec<(String, &'a str)>),
}

impl<'a> Json<'a> {
    /// Parses the top level of a JSON text. Invalid JSON gives [`Json::Null`].
    pub fn read(text: &'a str) -> Self {
        let text = text.trim();
        match text.as_bytes().first() {
            Some(b'{') => serde_json::Deserializer::from_str(text)
                .deserialize_map(Members)
                .map_or(Self::Null, Self::Object),
            Some(b'[') => serde_json::Deserializer::from_str(text)
                .deserialize_seq(Elements)
                .map_or(Self::Null, Self::Array),
            Some(b'"') => serde_json::Deserializer::from_str(text)
                .deserialize_bytes(Lossy)
                .map_or(Self::Null, Self::Text),
            Some(b't') => Self::Bool(true),
            Some(b'f') => Self::Bool(false),
            Some(b'-' | b'0'..=b'9') => Self::Number(text),
            _ => Self::Null,
        }
    }

    /// Parses the top level of a JSON text. A string that contains an object or array is parsed again, because some
    /// applications encode JSON twice. The result then borrows the inner text from `held`.
    pub fn read_encoded_twice(text: &'a str, held: &'a mut String) -> Self {
        match Self::read(text) {
            Self::Text(inner) if inner.trim_start().starts_with(['{', '[']) => {
                *held = inner;
                match Json::read(held) {
                    Self::Null => Self::Text(held.clone()),
                    structure => structure,
                }
            }
            other => other,
        }
    }

    /// Converts the value to text for people. The plain values in an object or array are joined with commas.
    pub fn readable(&self) -> Option<String> {
        let join = |values: &mut dyn Iterator<Item = &str>| {
            let texts: Vec<String> = values
                .take(JOINED_VALUES)
                .filter_map(|value| Some(Json::read(value).plain()?.into_owned()))
                .collect();
            (!texts.is_empty()).then(|| texts.join(", "))
        };
        match self {
            Self::Array(elements) => join(&mut elements.iter().copied()),
            Self::Object(members) => join(&mut members.iter().map(|(_, value)| *value)),
            plain => plain.plain().map(Cow::into_owned),
        }
    }

    /// Whether the value is an array or object that says something, and [`Self::readable`] finds no text in it: its
    /// values are arrays or objects themselves.
    pub fn is_unreadable(&self) -> bool {
        let says_something = |value: &str| match Json::read(value) {
            Json::Array(elements) => !elements.is_empty(),
            Json::Object(members) => !members.is_empty(),
            _ => false,
        };
        let has_inner = match self {
            Self::Array(elements) => elements.iter().any(|value| says_something(value)),
            Self::Object(members) => members.iter().any(|(_, value)| says_something(value)),
            _ => false,
        };
        has_inner && self.readable().is_none()
    }

    /// The text of a string, number or boolean; `None` for null, an empty string, an array or an object.
    pub fn plain(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Bool(true) => Some("true".into()),
            Self::Bool(false) => Some("false".into()),
            Self::Number(number) => Some((*number).into()),
            Self::Text(text) if !text.trim().is_empty() => Some(text.trim().into()),
            _ => None,
        }
    }
}

/// The JSON text of the member with this name. If the name occurs twice, the last member counts, as in Postgres.
pub fn member<'a>(members: &[(String, &'a str)], name: &str) -> Option<&'a str> {
    members
        .iter()
        .rev()
        .find(|(member, _)| member == name)
        .map(|(_, value)| *value)
}

/// The JSON text at a path of member names. `None`: a member is missing, or a value on the path is not an object.
pub fn at_path<'a>(text: &'a str, path: &[String]) -> Option<Cow<'a, str>> {
    let mut here = Cow::Borrowed(text);
    for name in path {
        let next = {
            let mut held = String::new();
            let Json::Object(members) = Json::read_encoded_twice(&here, &mut held) else {
                return None;
            };
            member(&members, name)?.to_owned()
        };
        here = Cow::Owned(next);
    }
    Some(here)
}

struct Members;

impl<'a> Visitor<'a> for Members {
    type Value = Vec<(String, &'a str)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(name) = map.next_key_seed(Lossy)? {
            let value: &'a RawValue = map.next_value()?;
            members.push((name, value.get()));
        }
        Ok(members)
    }
}

struct Elements;

impl<'a> Visitor<'a> for Elements {
    type Value = Vec<&'a str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = seq.next_element::<&'a RawValue>()? {
            elements.push(element.get());
        }
        Ok(elements)
    }
}

/// Parses a JSON string as bytes, and converts the bytes to text. `serde_json` accepts an invalid escape, such as a
/// lone surrogate, only while parsing bytes.
struct Lossy;

impl<'a> DeserializeSeed<'a> for Lossy {
    type Value = String;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_bytes(self)
    }
}

impl Visitor<'_> for Lossy {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<String, E> {
        Ok(without_nul(&String::from_utf8_lossy(bytes)))
    }

    fn visit_str<E>(self, text: &str) -> Result<String, E> {
        Ok(without_nul(text))
    }
}

fn without_nul(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_kind_of_value_is_read() {
        assert_eq!(Json::read(" null"), Json::Null);
        assert_eq!(Json::read("true"), Json::Bool(true));
        assert_eq!(Json::read("-1.50"), Json::Number("-1.50"));
        assert_eq!(Json::read(r#""a\"b""#), Json::Text("a\"b".into()));
        assert_eq!(Json::read("[1, [2]]"), Json::Array(vec!["1", "[2]"]));
        assert_eq!(
            Json::read(r#"{"a": {"b": 1}}"#),
            Json::Object(vec![("a".into(), r#"{"b": 1}"#)])
        );
        assert_eq!(Json::read("{oops"), Json::Null);
    }

    #[test]
    fn what_no_type_can_hold_is_read_all_the_same() {
        assert_eq!(Json::read("1e400"), Json::Number("1e400"));
        assert_eq!(Json::read(r#""a\u0000b""#), Json::Text("a\u{fffd}b".into()));
        let Json::Text(text) = Json::read(r#""a\ud800b""#) else {
            panic!("a text")
        };
        assert!(
            text.starts_with('a') && text.ends_with('b') && text.contains('\u{fffd}'),
            "{text}"
        );
        let Json::Object(members) = Json::read(r#"{"\ud800": 1, "b": 2}"#) else {
            panic!("an object")
        };
        assert_eq!(member(&members, "b"), Some("2"));
        let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
        let Json::Array(elements) = Json::read(&deep) else {
            panic!("an array")
        };
        assert_eq!(elements[0].len(), deep.len() - 2);
    }

    #[test]
    fn a_path_leads_through_objects_and_through_text_that_holds_one() {
        let path = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let text = r#"{"a": {"b": [1]}, "c": "{\"d\": 5}"}"#;
        assert_eq!(at_path(text, &path(&["a", "b"])).unwrap(), "[1]");
        assert_eq!(at_path(text, &path(&["c", "d"])).unwrap(), "5");
        assert_eq!(at_path(text, &path(&["a", "x"])), None);
        assert_eq!(at_path(text, &[]).unwrap(), text);
    }

    proptest! {
        #[test]
        fn any_text_is_read_as_something(text in ".{0,60}") {
            let mut held = String::new();
            let _ = Json::read(&text);
            let _ = Json::read_encoded_twice(&text, &mut held);
        }
    }
}
