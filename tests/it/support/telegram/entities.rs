//! Telegram's rules for `parse_mode=HTML`: which tags and entities are valid, and how long a text may be.
//!
//! The fake follows the rules of Telegram's own parser. It refuses unknown tags, and tags that are not closed or are
//! closed in another order. An `&` that begins no entity and a single `>` are plain text.

/// The longest message, in UTF-16 units after its entities are decoded.
const MESSAGE_UNITS: usize = 4096;
/// The tags that Telegram accepts in a message. Tags with a special purpose that Vestnik does not use are left out.
const TAGS: [&str; 16] = [
    "b",
    "strong",
    "i",
    "em",
    "u",
    "ins",
    "s",
    "strike",
    "del",
    "code",
    "pre",
    "a",
    "span",
    "tg-spoiler",
    "blockquote",
    "tg-emoji",
];

/// The text that people see in a chat for this HTML, or Telegram's error text.
pub fn shown(html: &str) -> Result<String, String> {
    let refused = |why: String| format!("Bad Request: can't parse entities: {why}");
    let (mut text, mut open, mut at) = (String::new(), Vec::<&str>::new(), 0);
    while let Some(character) = html[at..].chars().next() {
        let rest = &html[at..];
        match character {
            '<' => {
                let end = rest
                    .find('>')
                    .ok_or_else(|| refused(format!("Unclosed start tag at byte offset {at}")))?;
                let inner = &rest[1..end];
                if let Some(name) = inner.strip_prefix('/') {
                    match open.pop() {
                        Some(opened) if name.trim().is_empty() || name.trim() == opened => {}
                        Some(opened) => {
                            let why = format!(
                                "Unmatched end tag at byte offset {at}, expected \"</{opened}>\", found \"</{name}>\""
                            );
                            return Err(refused(why));
                        }
                        None => return Err(refused(format!("Unexpected end tag at byte offset {at}"))),
                    }
                } else {
                    let name = inner.split_whitespace().next().unwrap_or_default();
                    if !TAGS.contains(&name) {
                        return Err(refused(format!("Unsupported start tag \"{name}\" at byte offset {at}")));
                    }
                    open.push(name);
                }
                at += end + 1;
            }
            '&' => {
                let (decoded, length) = entity(rest).unwrap_or(('&', 1));
                text.push(decoded);
                at += length;
            }
            other => {
                text.push(other);
                at += other.len_utf8();
            }
        }
    }
    if let Some(name) = open.pop() {
        return Err(refused(format!(
            "Can't find end tag corresponding to start tag \"{name}\""
        )));
    }
    plain(&text)
}

/// The text that people see in a chat for a message without markup, or Telegram's error text.
pub fn plain(text: &str) -> Result<String, String> {
    let text = text.trim().to_owned();
    if text.is_empty() {
        return Err("Bad Request: message text is empty".into());
    }
    if text.encode_utf16().count() > MESSAGE_UNITS {
        return Err("Bad Request: message is too long".into());
    }
    Ok(text)
}

/// The character that an entity stands for, and the entity's length in bytes.
fn entity(text: &str) -> Option<(char, usize)> {
    let end = text.find(';')?;
    let name = &text[1..end];
    let decoded = match name {
        "lt" => '<',
        "gt" => '>',
        "amp" => '&',
        "quot" => '"',
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix('x') {
                Some(hexadecimal) => u32::from_str_radix(hexadecimal, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(code)?
        }
    };
    Some((decoded, end + 1))
}

#[test]
fn html_is_read_as_telegram_reads_it() {
    assert_eq!(
        shown("<b>a &lt; b</b> &amp; &#1080; > &foo; &"),
        Ok("a < b & и > &foo; &".into())
    );
    assert_eq!(
        shown(&"я".repeat(MESSAGE_UNITS)).map(|text| text.len()),
        Ok(2 * MESSAGE_UNITS)
    );
    for (wrong, why) in [
        ("a < b", "Unclosed start tag"),
        ("<b>a", "Can't find end tag"),
        ("a</b>", "Unexpected end tag"),
        ("<b><i>a</b></i>", "Unmatched end tag"),
        ("<order>1</order>", "Unsupported start tag"),
        ("<b> </b>", "message text is empty"),
        (&"😀".repeat(MESSAGE_UNITS / 2 + 1), "message is too long"),
    ] {
        let said = shown(wrong).unwrap_err();
        assert!(said.contains(why), "{wrong}: {said}");
    }
}
