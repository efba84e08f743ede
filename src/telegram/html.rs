//! Text as Telegram takes it: its small HTML, within its limits. A limit counts what is seen, in units of UTF-16 and
//! without the markup, so that is what is counted here; what is too long is cut between two characters, and every tag
//! that was opened is closed.

/// What a message may show, in units of UTF-16.
pub const MESSAGE_UNITS: usize = 4096;
/// How the characters are written that stand for markup.
const ENTITIES: [(&str, &str); 3] = [("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")];
/// The longest tag, bytes.
const LONGEST_TAG: usize = 2000;
/// What stands where something was cut.
const CUT: &str = "…";

/// A message that is being written.
#[derive(Debug)]
pub struct Html {
    text: String,
    open: Vec<String>,
    left: usize,
    full: bool,
}

impl Html {
    /// With room for so many units.
    pub fn new(units: usize) -> Self {
        Self {
            text: String::new(),
            open: Vec::new(),
            // The sign of a cut has its place.
            left: units.saturating_sub(1),
            full: false,
        }
    }

    /// A line of a text with places: the markup is the text's own, what is put in is only text.
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
                // What stands in a link is written for a URL already.
                let inner = values.iter().fold(inner.to_owned(), |tag, (name, value)| {
                    tag.replace(&format!("{{{name}}}"), &value.replace(['"', '<', '>'], " "))
                });
                self.open.push(inner.split(' ').next().unwrap_or_default().to_owned());
                self.text.push_str(&format!("<{inner}>"));
            }
        }
    }

    /// Puts text in, as far as it fits.
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

    /// Units for which there is room still.
    pub fn left(&self) -> usize {
        if self.full { 0 } else { self.left }
    }

    /// Whether something was cut.
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// The text, with every tag closed.
    pub fn finish(mut self) -> String {
        while let Some(name) = self.open.pop() {
            self.text.push_str(&format!("</{name}>"));
        }
        self.text
    }
}

/// What is shown of our own HTML, as plain text within the limit of a message. What is no markup of ours stays as it is.
pub fn shown(html: &str) -> String {
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

/// Text within so many units of UTF-16.
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

/// Text with places, filled.
pub fn filled(template: &str, values: &[(&str, &str)]) -> String {
    let mut html = Html::new(MESSAGE_UNITS);
    html.fill(template, values);
    html.finish()
}

/// The same without markup, for where Telegram takes none: within so many characters.
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
        assert_eq!(super::shown("<b>a < b & c > d &foo; </b>"), "a < b & c > d &foo; ");
        assert_eq!(super::shown("&amp;lt;"), "&lt;");
        assert_eq!(super::shown("a <"), "a <");
    }

    /// What Telegram would show of it, or why it would refuse it.
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
            prop_assert_eq!(super::shown(&html), shown(&html).unwrap());
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
