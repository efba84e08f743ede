//! Builds messages in the subset of HTML that Telegram supports, within Telegram's limits. Telegram and this module
//! count only visible text, without markup, in UTF-16 units. A text over the limit is cut between two characters, and
//! each open tag is closed.

/// Maximum length of a message's visible text, UTF-16 units.
pub const MESSAGE_UNITS: usize = 4096;
/// The HTML entities that this module writes, with their characters.
const ENTITIES: [(&str, &str); 3] = [("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")];
/// Maximum length of a tag, bytes. A longer text between `<` and `>` is not read as a tag.
const LONGEST_TAG: usize = 2000;
/// The character at the end of a text that was cut.
const CUT: &str = "…";

/// The HTML of a message while it is built.
#[derive(Debug)]
pub struct Html {
    text: String,
    open: Vec<String>,
    left: usize,
    full: bool,
}

impl Html {
    /// Creates an empty message with room for `units` UTF-16 units.
    pub fn new(units: usize) -> Self {
        Self {
            text: String::new(),
            open: Vec::new(),
            // One unit is reserved for the character `CUT`.
            left: units.saturating_sub(1),
            full: false,
        }
    }

    /// Appends a line: a template with its values. The template's markup is kept, and the values are escaped.
    pub fn line(&mut self, template: &str, values: &[(&str, &str)]) {
        if !self.text.is_empty() {
            self.push("\n");
        }
        self.fill(template, values);
    }

    fn fill(&mut self, template: &str, values: &[(&str, &str)]) {
        let mut rest = template;
        while let Some(at) = rest.find(['<', '{', '&']) {
            self.push(&rest[..at]);
            let (end, is_place) = match rest.as_bytes()[at] {
                b'<' => (rest[at..].find('>'), false),
                b'{' => (rest[at..].find('}'), true),
                _ => (None, false),
            };
            let Some(end) = end.map(|end| at + end) else {
                self.push(&rest[at..=at]);
                rest = &rest[at + 1..];
                continue;
            };
            let inner = &rest[at + 1..end];
            match values.iter().find(|(name, _)| is_place && *name == inner) {
                Some((_, value)) => self.push(value),
                None if is_place => self.push(&rest[at..=end]),
                None => self.tag(inner, values),
            }
            rest = &rest[end + 1..];
        }
        self.push(rest);
    }

    fn tag(&mut self, inner: &str, values: &[(&str, &str)]) {
        if self.full {
            return;
        }
        match inner.strip_prefix('/') {
            Some(name) => {
                if self.open.last().is_some_and(|open| open == name) {
                    self.open.pop();
                    self.text.push_str(&format!("</{name}>"));
                }
            }
            None => {
                // A value inside a tag is a part of a link's URL. The caller has percent-encoded it.
                let inner = values.iter().fold(inner.to_owned(), |tag, (name, value)| {
                    tag.replace(&format!("{{{name}}}"), &value.replace(['"', '<', '>'], " "))
                });
                self.open.push(inner.split(' ').next().unwrap_or_default().to_owned());
                self.text.push_str(&format!("<{inner}>"));
            }
        }
    }

    /// Escapes plain text and appends it. If the text is too long, only its beginning is appended.
    pub fn push(&mut self, text: &str) {
        for character in text.chars() {
            if self.full {
                return;
            }
            if character.len_utf16() > self.left {
                self.full = true;
                self.text.push_str(CUT);
                return;
            }
            self.left -= character.len_utf16();
            match character {
                '<' => self.text.push_str("&lt;"),
                '>' => self.text.push_str("&gt;"),
                '&' => self.text.push_str("&amp;"),
                other => self.text.push(other),
            }
        }
    }

    /// The number of UTF-16 units that the message can still take.
    pub fn left(&self) -> usize {
        if self.full { 0 } else { self.left }
    }

    /// Whether the message is full, so that a part of the text was cut.
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// Returns the HTML, with each tag closed.
    pub fn finish(mut self) -> String {
        while let Some(name) = self.open.pop() {
            self.text.push_str(&format!("</{name}>"));
        }
        self.text
    }
}

/// Converts HTML from this module to plain text, and cuts the text to the maximum length of a message. A `<` or `&`
/// that begins neither a tag nor an entity of `ENTITIES` stays as it is.
pub fn to_plain_text(html: &str) -> String {
    let mut text = String::new();
    let mut rest = html;
    while let Some(at) = rest.find(['<', '&']) {
        text.push_str(&rest[..at]);
        rest = &rest[at..];
        let is_tag = |inner: &str| {
            inner.len() <= LONGEST_TAG && inner.starts_with(|c: char| c == '/' || c.is_ascii_alphabetic())
        };
        let tag = rest.strip_prefix('<').and_then(|behind| behind.split_once('>'));
        let entity = ENTITIES.iter().find(|(entity, _)| rest.starts_with(entity));
        if let Some((_, behind)) = tag.filter(|(inner, _)| is_tag(inner)) {
            rest = behind;
        } else if let Some((entity, character)) = entity {
            text.push_str(character);
            rest = &rest[entity.len()..];
        } else {
            text.push_str(&rest[..1]);
            rest = &rest[1..];
        }
    }
    text.push_str(rest);
    cut(text, MESSAGE_UNITS)
}

/// Cuts a text to at most this many UTF-16 units.
fn cut(text: String, units: usize) -> String {
    if text.encode_utf16().count() <= units {
        return text;
    }
    let mut left = units.saturating_sub(1);
    let fits = |character: &char| {
        let fits = character.len_utf16() <= left;
        left = left.saturating_sub(character.len_utf16());
        fits
    };
    text.chars().take_while(fits).chain(CUT.chars()).collect()
}

/// Whether Telegram supports each tag in the text, and the tags are closed in the right order.
pub fn is_well_formed(html: &str) -> bool {
    const TAGS: [&str; 8] = ["b", "i", "u", "s", "code", "pre", "a", "blockquote"];
    let mut open = Vec::new();
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        let Some(end) = rest[at..].find('>') else { return false };
        let inner = &rest[at + 1..at + end];
        match inner.strip_prefix('/') {
            Some(name) if open.pop() != Some(name) => return false,
            Some(_) => {}
            None => match inner.split(' ').next().filter(|name| TAGS.contains(name)) {
                Some(name) => open.push(name),
                None => return false,
            },
        }
        rest = &rest[at + end + 1..];
    }
    open.is_empty()
}

/// Fills a template with its values. The result is HTML. Its visible text is cut to the maximum length of a message.
pub fn render_template(template: &str, values: &[(&str, &str)]) -> String {
    let mut html = Html::new(MESSAGE_UNITS);
    html.fill(template, values);
    html.finish()
}

/// Fills a template with its values as plain text, for fields where Telegram allows no markup. The result has at most
/// `characters` characters.
pub fn plain(template: &str, values: &[(&str, &str)], characters: usize) -> String {
    let filled = values.iter().fold(template.to_owned(), |text, (name, value)| {
        text.replace(&format!("{{{name}}}"), value)
    });
    if filled.chars().count() <= characters {
        return filled;
    }
    filled
        .chars()
        .take(characters.saturating_sub(1))
        .chain(CUT.chars())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_markup_stays_as_it_is() {
        assert_eq!(
            super::to_plain_text("<b>a < b & c > d &foo; </b>"),
            "a < b & c > d &foo; "
        );
        assert_eq!(super::to_plain_text("&amp;lt;"), "&lt;");
        assert_eq!(super::to_plain_text("a <"), "a <");
    }

    /// A simple model of Telegram: returns the text that Telegram would show, or the reason why Telegram would refuse
    /// it.
    fn shown(html: &str) -> Result<String, String> {
        let (mut text, mut open, mut rest) = (String::new(), Vec::new(), html);
        while let Some(character) = rest.chars().next() {
            match character {
                '<' => {
                    let end = rest.find('>').ok_or("a tag without an end")?;
                    match rest[1..end].strip_prefix('/') {
                        Some(name) if open.pop() != Some(name) => return Err(format!("</{name}> closes nothing")),
                        Some(_) => {}
                        None => open.push(&rest[1..end]),
                    }
                    rest = &rest[end + 1..];
                }
                '&' => {
                    let end = rest.find(';').ok_or("an entity without an end")?;
                    text.push(match &rest[..=end] {
                        "&lt;" => '<',
                        "&gt;" => '>',
                        "&amp;" => '&',
                        other => return Err(format!("{other} is no entity")),
                    });
                    rest = &rest[end + 1..];
                }
                '>' => return Err("a bare >".into()),
                other => {
                    text.push(other);
                    rest = &rest[other.len_utf8()..];
                }
            }
        }
        if open.is_empty() {
            Ok(text)
        } else {
            Err(format!("{open:?} is left open"))
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_of_our_own_html_is_what_telegram_shows_of_it(name in "\\PC{0,80}", other in any::<String>()) {
            let mut html = Html::new(MESSAGE_UNITS);
            html.line("<b>Заказ №{key}</b> & <i>{other}</i>", &[("key", &name), ("other", &other)]);
            let html = html.finish();
            prop_assert_eq!(super::to_plain_text(&html), shown(&html).unwrap());
        }

        #[test]
        fn any_text_is_good_html_within_the_limit(name in "\\PC{0,80}", other in any::<String>(), units in 1_usize..120) {
            let mut html = Html::new(units);
            html.line("<b>Заказ №{key}</b>", &[("key", &name)]);
            html.line("{name} & <i>{key}</i> {none}", &[("name", &other), ("key", &name)]);
            let whole = format!("Заказ №{name}\n{other} & {name} {{none}}");
            let (full, text) = (html.is_full(), shown(&html.finish()).unwrap());
            prop_assert!(text.encode_utf16().count() <= units);
            if full {
                prop_assert!(whole.starts_with(text.strip_suffix('…').unwrap()));
            } else {
                prop_assert_eq!(text, whole);
            }
        }

        #[test]
        fn a_plain_text_is_within_its_characters(value in any::<String>(), characters in 1_usize..50) {
            let cut = plain("{value}!", &[("value", &value)], characters);
            prop_assert!(cut.chars().count() <= characters);
        }
    }
}
