//! Parses durations as people write them: `30d`, `12h`, `15m`, `60s`.

use std::time::Duration;

const SECOND: u64 = 1;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
/// The longest valid duration. A longer one is probably a mistake, and could overflow a date.
const LONGEST: Duration = Duration::from_secs(100 * 365 * DAY);

/// Parses a duration. The error explains the format to the person.
pub fn parse(text: &str) -> Result<Duration, String> {
    let read = || {
        let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let unit = match unit {
            "s" => SECOND,
            "m" => MINUTE,
            "h" => HOUR,
            "d" => DAY,
            _ => return None,
        };
        let duration = Duration::from_secs(number.parse::<u64>().ok()?.checked_mul(unit)?);
        (!duration.is_zero() && duration <= LONGEST).then_some(duration)
    };
    read().ok_or_else(|| "a length of time is a number and s, m, h or d, such as 90s or 30d".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_time_is_a_number_and_a_unit() {
        assert_eq!(parse("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse("30d"), Ok(Duration::from_secs(30 * DAY)));
        for wrong in [
            "",
            "s",
            "30",
            "-1s",
            "0s",
            "1w",
            "1.5h",
            "99999999999999999999d",
            "36501d",
            "5µ",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
