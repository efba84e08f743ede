//! What shops write for yes and no.

use super::zone;

/// Words that say no, in lower case. Lists find what is soft-deleted by the same.
pub const NO: [&str; 5] = ["false", "f", "no", "n", "off"];
const YES: [&str; 5] = ["true", "t", "yes", "y", "on"];

/// Whether a text says no: by a word, by a zero, or by nothing.
pub fn says_no(text: &str) -> bool {
    let text = text.trim().to_lowercase();
    let digits = text.trim_start_matches(['+', '-']);
    let is_zero = digits.starts_with('0') && digits.chars().all(|c| matches!(c, '0' | '.'));
    text.is_empty() || is_zero || NO.contains(&text.as_str())
}

/// What a text says to a question: a moment is when it became so. `None`: it says something else.
pub fn yes_or_no(text: &str) -> Option<bool> {
    if says_no(text) {
        return Some(false);
    }
    let is_yes = YES.contains(&text.to_lowercase().as_str());
    (is_yes || text.parse::<f64>().is_ok_and(f64::is_finite) || zone::moment(text, "UTC").is_some()).then_some(true)
}
