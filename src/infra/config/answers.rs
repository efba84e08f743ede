//! The settings of people's answers to orders and bookings. An answer is a status change, such as "accepted".

use std::time::Duration;

use secrecy::SecretString;

use super::Answers;
use super::load::Reading;
use crate::infra::standard_webhook::signature;

impl Reading {
    /// Reads the section `answers`.
    pub(super) fn answers(&mut self) -> Answers {
        let is_good = |text: &str| text.split_whitespace().all(signature::is_good);
        let allowed =
            "secrets of 16 characters or more, with a space between them; behind whsec_, base64 of 16 bytes or more";
        let secrets = self.secret("answers.secret", is_good, allowed);
        Answers {
            step_back: Duration::from_secs(60 * self.number("answers.step_back_minutes", 0..=1440)),
            secrets: secrets.split_whitespace().map(SecretString::from).collect(),
        }
    }
}
