//! Parses times in the forms that shops store, and checks IANA zone names.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{self, TimeZone};
use time::OffsetDateTime;

/// The zone of times without a zone, if the mapping names no zone. It is UTC, because most frameworks write UTC.
pub const USUAL_ZONE: &str = "UTC";
/// A number of at least this size is a time in milliseconds since 1970. A smaller number is a time in seconds.
const FIRST_MILLISECONDS: f64 = 1e11;
/// The seconds since 1970 that are times of orders: from 1973 until 2100.
const POSSIBLE_SECONDS: std::ops::Range<f64> = 1e8..4_102_444_800.0;

/// Whether `name` is an IANA zone name that a mapping may use.
pub fn is_known(name: &str) -> bool {
    // An abbreviation such as EST is also in the zone database, but it ignores summer time.
    name == "UTC" || name.contains('/') && tz::db().get(name).is_ok()
}

/// The most similar IANA zone name, as a suggestion; `None`: no name is similar enough.
pub fn nearest(name: &str) -> Option<&'static str> {
    static NAMES: std::sync::LazyLock<Vec<String>> =
        std::sync::LazyLock::new(|| tz::db().available().map(|name| name.as_str().to_owned()).collect());
    let wanted = name.to_lowercase();
    let names = NAMES.iter().filter(|name| name.contains('/'));
    let likeness = |known: &&String| {
        let known = known.to_lowercase();
        let city = known.rsplit('/').next().unwrap_or(&known).to_owned();
        let of_wanted = wanted.rsplit('/').next().unwrap_or(&wanted);
        strsim::damerau_levenshtein(&wanted, &known).min(strsim::damerau_levenshtein(of_wanted, &city))
    };
    let near = names.map(|known| (likeness(&known), known)).min()?;
    // A short name is similar to too many zone names, so fewer edits are allowed for it.
    (near.0 <= 3.min(name.len() / 3)).then_some(near.1)
}

/// Parses a time; `None`: the text is not a time. If the text has no zone, `zone` applies. Accepts RFC 3339, the
/// Postgres forms of `timestamp`, `date` and `timestamptz`, and seconds or milliseconds since 1970.
pub fn moment(text: &str, zone: &str) -> Option<OffsetDateTime> {
    let text = text.trim();
    if let Ok(number) = text.parse::<f64>() {
        return since_1970(number);
    }
    if let Ok(timestamp) = text.parse::<jiff::Timestamp>() {
        return to_offset(timestamp);
    }
    let local = text
        .parse::<DateTime>()
        .ok()
        .or_else(|| Some(text.parse::<Date>().ok()?.to_datetime(Time::midnight())))?;
    let zoned = local.to_zoned_datetime(time_zone(zone)).ok()?;
    to_offset(zoned.timestamp())
}

/// The time of a number of seconds or milliseconds since 1970. `None`: the number is something else, such as
/// `20261130183000` or `1830`.
fn since_1970(number: f64) -> Option<OffsetDateTime> {
    let seconds = if number >= FIRST_MILLISECONDS {
        number / 1e3
    } else {
        number
    };
    if !POSSIBLE_SECONDS.contains(&seconds) {
        return None;
    }
    OffsetDateTime::from_unix_timestamp_nanos((seconds * 1e9) as i128).ok()
}

fn to_offset(timestamp: jiff::Timestamp) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp_nanos(timestamp.as_nanosecond()).ok()
}

fn time_zone(name: &str) -> TimeZone {
    tz::db().get(name).unwrap_or(TimeZone::UTC)
}

/// The local date and time in the zone; `None`: the time is out of range.
pub fn local(at: OffsetDateTime, zone: &str) -> Option<DateTime> {
    let timestamp = jiff::Timestamp::from_nanosecond(at.unix_timestamp_nanos()).ok()?;
    Some(timestamp.to_zoned_datetime(time_zone(zone)).datetime())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use time::macros::datetime;

    #[test]
    fn a_moment_is_read_in_every_form_that_a_database_has() {
        let noon = datetime!(2026-11-28 12:00:00.5 UTC);
        for text in [
            "2026-11-28T12:00:00.5Z",
            "2026-11-28T15:00:00.500+03:00",
            "2026-11-28T12:00:00.5",
            "2026-11-28 12:00:00.5",
            "2026-11-28 15:00:00.5+03",
            "1795867200.5",
            "1795867200500",
        ] {
            assert_eq!(moment(text, "UTC"), Some(noon), "{text}");
        }
        assert_eq!(moment("2026-11-28", "UTC"), Some(datetime!(2026-11-28 0:00 UTC)));
    }

    #[test]
    fn a_time_without_a_zone_is_of_the_zone_that_the_mapping_says() {
        assert_eq!(
            moment("2026-11-28T15:00:00", "Europe/Moscow"),
            Some(datetime!(2026-11-28 12:00 UTC))
        );
        assert_eq!(
            moment("2026-07-01T12:00:00", "Europe/Paris"),
            Some(datetime!(2026-07-01 10:00 UTC))
        );
        assert_eq!(
            moment("2026-11-28T12:00:00Z", "Europe/Moscow"),
            Some(datetime!(2026-11-28 12:00 UTC))
        );
    }

    #[test]
    fn what_is_no_moment_is_none() {
        for text in [
            "",
            "завтра в семь",
            "infinity",
            "-infinity",
            "0044-03-15T00:00:00 BC",
            "1e400",
            "-5",
            "19:30",
        ] {
            assert_eq!(moment(text, "UTC"), None, "{text}");
        }
    }

    #[test]
    fn a_zone_that_is_meant_is_found() {
        assert!(is_known("Europe/Moscow") && is_known("UTC"));
        for name in ["UTC+3", "+03", "3", "MSK", "Europe/Moscov", "EST"] {
            assert!(!is_known(name), "{name}");
        }
        assert_eq!(nearest("Europe/Moscov"), Some("Europe/Moscow"));
        assert_eq!(nearest("moscow"), Some("Europe/Moscow"));
        assert_eq!(nearest("+03"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_a_moment_or_none(text in ".{0,40}") {
            let _ = moment(&text, "Europe/Moscow");
        }
    }
}
