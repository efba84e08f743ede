//! Parses rules for opening hours as people write them: `mon-fri=9:00-18:00`, `sun-thu 12-2`, `daily=0:00-24:00`,
//! `sat,sun=closed`, `2026-12-31=10:00-16:00`, `12-25=closed`.

use time::{Date, Duration, Month, Time};

/// A rule for opening hours: on certain days, the store is open at certain hours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The days for which the rule sets hours.
    pub days: Days,
    /// The opening hours on these days.
    pub open: Open,
}

/// The days for which a rule sets hours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Days {
    /// These weekdays of every week; 1 is Monday.
    Week(Vec<i16>),
    /// Only these dates.
    Dates(Vec<Date>),
    /// The same day of every year. The year of the date has no meaning.
    Yearly(Date),
    /// No days: the rule `none`, which deletes all opening hours of the store.
    Never,
}

/// The opening hours on the days of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Open {
    /// The store is open within these spans of time. Empty: the store is closed all day.
    Spans(Vec<Span>),
    /// The usual hours of the weekday apply again. The saved exception for the date is deleted.
    AsUsual,
}

/// A span of opening hours, by the store's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The opening time.
    pub opens: Time,
    /// The closing time. If it is not after `opens`, the store closes on the next day.
    pub closes: Time,
}

/// The most dates in one range of dates, such as `2026-12-31..2027-01-08=closed`.
const LONGEST_SPAN_DAYS: i64 = 366;
/// The short names of the weekdays in English and in Russian, beginning with Monday.
const WEEK: [[&str; 2]; 7] = [
    ["mo", "пн"],
    ["tu", "вт"],
    ["we", "ср"],
    ["th", "чт"],
    ["fr", "пт"],
    ["sa", "сб"],
    ["su", "вс"],
];
const FULL: [&str; 7] = [
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
];

/// Parses one rule. The text of the error has examples of valid rules.
pub fn rule(text: &str) -> Result<Rule, String> {
    const LOOKS: &str = "hours look like mon-fri=10:00-22:00, sun-thu=12:00-02:00, daily=0:00-24:00, sat,sun=closed, \
         2026-12-31=10:00-16:00 or 12-25=closed";
    read(text.trim()).ok_or_else(|| LOOKS.to_owned())
}

fn read(text: &str) -> Option<Rule> {
    let text = normalized(text);
    match text.as_str() {
        "none" => {
            let (days, open) = (Days::Never, Open::Spans(Vec::new()));
            return Some(Rule { days, open });
        }
        "24/7" => return read("daily=0:00-24:00"),
        _ => {}
    }
    let both = |days: &str, open: &str| {
        let days = days.trim().trim_end_matches(':');
        days_of(days.trim_end()).zip(open_of(open.trim()))
    };
    let (days, open) = match text.split_once('=') {
        Some((days, open)) => both(days, open)?,
        // Without `=`, the days end at the first blank after which the rest of the text consists of hours. Hours
        // without days apply to every day.
        None => {
            let blanks = text.match_indices(char::is_whitespace);
            let mut ends = blanks.map(|(at, _)| text.split_at(at));
            both("daily", &text).or_else(|| ends.find_map(|(days, open)| both(days, open)))?
        }
    };
    let is_of_week = matches!(days, Days::Week(_));
    // Refuse `AsUsual` for weekdays, because `AsUsual` only deletes the exception for a date.
    (open != Open::AsUsual || !is_of_week).then_some(Rule { days, open })
}

/// Returns the text in lower case, with all dashes replaced by `-`.
fn normalized(text: &str) -> String {
    text.to_lowercase().replace(['–', '—', '−'], "-")
}

fn days_of(text: &str) -> Option<Days> {
    if let Some((from, to)) = text.split_once("..") {
        let (from, to) = (date(from)?, date(to)?);
        let days = (to - from).whole_days();
        let span = (0..=days).map(|day| from + Duration::days(day));
        return (0..LONGEST_SPAN_DAYS)
            .contains(&days)
            .then(|| Days::Dates(span.collect()));
    }
    if let Some(date) = date(text) {
        return Some(Days::Dates(vec![date]));
    }
    if let Some(day) = yearly(text) {
        return Some(Days::Yearly(day));
    }
    let mut week = Vec::new();
    for part in text.split(',') {
        week.extend(week_days(part.trim())?);
    }
    week.sort_unstable();
    week.dedup();
    Some(Days::Week(week))
}

/// Parses a date such as `2026-12-31` or `31.12.2026`. `None`: the text has another form.
fn date(text: &str) -> Option<Date> {
    let (year, month, day) = match text.trim().split(['-', '.']).collect::<Vec<_>>()[..] {
        [year, month, day] if year.len() == 4 => (year, month, day),
        [day, month, year] if year.len() == 4 && text.contains('.') => (year, month, day),
        _ => return None,
    };
    calendar(year.parse().ok()?, month, day)
}

/// Parses a day of every year, such as `12-25` or `25.12`. The year of the result is a leap year, so that 29 February
/// is valid.
fn yearly(text: &str) -> Option<Date> {
    let (month, day) = match text.split_once('-') {
        Some((month, day)) => (month, day),
        None => text.split_once('.').map(|(day, month)| (month, day))?,
    };
    calendar(2000, month, day)
}

fn calendar(year: i32, month: &str, day: &str) -> Option<Date> {
    let month = Month::try_from(month.parse::<u8>().ok()?).ok()?;
    Date::from_calendar_date(year, month, day.parse().ok()?).ok()
}

fn week_days(text: &str) -> Option<Vec<i16>> {
    match text {
        "daily" | "everyday" | "every day" | "ежедневно" => return Some((1..=7).collect()),
        "weekdays" | "будни" => return Some((1..=5).collect()),
        "weekend" | "weekends" | "выходные" => return Some(vec![6, 7]),
        _ => {}
    }
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let (from, to) = (week_day(from.trim())?, week_day(to.trim())?);
    // A range such as `sun-thu` continues past the end of the week.
    let days = (to - from).rem_euclid(7);
    Some((0..=days).map(|day| (from + day - 1).rem_euclid(7) + 1).collect())
}

/// Parses a weekday such as `mon`, `mo`, `monday` or `пн`. Returns its number; 1 is Monday.
fn week_day(text: &str) -> Option<i16> {
    let is_it = |(short, full): &(&[&str; 2], &&str)| {
        short[1] == text
            || text.len() >= 2 && text.starts_with(short[0]) && full.starts_with(text)
            || text == "tues" && short[0] == "tu"
    };
    let found = WEEK.iter().zip(&FULL).position(|day| is_it(&day))?;
    i16::try_from(found + 1).ok()
}

fn open_of(text: &str) -> Option<Open> {
    match text {
        "closed" | "off" | "закрыто" => return Some(Open::Spans(Vec::new())),
        "usual" => return Some(Open::AsUsual),
        _ => {}
    }
    let spans: Option<Vec<Span>> = text.split(',').map(|part| span_of(part.trim())).collect();
    spans.map(Open::Spans)
}

/// Parses a span of hours such as `9:00-18:00`, `9-18`, `22:00–02:00`, `10am-10pm` or `с 10 до 22`. `None`: the text
/// has another form.
pub fn span(text: &str) -> Option<Span> {
    span_of(&normalized(text))
}

fn span_of(text: &str) -> Option<Span> {
    let (opens, closes) = match text.strip_prefix("с ").or_else(|| text.strip_prefix("from ")) {
        Some(span) => span.split_once(" до ").or_else(|| span.split_once(" to "))?,
        None => text.split_once('-')?,
    };
    let (opens, closes) = (clock(opens.trim())?, clock(closes.trim())?);
    Some(Span { opens, closes })
}

/// Parses a time such as `9:00`, `09.30`, `9` or `9:30 pm`. `24:00` means midnight, the start of the next day.
fn clock(text: &str) -> Option<Time> {
    let halves = [("am", 0), ("pm", 12)];
    if let Some((time, hours)) = halves
        .iter()
        .find_map(|(half, hours)| Some((text.strip_suffix(half)?, *hours)))
    {
        let time = clock(time.trim_end())?;
        let hour = Some(time.hour()).filter(|hour| (1..=12).contains(hour))? % 12;
        return time.replace_hour(hour + hours).ok();
    }
    let (hour, minute) = text.split_once([':', '.']).unwrap_or((text, "0"));
    let is_number = |text: &str| !text.is_empty() && text.len() <= 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(hour) || !is_number(minute) || text.contains([':', '.']) && minute.len() != 2 {
        return None;
    }
    match (hour.parse().ok()?, minute.parse().ok()?) {
        (24, 0) => Some(Time::MIDNIGHT),
        (hour, minute) => Time::from_hms(hour, minute, 0).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::{date, time};

    fn week(text: &str) -> (Vec<i16>, Vec<(Time, Time)>) {
        match rule(text) {
            Ok(Rule {
                days: Days::Week(days),
                open: Open::Spans(spans),
            }) => (days, spans.iter().map(|span| (span.opens, span.closes)).collect()),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn hours_are_read_as_people_write_them() {
        let nine_to_six = vec![(time!(9:00), time!(18:00))];
        for (text, days) in [
            ("mon-fri=09:00-18:00", vec![1, 2, 3, 4, 5]),
            ("Mon-Fri 9:00-18:00", vec![1, 2, 3, 4, 5]),
            ("weekdays=9-18", vec![1, 2, 3, 4, 5]),
            ("monday = 9.00 – 18.00", vec![1]),
            ("sun-thu=9:00-18:00", vec![1, 2, 3, 4, 7]),
            ("sat,sun=9:00-18:00", vec![6, 7]),
            ("fri-mon,wed=9:00-18:00", vec![1, 3, 5, 6, 7]),
            ("weekend=9:00-18:00", vec![6, 7]),
            ("Mo,Tu=9:00-18:00", vec![1, 2]),
            ("пн-чт=9:00-18:00", vec![1, 2, 3, 4]),
            ("daily=9:00-18:00", vec![1, 2, 3, 4, 5, 6, 7]),
            ("9:00-18:00", vec![1, 2, 3, 4, 5, 6, 7]),
            ("9:00 - 18:00", vec![1, 2, 3, 4, 5, 6, 7]),
            ("9am - 6pm", vec![1, 2, 3, 4, 5, 6, 7]),
            ("every day 9-18", vec![1, 2, 3, 4, 5, 6, 7]),
            ("sat, sun 9-18", vec![6, 7]),
            ("mon - fri 9-18", vec![1, 2, 3, 4, 5]),
            ("mon-fri: 9:00 am—6:00 pm", vec![1, 2, 3, 4, 5]),
            ("Пн - Пт с 9 до 18", vec![1, 2, 3, 4, 5]),
            ("ежедневно 9—18", vec![1, 2, 3, 4, 5, 6, 7]),
        ] {
            assert_eq!(week(text), (days, nine_to_six.clone()), "{text}");
        }
        assert_eq!(week("daily=10:00-24:00").1, [(time!(10:00), time!(0:00))]);
        assert_eq!(week("24/7").1, [(time!(0:00), time!(0:00))]);
        assert_eq!(week("sun=12:00-02:00"), (vec![7], vec![(time!(12:00), time!(2:00))]));
        let twice = [(time!(10:00), time!(14:00)), (time!(17:00), time!(22:30))];
        assert_eq!(week("fri=10:00-14:00,17:00-22:30").1, twice);
        assert_eq!(week("mon=closed"), (vec![1], vec![]));
        assert_eq!(week("sat, sun closed"), (vec![6, 7], vec![]));
        assert_eq!(week("fri 10-14, 17-22:30").1, twice);
        assert_eq!(week("12pm-12am").1, [(time!(12:00), time!(0:00))]);
    }

    #[test]
    fn holidays_are_dates_spans_of_them_and_days_of_each_year() {
        let days = |text: &str| rule(text).unwrap().days;
        assert_eq!(days("2026-12-31=10:00-16:00"), Days::Dates(vec![date!(2026 - 12 - 31)]));
        assert_eq!(days("31.12.2026=closed"), Days::Dates(vec![date!(2026 - 12 - 31)]));
        let Days::Dates(span) = days("2026-12-31..2027-01-08=closed") else {
            panic!("a span")
        };
        assert_eq!((span.len(), span[8]), (9, date!(2027 - 01 - 08)));
        assert_eq!(days("12-25=closed"), Days::Yearly(date!(2000 - 12 - 25)));
        assert_eq!(days("25.12=closed"), Days::Yearly(date!(2000 - 12 - 25)));
        assert_eq!(days("02-29=closed"), Days::Yearly(date!(2000 - 02 - 29)));
        assert_eq!(rule("2026-12-31=usual").unwrap().open, Open::AsUsual);
        assert_eq!(days("none"), Days::Never);
    }

    #[test]
    fn invalid_hours_are_refused_and_the_error_shows_the_format() {
        for wrong in [
            "",
            "always",
            "mon",
            "mon=",
            "always open",
            "mon=25:00-26:00",
            "mon=9:60-10:00",
            "mon=24:30-25:00",
            "xyz=10:00-22:00",
            "m=9-18",
            "mon=10",
            "mon=10:0-12:00",
            "mon-fri-sat=9-18",
            "2026-02-30=closed",
            "2026-12-31..2026-12-01=closed",
            "mon=usual",
            "2026-01-01..2028-01-01=closed",
            "13-25=closed",
            "mon,=9-18",
            "monkey=9-18",
            "-1:00-9:00",
        ] {
            assert!(rule(wrong).is_err(), "{wrong}");
        }
        assert!(rule("always open").unwrap_err().contains("mon-fri=10:00-22:00"));
    }
}
