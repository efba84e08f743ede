//! Parses the words for yes and no that shops store.

use super::zone;

/// Words for no, in lower case.
const NO: [&str; 5] = ["false", "f", "no", "n", "off"];
const YES: [&str; 5] = ["true", "t", "yes", "y", "on"];

/// Whether a text means no: a word for no, a number that is 0, or the empty text.
pub fn says_no(text: &str) -> bool {
    let text = text.trim().to_lowercase();
    let digits = text.trim_start_matches(['+', '-']);
    let is_zero = digits.starts_with('0') && digits.chars().all(|c| matches!(c, '0' | '.'));
    text.is_empty() || is_zero || NO.contains(&text.as_str())
}

/// Returns an SQL condition: the text expression `text` means no, or is null. Queries use the condition to find the
/// rows that are not marked as deleted.
pub fn says_no_sql(text: &str) -> String {
    format!(
        "coalesce(lower(btrim({text}, E' \\t\\n\\r\\f\\v')), '') ~ '^([+-]*0[0.]*|{}|)$'",
        NO.join("|")
    )
}

/// Whether a text means yes: a word for yes, a number other than 0, or a time, such as the time of the payment. `None`:
/// the text means neither yes nor no.
pub fn yes_or_no(text: &str) -> Option<bool> {
    if says_no(text) {
        return Some(false);
    }
    let is_yes = YES.contains(&text.to_lowercase().as_str());
    (is_yes || text.parse::<f64>().is_ok_and(f64::is_finite) || zone::moment(text, "UTC").is_some()).then_some(true)
}
