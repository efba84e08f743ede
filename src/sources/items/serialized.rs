//! Recognises items that a program serialized in a form other than JSON. Panels must not show the serialized text as
//! the name of a dish.

use super::super::json::Json;

/// The text of the items, if it is serialized PHP, XML, YAML, or JSON that was cut off. `None`: the text is for people,
/// or is valid JSON.
pub fn serialized(raw: &str) -> Option<String> {
    let mut held = String::new();
    match Json::read_encoded_twice(raw, &mut held) {
        Json::Text(text) if is_serialized(text.trim()) => Some(text),
        _ => None,
    }
}

fn is_serialized(text: &str) -> bool {
    let mut letters = text.chars();
    let (first, second) = (letters.next().unwrap_or_default(), letters.next().unwrap_or_default());
    match first {
        // The text is not valid JSON, because the caller handles valid JSON before this call.
        '{' => second.is_whitespace() || matches!(second, '"' | '\''),
        '[' => second.is_whitespace() || matches!(second, '{' | '[' | '"' | '\''),
        '<' => text.contains('>') && (second.is_alphabetic() || matches!(second, '?' | '!')),
        '-' => text.starts_with("---\n") || text.starts_with("--- ") || text.starts_with("---\r"),
        'a' | 'O' | 's' | 'i' | 'd' | 'b' | 'C' => is_php(text),
        _ => false,
    }
}

/// Whether the text starts like the output of PHP's `serialize`: a letter, a colon, a number, and a colon or a
/// semicolon.
fn is_php(text: &str) -> bool {
    let Some(rest) = text.get(1..).and_then(|rest| rest.strip_prefix(':')) else {
        return false;
    };
    let behind = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-');
    behind.len() < rest.len() && behind.starts_with([':', ';'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_programs_serialize_is_told_from_what_people_write() {
        for text in [
            r#"a:1:{i:0;a:2:{s:4:"name";s:5:"Pizza";s:3:"qty";i:2;}}"#,
            r#"O:8:"stdClass":1:{s:4:"name";s:4:"Soup";}"#,
            r#"s:5:"Pizza";"#,
            r#"[{"name":"Pizza","qty":2},{"name":"So"#,
            r#"{"items": [{"name": "#,
            "[{'name': 'Pizza', 'qty': 2}]",
            "<?xml version=\"1.0\"?><items><item>Pizza</item></items>",
            "<items><item name=\"Pizza\"/></items>",
            "---\n- :name: Pizza\n  :qty: 2\n",
        ] {
            let raw = serde_json::Value::from(text).to_string();
            assert_eq!(serialized(&raw).as_deref(), Some(text));
        }
        for text in [
            "2 x Pizza\n1 x Soup",
            "[NEW] Soup",
            "<3 Pizza",
            "a: Pizza",
            "- Pizza\n- Soup",
            "[{\"name\": \"Soup\"}]",
            "",
        ] {
            let raw = serde_json::Value::from(text).to_string();
            assert_eq!(serialized(&raw), None, "{text}");
        }
    }
}
