//! Parses a duration as people write it: `30` (minutes), `30 min`, `2h`, `1h 30m`, `2 часа`.

use std::time::Duration;

/// The words for a minute and for an hour, in English and in Russian.
const UNITS: [(&[&str], u64); 2] = [
    (
        &[
            "m",
            "min",
            "mins",
            "minute",
            "minutes",
            "м",
            "мин",
            "минут",
            "минуту",
            "минуты",
        ],
        60,
    ),
    (
        &["h", "hr", "hrs", "hour", "hours", "ч", "час", "часа", "часов"],
        60 * 60,
    ),
];
/// The most digits of a number in a duration.
const DIGITS: usize = 6;

/// Parses a duration. A number without a unit counts minutes. `None`: the text has another form, or the duration is
/// zero.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let text = text.to_lowercase();
    let mut rest = text.trim().trim_end_matches('.');
    let mut seconds = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let after = after.trim_start();
        let letters = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let number = Some(number).filter(|number| number.len() <= DIGITS)?;
        seconds += number.parse::<u64>().ok()? * unit_s(unit)?;
        rest = after.trim_start_matches(['.', ',']).trim_start();
    }
    (seconds > 0).then(|| Duration::from_secs(seconds))
}

/// The length of a unit, seconds. `None`: the word is not a unit.
fn unit_s(word: &str) -> Option<u64> {
    let unit = UNITS.iter().find(|(words, _)| words.contains(&word));
    match word {
        "" => Some(60),
        _ => unit.map(|(_, seconds)| *seconds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_read_as_people_write_it() {
        for (text, minutes) in [
            ("30", 30),
            ("30m", 30),
            ("30 min", 30),
            ("15 мин.", 15),
            ("2h", 120),
            ("2 Hours", 120),
            ("1h 30m", 90),
            ("1 час 15 минут", 75),
        ] {
            assert_eq!(duration(text), Some(Duration::from_secs(minutes * 60)), "{text}");
        }
        for wrong in [
            "",
            "m",
            "0",
            "0m",
            "-5",
            "soon",
            "30s",
            "30 days",
            "5µ",
            "99999999999h",
            "1 2x",
        ] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }
}
