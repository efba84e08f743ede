//! Sends what a claim says, once, and tells what became of it.

use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use teloxide::RequestError;
use teloxide::payloads::{EditMessageTextSetters as _, SendMessageSetters as _};
use teloxide::prelude::Requester as _;
use teloxide::types::{ChatId, InlineKeyboardButton, InlineKeyboardMarkup, LinkPreviewOptions, MessageId, ParseMode};
use tokio::time::{Instant, sleep_until};

use super::client::{Client, is_token, reason};
use super::message::{self, Button, Message};
use crate::delivery::queue::Claim;
use crate::delivery::retry;
use crate::delivery::settle::Outcome;
use crate::delivery::work::Work;

/// Added to the time that Telegram asks to be left alone for.
const AFTER_RETRY_AFTER: Duration = Duration::from_millis(500);

/// Sends. Begins nothing once the claim's lease might end under it, and touches no socket behind its deadline.
pub async fn send(client: &Client, claim: &Claim, deadline: Duration) -> Outcome {
    let message = message::render(&claim.work);
    let began = Instant::now();
    if began >= claim.send_by {
        return Outcome::NotBegun;
    }
    match until(began + deadline, attempt(client, claim, message)).await {
        Some(Ok(message)) => Outcome::Sent(message),
        Some(Err(error)) => outcome_of(&error, claim.failures),
        None => failed(claim.failures, format!("no answer within {} s", deadline.as_secs())),
    }
}

/// The message's number, where it is a new one.
async fn attempt(client: &Client, claim: &Claim, message: Message) -> Result<Option<i32>, RequestError> {
    let chat = ChatId(claim.telegram_id);
    let keyboard = keyboard(&message.buttons);
    let no_preview = LinkPreviewOptions {
        is_disabled: true,
        url: None,
        prefer_small_media: false,
        prefer_large_media: false,
        show_above_text: false,
    };
    let (there, muted) = match &claim.work {
        Work::Subject(it) => (it.message, it.style.muted),
        Work::Digest { style, .. } | Work::Alarm { style, .. } => (None, style.muted),
        Work::Words { .. } => (None, false),
    };
    if let Some(there) = there {
        client
            .bot
            .edit_message_text(chat, MessageId(there), message.text)
            .parse_mode(ParseMode::Html)
            .link_preview_options(no_preview)
            .reply_markup(keyboard)
            .await?;
        return Ok(None);
    }
    let mut request = client
        .bot
        .send_message(chat, message.text)
        .parse_mode(ParseMode::Html)
        .link_preview_options(no_preview)
        .disable_notification(muted);
    if !message.buttons.is_empty() {
        request = request.reply_markup(keyboard);
    }
    Ok(Some(request.await?.id.0))
}

pub(super) fn keyboard(rows: &[Vec<Button>]) -> InlineKeyboardMarkup {
    let button = |(label, press): &Button| InlineKeyboardButton::callback(label, press);
    InlineKeyboardMarkup::new(rows.iter().map(|row| row.iter().map(button).collect::<Vec<_>>()))
}

fn failed(failures: u32, reason: String) -> Outcome {
    Outcome::Failed {
        reason,
        pause: retry::pause(failures + 1, fastrand::f64()),
    }
}

/// What an error means. Telegram tells the kinds apart by its texts only.
fn outcome_of(error: &RequestError, failures: u32) -> Outcome {
    match error {
        RequestError::RetryAfter(seconds) => Outcome::Throttled(seconds.duration() + AFTER_RETRY_AFTER),
        RequestError::MigrateToChatId(chat) => Outcome::Migrated(chat.0),
        error if is_token(error) => Outcome::Stopped("Telegram does not know the bot's token".into()),
        RequestError::Api(error) => outcome_of_text(&error.to_string(), failures),
        error => failed(failures, reason(error)),
    }
}

fn outcome_of_text(text: &str, failures: u32) -> Outcome {
    let begins = |starts: &[&str]| starts.iter().any(|start| text.starts_with(start));
    if begins(&["Bad Request: message is not modified"]) {
        Outcome::Sent(None)
    } else if begins(&[
        "Bad Request: message to edit not found",
        "Bad Request: MESSAGE_ID_INVALID",
        "Bad Request: message can't be edited",
    ]) {
        Outcome::MessageGone
    } else if begins(&[
        "Forbidden",
        "Bad Request: chat not found",
        "Bad Request: group is deactivated",
        "Bad Request: user is deactivated",
        "Bad Request: PEER_ID_INVALID",
        "Bad Request: have no rights to send a message",
        "Bad Request: not enough rights to send",
    ]) {
        Outcome::Disabled(text.to_owned())
    } else if begins(&["Bad Request"]) {
        Outcome::Refused(text.to_owned())
    } else {
        failed(failures, text.to_owned())
    }
}

/// Runs a future until a moment, and never polls it behind it. A timer alone would not do: in a process that was stopped
/// for long, the socket may be ready as well, and would be written to first.
async fn until<F: Future>(moment: Instant, future: F) -> Option<F::Output> {
    let (mut future, mut timer) = (pin!(future), pin!(sleep_until(moment)));
    std::future::poll_fn(move |context| {
        if Instant::now() >= moment || timer.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        future.as_mut().poll(context).map(Some)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_is_polled_behind_its_moment() {
        let polled = until(Instant::now(), async { panic!("polled") }).await;
        assert_eq!(polled, None::<()>);
        assert_eq!(
            until(Instant::now() + Duration::from_secs(60), async { 5 }).await,
            Some(5)
        );
    }

    #[test]
    fn telegrams_errors_are_told_apart() {
        for (text, expected) in [
            (
                "Forbidden: bot was kicked from the group chat",
                Outcome::Disabled("Forbidden: bot was kicked from the group chat".into()),
            ),
            (
                "Bad Request: chat not found",
                Outcome::Disabled("Bad Request: chat not found".into()),
            ),
            (
                "Bad Request: message is not modified: specified new",
                Outcome::Sent(None),
            ),
            ("Bad Request: message to edit not found", Outcome::MessageGone),
            (
                "Bad Request: can't parse entities",
                Outcome::Refused("Bad Request: can't parse entities".into()),
            ),
        ] {
            assert_eq!(outcome_of_text(text, 0), expected);
        }
        assert!(
            matches!(outcome_of_text("Bad Gateway", 3), Outcome::Failed { pause, .. } if pause >= Duration::from_secs(30))
        );
    }
}
