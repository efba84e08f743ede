//! Parses the shops' words for yes and no.

use super::zone;

/// Words for no, in lower case. Lists use the same words to find soft-deleted rows.
pub const NO: [&str; 5] = ["false", "f", "no", "n", "off"];
const YES: [&str; 5] = ["true", "t", "yes", "y", "on"];

/// Whether a text means no: a word for no, a zero, or the empty text.
pub fn says_no(text: &str) -> bool {
    let text = text.trim().to_lowercase();
    let digits = text.trim_start_matches(['+', '-']);
    let is_zero = digits.starts_with('0') && digits.chars().all(|c| matches!(c, '0' | '.'));
    text.is_empty() || is_zero || NO.contains(&text.as_str())
}

/// Parses a text as yes or no. A timestamp means yes, since that time. `None`: neither.
pub fn yes_or_no(text: &str) -> Option<bool> {
    if says_no(text) {
        return Some(false);
    }
    let is_yes = YES.contains(&text.to_lowercase().as_str());
    (is_yes || text.parse::<f64>().is_ok_and(f64::is_finite) || zone::moment(text, "UTC").is_some()).then_some(true)
}
