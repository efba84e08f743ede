//! Formats single values for people: a time, an amount, a customer's text.

use jiff::civil::Date;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use time::OffsetDateTime;

use super::catalog::Catalog;
use crate::domain::money::Currency;
use crate::domain::subject::Quantity;
use crate::sources::zone;

/// The characters that are percent-encoded in the query of a URL: all characters except letters, digits, `.`, `-` and
/// `_`.
const IN_URL: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'-').remove(b'_');
/// Maximum length of the address in a link to a map, characters. Telegram refuses longer links.
const MAP_CHARACTERS: usize = 120;
/// The distance from today, in hours, above which a date is shown with its year: about ten months.
const FAR_HOURS: i64 = 300 * 24;

/// A time in a time zone, such as `19:03`. If the day is not today, the text includes the date: `Tuesday, November 24,
/// 19:03`. Empty if the time zone is unknown.
pub fn moment(at: OffsetDateTime, time_zone: &str, words: &Catalog) -> String {
    let (Some(local), Some(today)) = (
        zone::local(at, time_zone),
        zone::local(OffsetDateTime::now_utc(), time_zone),
    ) else {
        return String::new();
    };
    let time = format!("{:02}:{:02}", local.hour(), local.minute());
    if local.date() == today.date() {
        return time;
    }
    let date = day(local.date(), today.date(), words);
    words
        .get("language.date")
        .replace("{date}", &date)
        .replace("{time}", &time)
}

/// A day in words, such as `Tuesday, November 24`. If the day is far from today, the text includes the year.
pub fn day(date: Date, today: Date, words: &Catalog) -> String {
    let nth = |names: &str, number: i8| {
        let name = words.get(names).split(' ').nth(usize::from(number.unsigned_abs()));
        name.unwrap_or_default().to_owned()
    };
    let away = date.duration_since(today).as_hours().abs();
    let form = match away > FAR_HOURS {
        true => "language.day_year",
        false => "language.day",
    };
    words
        .get(form)
        .replace(
            "{weekday}",
            &nth("language.weekdays", date.weekday().to_monday_zero_offset()),
        )
        .replace("{day}", &date.day().to_string())
        .replace("{month}", &nth("language.months", date.month() - 1))
        .replace("{year}", &date.year().to_string())
}

/// Converts a customer's text to one line. The result cannot imitate another line of the message, or change the
/// direction (left to right) of the text after it.
pub fn inline(text: &str) -> String {
    // Remove Unicode isolate marks from the text: such a mark could end the isolate that is added below.
    let text: String = text.chars().filter(|c| !matches!(c, '\u{2066}'..='\u{2069}')).collect();
    let words = text.split(|c: char| c.is_whitespace() || c.is_control());
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    let line = words.join(" ");
    match line.chars().any(turns) {
        true => format!("\u{2068}{line}\u{2069}"),
        false => line,
    }
}

/// Whether a character may change the text direction. Such a character is a right-to-left letter, for example in Hebrew
/// or Arabic, or a direction mark.
fn turns(c: char) -> bool {
    matches!(c, '\u{590}'..='\u{8ff}' | '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{fb1d}'..='\u{fdff}'
        | '\u{fe70}'..='\u{fefc}' | '\u{10800}'..='\u{10fff}' | '\u{1e800}'..='\u{1efff}')
}

/// Shortens and percent-encodes an address for the query of a map's URL.
pub fn in_url(address: &str) -> String {
    let words: Vec<&str> = address.split_whitespace().collect();
    let short: String = words.join(" ").chars().take(MAP_CHARACTERS).collect();
    utf8_percent_encode(&short, IN_URL).to_string()
}

/// A quantity as text, in the form that the shop recorded.
pub fn said_of(quantity: &Quantity) -> String {
    match quantity.to_json() {
        serde_json::Value::String(words) => inline(&words),
        number => number.to_string(),
    }
}

/// Formats an amount as people of the language write it, such as `500,00 ₽`. `minor` is the amount in minor units, such
/// as cents. The spaces in the result are non-breaking.
pub fn amount(minor: i64, currency: Currency, words: &Catalog) -> String {
    let digits = usize::from(currency.digits());
    // If the sign has right-to-left letters, it would change the text direction of the line, so the currency's code is
    // used.
    let sign = Some(currency.sign()).filter(|sign| !sign.chars().any(turns));
    let sign = sign.unwrap_or_else(|| currency.as_str().to_owned());
    let text = format!("{:0>width$}", minor.unsigned_abs(), width = digits + 1);
    let (whole, fraction) = text.split_at(text.len() - digits);
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            grouped.push_str(words.get("language.thousands"));
        }
        grouped.push(digit);
    }
    if digits > 0 {
        grouped = format!("{grouped}{}{fraction}", words.get("language.decimal"));
    }
    let minus = if minor < 0 { "-" } else { "" };
    if words.get("language.sign") == "before" {
        let gap = if sign.ends_with(char::is_alphabetic) {
            "\u{a0}"
        } else {
            ""
        };
        format!("{minus}{sign}{gap}{grouped}")
    } else {
        format!("{minus}{grouped}\u{a0}{sign}")
    }
}

#[cfg(test)]
mod tests {
    use super::super::catalog;
    use super::*;

    #[test]
    fn no_text_turns_the_direction_of_a_line() {
        assert_eq!(inline("Иван\u{202e} 00,0\u{2069}"), "\u{2068}Иван\u{202e} 00,0\u{2069}");
        assert_eq!(inline("שלום\nעולם"), "\u{2068}שלום עולם\u{2069}");
    }

    #[test]
    fn a_day_is_written_with_its_weekday_and_a_distant_one_with_its_year() {
        let today = jiff::civil::date(2026, 11, 28);
        for (date, ru, en) in [
            (
                jiff::civil::date(2026, 12, 31),
                "четверг, 31 декабря",
                "Thursday, December 31",
            ),
            (jiff::civil::date(2027, 1, 1), "пятница, 1 января", "Friday, January 1"),
            (
                jiff::civil::date(2027, 11, 28),
                "воскресенье, 28 ноября 2027 года",
                "Sunday, November 28, 2027",
            ),
            (
                jiff::civil::date(2025, 11, 24),
                "понедельник, 24 ноября 2025 года",
                "Monday, November 24, 2025",
            ),
        ] {
            assert_eq!(day(date, today, catalog::of("ru")), ru);
            assert_eq!(day(date, today, catalog::of("en")), en);
        }
    }

    #[test]
    fn amounts_have_the_digits_of_their_currency() {
        let (ru, of) = (catalog::of("ru"), |code| Currency::from_code(code).unwrap());
        assert_eq!(amount(5, of("RUB"), ru), "0,05\u{a0}₽");
        assert_eq!(amount(-123_456, of("JPY"), ru), "-123\u{a0}456\u{a0}¥");
        let en = catalog::of("en");
        assert_eq!(amount(1_234_567, of("KWD"), en), "KWD\u{a0}1,234.567");
        assert_eq!(amount(1_234_567, of("KWD"), ru), "1\u{a0}234,567\u{a0}KWD");
        assert_eq!(amount(-1250, of("USD"), en), "-$12.50");
        assert_eq!(amount(1250, of("XQQ"), en), "XQQ\u{a0}12.50");
        assert_eq!(amount(100, of("XQQ"), ru), "1,00\u{a0}XQQ");
    }
}
