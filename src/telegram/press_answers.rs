//! Answers presses of buttons, within Telegram's rate limits. Telegram shows an answer as a short pop-up.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use teloxide::payloads::{AnswerCallbackQuery, AnswerCallbackQuerySetters as _};
use teloxide::types::CallbackQueryId;

use super::client::{ASK_DEADLINE, Client};
use crate::infra::rate_limiter::{Rate, RateLimiter};

/// The rate limit of this node's answers to presses. It is separate from the limit for messages.
const ANSWERS: Rate = Rate::per_second(25, 25);
/// The longest time for which an answer may wait for the rate limit. If an answer comes later than this, Telegram does
/// not show it.
const ANSWER_WAIT: Duration = Duration::from_secs(15);

/// Answers presses of buttons. Each answer is sent in a separate task, so that no answer waits for Telegram's response
/// to another answer.
pub(super) struct PressAnswers {
    client: Client,
    limiter: Mutex<RateLimiter>,
}

impl PressAnswers {
    pub fn new(client: Client) -> Self {
        let limiter = Mutex::new(RateLimiter::new(ANSWERS));
        Self { client, limiter }
    }

    /// Answers a press with this text. If the press is too old, Telegram refuses the answer, and the refusal is
    /// ignored.
    pub fn give(&self, press: CallbackQueryId, text: String) {
        let wait = {
            let mut limiter = self.limiter.lock().unwrap_or_else(PoisonError::into_inner);
            limiter.reserve(Instant::now(), ANSWER_WAIT)
        };
        let Ok(wait) = wait else {
            return tracing::debug!("a press was not answered: too many are pressed at once");
        };
        let client = self.client.clone();
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            let request = AnswerCallbackQuery::new(press).text(text);
            if let Err(problem) = client.call(&request, ASK_DEADLINE).await {
                tracing::debug!(reason = problem.reason(), "a press was not answered");
            }
        });
    }
}
