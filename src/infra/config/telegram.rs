//! The settings of the Telegram bot and of its messages.

use std::time::Duration;

use secrecy::SecretString;
use toml::Value;

use super::Telegram;
use super::load::Reading;

/// Minimum time from the deadline for sending a message to the end of the message's lease, in seconds. The node needs
/// this time to save the outcome. Until the lease ends, no other node sends the message.
const LEASE_MARGIN_S: u64 = 1;

impl Reading {
    /// Reads the section `telegram`. Without a token there is no bot, but the other settings are still checked.
    pub(super) fn telegram(&mut self) -> Telegram {
        let api_url = |value: &Value| {
            let url = value.as_str()?;
            (url.starts_with("http://") || url.starts_with("https://")).then(|| url.to_owned())
        };
        let telegram = Telegram {
            token: SecretString::from(self.secret("telegram.token", is_bot_token, "a token as @BotFather gives it")),
            api_url: self
                .get("telegram.api_url", "a URL such as https://api.telegram.org", api_url)
                .unwrap_or_default(),
            proxy: self.proxy("telegram.proxy"),
            texts: Some(self.text("telegram.texts"))
                .filter(|path| !path.is_empty())
                .map(Into::into),
            digest_after: Duration::from_secs(60 * self.number("telegram.digest_after_minutes", 1..=24 * 60)),
            digest_threshold: self.number("telegram.digest_threshold", 2..=1000) as usize,
            deadline: Duration::from_secs(self.number("telegram.deadline_seconds", 1..=60)),
            lease: Duration::from_secs(self.number("telegram.lease_seconds", 2..=600)),
        };
        let too_short = telegram.lease.as_secs() < telegram.deadline.as_secs() + LEASE_MARGIN_S;
        let lease = self.values.get("telegram.lease_seconds").cloned();
        if let Some((value, place)) = lease.filter(|_| too_short) {
            let allowed = "more than telegram.deadline_seconds";
            self.complain("telegram.lease_seconds", Some(&value), &place, allowed);
        }
        telegram
    }

    /// Parses a proxy's address. The report of an invalid address leaves out its text, because it may contain a
    /// password. `None`: no proxy is set.
    fn proxy(&mut self, name: &str) -> Option<SecretString> {
        const KINDS: [&str; 4] = ["http://", "https://", "socks5://", "socks5h://"];
        let is_good = |text: &str| KINDS.iter().any(|kind| text.starts_with(kind)) && reqwest::Proxy::all(text).is_ok();
        let allowed = "a proxy such as http://user:password@host:3128 or socks5h://host:1080";
        let proxy = self.secret(name, is_good, allowed);
        (!proxy.is_empty()).then(|| SecretString::from(proxy))
    }

    /// Reads a secret, such as a token. If the secret is invalid, the report does not contain it. Empty: no secret is
    /// set.
    pub(super) fn secret(&mut self, name: &str, is_good: impl Fn(&str) -> bool, allowed: &str) -> String {
        let Some((value, place)) = self.values.get(name).cloned() else {
            return String::new();
        };
        match value.as_str() {
            Some(text) if text.is_empty() || is_good(text) => text.to_owned(),
            _ => {
                self.complain(name, None, &place, allowed);
                String::new()
            }
        }
    }
}

/// Whether a text has the form of a bot token: a number, a colon and a secret, as in `123456:ABC-DEF1234ghIkl`.
pub(super) fn is_bot_token(text: &str) -> bool {
    text.split_once(':').is_some_and(|(number, secret)| {
        !number.is_empty()
            && number.bytes().all(|byte| byte.is_ascii_digit())
            && secret.len() >= 10
            && secret
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    })
}
