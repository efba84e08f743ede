//! Text as Telegram takes it: its small HTML, within its limits. A limit counts what is seen, in units of UTF-16 and
//! without the markup, so that is what is counted here; what is too long is cut between two characters, and every tag
//! that was opened is closed.

/// What a message may show, in units of UTF-16.
pub const MESSAGE_UNITS: usize = 4096;
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
                None => self.tag(inner),
            }
            rest = &rest[end + 1..];
        }
        self.push(rest);
    }

    fn tag(&mut self, inner: &str) {
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
                self.open.push(inner.to_owned());
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
