//! Checks the names of time zones. Only IANA names are accepted. Postgres accepts more, but some texts have an
//! unexpected meaning there. For example, `UTC+3` is three hours *west* of Greenwich. The error suggests the name that
//! was probably meant.

use crate::infra::db::Client;

use super::Error;

/// An SQL condition: the name is a region, UTC, or a fixed offset such as `Etc/GMT-3`. It excludes abbreviations such
/// as `EST`, which ignore summer time, and the system's directories `posix/` and `right/`.
const IS_REGION: &str = "(name = 'UTC' or name ~ '/') and name !~ '^(posix|right)/'";
/// The prefix of the names of fixed offsets. They are never suggested, because people misread them: `Etc/GMT-3` is
/// three hours *east* of Greenwich.
const FIXED_OFFSET: &str = "Etc/GMT";
/// Names of Greenwich Mean Time. For these names, the error suggests `UTC`, and not `Europe/London`, which has summer
/// time.
const GREENWICH: [&str; 5] = ["gmt", "ut", "z", "zulu", "greenwich"];
/// If several zones have the same offset, one of these names is suggested. Earlier names are preferred.
const KNOWN: [&str; 16] = [
    "Europe/London",
    "Europe/Berlin",
    "Europe/Helsinki",
    "Europe/Moscow",
    "Asia/Dubai",
    "Asia/Yekaterinburg",
    "Asia/Almaty",
    "Asia/Novosibirsk",
    "Asia/Singapore",
    "Asia/Tokyo",
    "Asia/Vladivostok",
    "America/New_York",
    "America/Chicago",
    "America/Denver",
    "America/Los_Angeles",
    "America/Sao_Paulo",
];
/// A name may differ from a suggested name by at most this many inserted, deleted or changed characters.
const TYPOS: usize = 3;

/// A time zone that Postgres knows.
struct Zone {
    name: String,
    abbreviation: String,
    /// The current offset east of Greenwich, seconds.
    offset_s: i32,
}

/// Returns an error if the text is not an IANA name of a time zone.
pub(super) async fn check(client: &Client, text: &str) -> Result<(), Error> {
    let sql =
        format!("select name, abbrev, extract(epoch from utc_offset)::int from pg_timezone_names where {IS_REGION}");
    let mut zones = Vec::new();
    for row in client.query(&sql, &[]).await? {
        zones.push(Zone {
            name: row.try_get(0)?,
            abbreviation: row.try_get(1)?,
            offset_s: row.try_get(2)?,
        });
    }
    if zones.iter().any(|zone| zone.name == text) {
        return Ok(());
    }
    Err(Error::Zone {
        given: text.to_owned(),
        meant: meant(text, &zones),
    })
}

/// Finds the name of the time zone that the operator probably meant by `text`. `None`: no time zone has a similar name.
fn meant(text: &str, zones: &[Zone]) -> Option<String> {
    let plain = |text: &str| text.trim().to_lowercase().replace([' ', '-'], "_");
    let wanted = plain(text);
    if GREENWICH.contains(&wanted.as_str()) {
        return Some("UTC".to_owned());
    }
    let last = |zone: &&Zone| plain(zone.name.rsplit('/').next().unwrap_or_default());
    let first = |is_it: &dyn Fn(&&Zone) -> bool| {
        best(
            zones
                .iter()
                .filter(|zone| !zone.name.starts_with(FIXED_OFFSET))
                .filter(is_it),
        )
    };
    first(&|zone| plain(&zone.name) == wanted)
        .or_else(|| first(&|zone| last(zone) == wanted))
        .or_else(|| offset_s(text).and_then(|offset_s| first(&|zone| zone.offset_s == offset_s)))
        .or_else(|| first(&|zone| zone.abbreviation.eq_ignore_ascii_case(text.trim())))
        .or_else(|| {
            let distance = |zone: &Zone| {
                let whole = strsim::levenshtein(&plain(&zone.name), &wanted);
                whole.min(strsim::levenshtein(&last(&zone), &wanted))
            };
            let nearest = zones
                .iter()
                .map(distance)
                .min()
                .filter(|distance| *distance <= TYPOS.min(wanted.len() / 3))?;
            first(&|zone| distance(zone) == nearest)
        })
}

/// Chooses one of the zones: the zone that comes first in `KNOWN`. If none is in `KNOWN`, chooses the zone with the
/// shortest name.
fn best<'a>(zones: impl Iterator<Item = &'a Zone>) -> Option<String> {
    let place = |name: &str| KNOWN.iter().position(|known| *known == name).unwrap_or(KNOWN.len());
    let best = zones.min_by_key(|zone| (place(&zone.name), !zone.name.contains('/'), zone.name.len()));
    best.map(|zone| zone.name.clone())
}

/// Parses an offset such as `UTC+3`, `GMT-05:30`, `+03` or `3`, where `+` means east of Greenwich. Returns seconds east
/// of Greenwich. `None`: the text has another form.
fn offset_s(text: &str) -> Option<i32> {
    let text = text.trim().to_uppercase();
    let rest = text
        .trim_start_matches("ETC/")
        .trim_start_matches("UTC")
        .trim_start_matches("GMT")
        .trim();
    let (sign, digits) = match rest.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, rest.strip_prefix('+').unwrap_or(rest)),
    };
    let (hours, minutes) = match digits.split_once(':') {
        Some(parts) => parts,
        None if digits.len() == 4 => digits.split_at(2),
        None => (digits, "0"),
    };
    let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
    ((0..=14).contains(&hours) && (0..60).contains(&minutes)).then_some(sign * (hours * 3600 + minutes * 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_that_is_meant_is_found() {
        let zone = |name: &str, abbreviation: &str, hours: f64| Zone {
            name: name.into(),
            abbreviation: abbreviation.into(),
            offset_s: (hours * 3600.0) as i32,
        };
        let zones = [
            zone("Europe/Moscow", "MSK", 3.0),
            zone("Europe/Istanbul", "+03", 3.0),
            zone("Etc/GMT-3", "+03", 3.0),
            zone("America/Argentina/Buenos_Aires", "-03", -3.0),
            zone("America/New_York", "EST", -5.0),
            zone("Asia/Kolkata", "IST", 5.5),
            zone("UTC", "UTC", 0.0),
        ];
        for (text, expected) in [
            ("UTC+3", "Europe/Moscow"),
            ("+03", "Europe/Moscow"),
            ("+0300", "Europe/Moscow"),
            ("3", "Europe/Moscow"),
            ("GMT+03:00", "Europe/Moscow"),
            ("MSK", "Europe/Moscow"),
            ("moscow", "Europe/Moscow"),
            ("europe/moscow", "Europe/Moscow"),
            ("Europe/Moskow", "Europe/Moscow"),
            ("moskow", "Europe/Moscow"),
            ("new york", "America/New_York"),
            ("UTC-5", "America/New_York"),
            ("UTC+5:30", "Asia/Kolkata"),
            ("utc", "UTC"),
            ("GMT", "UTC"),
        ] {
            assert_eq!(meant(text, &zones).as_deref(), Some(expected), "{text}");
        }
        for text in ["Mars", "", "UTC+99", "somewhere over the rainbow"] {
            assert_eq!(meant(text, &zones), None, "{text}");
        }
    }
}
