//! Amounts of money: exact whole numbers of minor units (kopecks, cents), with a currency. No floating-point numbers
//! are used.

use std::fmt;

use iso_currency::Currency as Iso;

/// The number of digits after the decimal point if ISO 4217 does not list the currency.
const USUAL_DIGITS: u8 = 2;
/// The maximum number of digits of an amount. A longer number is not an amount of money.
const MAX_DIGITS: usize = 18;

/// A currency, by its three capital letters such as `RUB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Currency([u8; 3]);

impl Currency {
    /// Roubles, the default currency of a store.
    pub const DEFAULT: Self = Self(*b"RUB");

    /// Parses three letters in upper or lower case. `None`: the text has another form.
    pub fn from_code(code: &str) -> Option<Self> {
        let letters: [u8; 3] = code.trim().to_ascii_uppercase().into_bytes().try_into().ok()?;
        letters.iter().all(u8::is_ascii_uppercase).then_some(Self(letters))
    }

    /// Whether ISO 4217 lists the currency.
    pub fn is_known(self) -> bool {
        Iso::from_code(self.as_str()).is_some()
    }

    /// The three letters of the currency.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("XXX")
    }

    /// The number of digits after the decimal point: 2 for RUB, 0 for JPY, 3 for KWD.
    pub fn digits(self) -> u8 {
        let iso = Iso::from_code(self.as_str()).and_then(Iso::exponent);
        iso.and_then(|digits| u8::try_from(digits).ok()).unwrap_or(USUAL_DIGITS)
    }

    /// The sign of the currency, such as `₽`. For a currency without a sign, its three letters.
    pub fn sign(self) -> String {
        Iso::from_code(self.as_str()).map_or_else(|| self.as_str().to_owned(), |iso| iso.symbol().to_string())
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The unit in which a shop writes amounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Minor units (kopecks, cents): `1250` means 12.50.
    Minor,
    /// Major units (roubles, dollars): `12.50` means 12.50.
    Major,
}

/// Parses an amount in any form that shops use: `1250`, `12.50`, `12,50`, `1 234,50`, `$1,234.50`, `1.234,50 €`, `-5`.
/// Returns minor units, rounded to the currency's last digit. `None`: the text is not an amount.
pub fn minor_units(text: &str, unit: Unit, currency: Currency) -> Option<i64> {
    let number = Decimal::read(text)?;
    let shift = match unit {
        Unit::Minor => 0,
        Unit::Major => i32::from(currency.digits()),
    };
    number.scaled(shift)
}

/// Whether a text is an amount that is no whole number, such as `12.50`.
pub fn has_fraction(text: &str) -> bool {
    let is_whole = |number: Decimal| {
        let behind = usize::try_from(number.behind).unwrap_or_default();
        number.digits.iter().rev().take(behind).all(|digit| *digit == 0)
    };
    Decimal::read(text).is_some_and(|number| !is_whole(number))
}

/// A decimal number as a sequence of digits. `behind` is the number of digits after the decimal point. A negative
/// `behind` stands for zeros after the digits: -2 means two zeros.
struct Decimal {
    is_negative: bool,
    digits: Vec<u8>,
    behind: i32,
}

impl Decimal {
    fn read(text: &str) -> Option<Self> {
        // A currency sign, the letters of a currency, or spaces may surround the number.
        let is_part = |c: char| c.is_ascii_digit() || matches!(c, '.' | ',' | '-' | '+' | '\u{2212}');
        let begin = text.find(is_part)?;
        let end = text.rfind(|c: char| c.is_ascii_digit())? + 1;
        let (before, number, after) = (text.get(..begin)?, text.get(begin..end)?, &text[end..]);
        let is_sign =
            |part: &str| part.chars().all(|c| !c.is_ascii_digit() && !c.is_control()) && part.chars().count() <= 8;
        if !is_sign(before) || !is_sign(after) {
            return None;
        }
        let (is_negative, number) = match number.strip_prefix(['-', '\u{2212}']) {
            Some(rest) => (true, rest),
            None => (
                before.trim_start().starts_with(['-', '\u{2212}', '(']),
                number.strip_prefix('+').unwrap_or(number),
            ),
        };
        // A currency sign may follow the minus, as in `-$5`.
        let number = number.trim_start_matches(|c: char| !c.is_ascii_digit() && c != '.' && c != ',');
        let (mantissa, exponent) = match number.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (number, 0),
        };
        let point = Point::find(mantissa)?;
        let mut digits = Vec::with_capacity(mantissa.len());
        let mut behind = 0_i32;
        for (place, c) in mantissa.char_indices() {
            match c {
                '0'..='9' => {
                    digits.push(c as u8 - b'0');
                    behind += i32::from(point.is_before(place));
                }
                '.' | ',' | '\'' | '_' | ' ' | '\u{a0}' | '\u{202f}' | '\u{2009}' => {}
                _ => return None,
            }
        }
        let behind = behind.checked_sub(exponent)?;
        Some(Self {
            is_negative,
            digits,
            behind,
        })
    }

    /// Multiplies the number by ten to the power of `shift`, and rounds it to a whole number, half away from zero.
    /// `None`: the result is too large.
    fn scaled(&self, shift: i32) -> Option<i64> {
        let drop = self.behind.checked_sub(shift)?;
        let significant = self.digits.iter().skip_while(|digit| **digit == 0).count();
        if significant == 0 {
            return Some(0);
        }
        let keep = self.digits.len() as i64 - i64::from(drop);
        if keep < 0 {
            return Some(0);
        }
        let leading_zeros = (self.digits.len() - significant) as i64;
        if keep - leading_zeros > MAX_DIGITS as i64 {
            return None;
        }
        let digit = |place: i64| {
            usize::try_from(place)
                .ok()
                .and_then(|place| self.digits.get(place))
                .copied()
                .unwrap_or(0)
        };
        let mut value: i64 = 0;
        for place in leading_zeros.min(keep)..keep {
            value = value.checked_mul(10)?.checked_add(i64::from(digit(place)))?;
        }
        value += i64::from(digit(keep) >= 5);
        Some(if self.is_negative { -value } else { value })
    }
}

/// The place of the decimal point in a number.
enum Point {
    Nowhere,
    At(usize),
}

impl Point {
    /// Finds the decimal point. It is the last `.` or `,` of the number, unless this character separates thousands.
    /// `None`: the separators contradict each other, as in `1,2,34`.
    fn find(mantissa: &str) -> Option<Self> {
        let Some(place) = mantissa.rfind(['.', ',']) else {
            return Some(Self::Nowhere);
        };
        let separator = mantissa.as_bytes()[place];
        let same = mantissa.bytes().filter(|byte| *byte == separator).count();
        let others = mantissa
            .bytes()
            .filter(|byte| matches!(byte, b'.' | b',') && *byte != separator)
            .count();
        let behind = mantissa.len() - place - 1;
        match (same, others) {
            // Several separators of one kind separate thousands, as in `1,234,567`.
            (2.., 0) if behind == 3 => Some(Self::Nowhere),
            (2.., _) => None,
            // A single comma before three digits separates thousands. A single point is a decimal point, because
            // databases write decimal numbers with a point.
            (1, 0) if separator == b',' && behind == 3 => Some(Self::Nowhere),
            _ => Some(Self::At(place)),
        }
    }

    fn is_before(&self, place: usize) -> bool {
        matches!(self, Self::At(point) if place > *point)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn usd() -> Currency {
        Currency::from_code("usd").unwrap()
    }

    #[test]
    fn a_fraction_is_found_however_it_is_written() {
        for text in ["24.99", "0.05", "\u{20ac}1.234,50", "1e-1", "12.5"] {
            assert!(has_fraction(text), "{text}");
        }
        for text in ["24", "24.00", "1,234", "1.5e1", "0", "Tea", ""] {
            assert!(!has_fraction(text), "{text}");
        }
    }

    #[test]
    fn major_units_become_minor_ones_exactly() {
        for (text, minor) in [
            ("12.50", 1250),
            ("12.5", 1250),
            ("12", 1200),
            ("0.07", 7),
            (".5", 50),
            ("1.005", 101),
            ("1.004", 100),
            ("-3.10", -310),
            ("1.25e1", 1250),
            ("1 234,50", 123_450),
            ("1,234.50", 123_450),
            ("1.234,50 €", 123_450),
            ("$1,234.50", 123_450),
            ("-$5.00", -500),
            ("1,234", 123_400),
            ("12,50", 1250),
            ("500,00 ₽", 50_000),
            ("0", 0),
            ("00012.00", 1200),
        ] {
            assert_eq!(minor_units(text, Unit::Major, usd()), Some(minor), "{text}");
        }
    }

    #[test]
    fn each_currency_has_its_own_digits() {
        let yen = Currency::from_code("JPY").unwrap();
        assert_eq!(minor_units("1250.00", Unit::Major, yen), Some(1250));
        let dinar = Currency::from_code("KWD").unwrap();
        assert_eq!(minor_units("1.25", Unit::Major, dinar), Some(1250));
        assert_eq!(minor_units("1250.0", Unit::Minor, usd()), Some(1250));
        assert_eq!(Currency::from_code("ZZZ").unwrap().digits(), 2);
        assert_eq!(Currency::from_code("рубли"), None);
    }

    #[test]
    fn what_is_no_amount_is_none() {
        for text in [
            "",
            "по счёту",
            "1e400",
            "NaN",
            "Infinity",
            "99999999999999999999",
            "1.2.3",
            "12 pcs of 5",
            "-",
        ] {
            assert_eq!(minor_units(text, Unit::Major, usd()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_an_amount_or_none(text in ".{0,40}") {
            let _ = minor_units(&text, Unit::Major, usd());
            let _ = minor_units(&text, Unit::Minor, usd());
        }

        #[test]
        fn an_amount_that_is_written_in_major_units_is_read_back(minor in -10_000_000_000_i64..10_000_000_000) {
            let text = format!("{}{}.{:02}", if minor < 0 { "-" } else { "" }, minor.abs() / 100, minor.abs() % 100);
            prop_assert_eq!(minor_units(&text, Unit::Major, usd()), Some(minor));
        }
    }
}
