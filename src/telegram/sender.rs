//! Sends a message once, and returns the outcome. The caller's claim is the right of this node to send the message
//! until a lease ends.

use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use secrecy::SecretString;
use serde::Deserialize;
use serde_json::value::RawValue;
use teloxide::payloads::{
    EditMessageReplyMarkup, EditMessageReplyMarkupSetters as _, EditMessageText, EditMessageTextSetters as _,
    SendMessage, SendMessageSetters as _,
};
use teloxide::types::{ChatId, LinkPreviewOptions, MessageId, ReplyParameters, ThreadId};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::api::Problem;
use super::client::Client;
use super::digest;
use super::plain_text_retry::{Content, content_after};
use super::refusal::{Refusal, RefusalKind, Request};
use super::render::render;
use crate::delivery::channel::{Block, Channel, ChatChannel, Claim, Outage, SendOutcome, SentMessage};
use crate::delivery::event_view::Item;
use crate::delivery::next_message::{ChatFormat, Work};

/// The time that is added to each pause that Telegram requests.
const AFTER_RETRY_AFTER: Duration = Duration::from_millis(500);

impl Channel for Client {
    type Message = Claim;
    type Outcome = SendOutcome;

    async fn send(&self, claim: &Claim, deadline: Duration) -> SendOutcome {
        send(self, claim, deadline).await
    }
}

impl ChatChannel for Client {
    fn token(&self) -> &SecretString {
        self.api.token()
    }

    fn outage(&self) -> watch::Receiver<Option<Outage>> {
        self.reachability.outage.subscribe()
    }

    async fn keep_probing(&self, stop: &CancellationToken) {
        self.probe_during_outages(stop).await;
    }

    fn that_fit(style: &ChatFormat, items: Vec<Item>) -> Vec<Item> {
        digest::that_fit(style, items)
    }
}

/// Sends the message of a claim once. If the lease might end during the send, sends nothing, because another node may
/// then send the same message. After `deadline`, writes nothing more to the connection.
async fn send(client: &Client, claim: &Claim, deadline: Duration) -> SendOutcome {
    let message = content_after(render(&claim.work), claim.refusals);
    let opens = message.opens.clone();
    let began = Instant::now();
    if began >= claim.send_by {
        return SendOutcome::NotBegun;
    }
    let (request, answer) = match target(claim) {
        Some(there) => (
            Request::Edit,
            until(began + deadline, edit(client, claim, there, message, deadline)).await,
        ),
        None => (
            Request::Message,
            until(began + deadline, new(client, claim, message, deadline)).await,
        ),
    };
    let no_answer = || Problem::NoAnswer(format!("no answer within {} s", deadline.as_secs()));
    match answer.unwrap_or_else(|| Err(no_answer())) {
        Ok(answer) if request == Request::Message => {
            SendOutcome::Sent(number(&answer).map(|id| SentMessage { id, opens }))
        }
        Ok(_) => SendOutcome::Sent(None),
        Err(Problem::Refused(refusal)) => outcome_of(&refusal, request),
        // `is_reached` sends another request. If Telegram responds to it, only this send failed.
        Err(Problem::NoAnswer(reason)) => match client.is_reached().await {
            true => SendOutcome::Failed(reason),
            false => SendOutcome::NotReached(reason),
        },
    }
}

/// The id of the sent message that this claim edits. `None`: the claim is for a new message.
fn target(claim: &Claim) -> Option<MessageId> {
    match &claim.work {
        Work::OrderMessage(it) => it.message.map(MessageId),
        Work::ListButtons { message, .. } | Work::Keyboard { message, .. } => Some(MessageId(*message)),
        Work::Reply { message, .. } => message.map(MessageId),
        Work::Digest { .. } | Work::Note(_) | Work::Alarm { .. } => None,
    }
}

/// The id of the message to which the new message of this claim replies. `None`: the new message is not a reply.
fn reply_to(claim: &Claim) -> Option<MessageId> {
    match &claim.work {
        Work::Note(noted) => noted.reply_to.map(MessageId),
        _ => None,
    }
}

async fn new(client: &Client, claim: &Claim, content: Content, deadline: Duration) -> Result<Box<RawValue>, Problem> {
    let mut request = SendMessage::new(ChatId(claim.telegram_id), content.text)
        .link_preview_options(no_preview())
        .disable_notification(claim.work.is_silent());
    // If the order's message was deleted, Telegram still sends the note, but not as a reply.
    request.reply_parameters = reply_to(claim).map(|there| ReplyParameters::new(there).allow_sending_without_reply());
    request.parse_mode = content.parse_mode;
    request.message_thread_id = claim.topic.map(|topic| ThreadId(MessageId(topic)));
    if !content.keyboard.inline_keyboard.is_empty() {
        request = request.reply_markup(content.keyboard);
    }
    client.call(&request, deadline).await
}

async fn edit(
    client: &Client,
    claim: &Claim,
    there: MessageId,
    content: Content,
    deadline: Duration,
) -> Result<Box<RawValue>, Problem> {
    let chat = ChatId(claim.telegram_id);
    if let Work::ListButtons { .. } | Work::Keyboard { .. } = claim.work {
        let request = EditMessageReplyMarkup::new(chat, there).reply_markup(content.keyboard);
        return client.call(&request, deadline).await;
    }
    let mut request = EditMessageText::new(chat, there, content.text)
        .link_preview_options(no_preview())
        .reply_markup(content.keyboard);
    request.parse_mode = content.parse_mode;
    client.call(&request, deadline).await
}

fn no_preview() -> LinkPreviewOptions {
    LinkPreviewOptions {
        is_disabled: true,
        url: None,
        prefer_small_media: false,
        prefer_large_media: false,
        show_above_text: false,
    }
}

/// Reads the id of the new message from Telegram's response. `None`: the response has no id.
fn number(message: &RawValue) -> Option<i32> {
    #[derive(Deserialize)]
    struct Sent {
        message_id: i32,
    }
    let sent: Option<Sent> = serde_json::from_str(message.get()).ok();
    sent.map(|sent| sent.message_id)
}

/// Returns the outcome of a send that Telegram refused.
fn outcome_of(refusal: &Refusal, request: Request) -> SendOutcome {
    let reason = refusal.description.clone();
    match refusal.meaning(request) {
        RefusalKind::UnknownToken => SendOutcome::Stopped("Telegram does not know the bot's token".into()),
        RefusalKind::TooMany(pause) => SendOutcome::Throttled(pause + AFTER_RETRY_AFTER),
        RefusalKind::Migrated(chat) => SendOutcome::Migrated(chat),
        RefusalKind::ChatGone => SendOutcome::Gone(reason),
        RefusalKind::NoRights => SendOutcome::Blocked {
            block: Block::Chat,
            reason,
        },
        RefusalKind::TopicClosed => SendOutcome::Blocked {
            block: Block::TopicClosed,
            reason,
        },
        RefusalKind::TopicGone => SendOutcome::Blocked {
            block: Block::TopicGone,
            reason,
        },
        RefusalKind::NotModified => SendOutcome::Sent(None),
        RefusalKind::EditRefused => SendOutcome::MessageGone,
        RefusalKind::MessageRefused => SendOutcome::Refused(reason),
        RefusalKind::Conflict => SendOutcome::Failed(reason),
    }
}

/// Runs a future until the time `moment`, and never polls it after that. Returns `None` if the future is not ready by
/// then. A timer alone is not enough. If the process was suspended, the timer and the socket may be ready together, and
/// the future could write to the socket first.
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
}
