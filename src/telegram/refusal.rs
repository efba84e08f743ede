//! Classifies the errors with which the Bot API refuses a request. The meaning of an error depends on its HTTP status
//! and on its description. If the description is unknown, only the status counts.

use std::time::Duration;

/// The pause after a status 429 (too many requests), if Telegram does not say how long to wait.
const UNNAMED_PAUSE: Duration = Duration::from_secs(30);

/// An error response of the Bot API to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The HTTP status: 400 to 499.
    pub code: u16,
    /// Telegram's text, such as `Bad Request: chat not found`.
    pub description: String,
    /// The pause that Telegram requests with a status 429 (too many requests), seconds. `None`: Telegram requests no
    /// pause here.
    pub retry_after_s: Option<u64>,
    /// If the group became a supergroup: its new chat id. `None`: the refusal has another reason.
    pub migrated_to: Option<i64>,
}

/// The kind of a request that Telegram refused. Some descriptions have a different meaning if the request was an edit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    /// The request sends a new message.
    Message,
    /// The request edits a sent message.
    Edit,
}

/// The meaning of a refusal. The next attempt depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RefusalKind {
    /// Telegram does not know the bot's token.
    UnknownToken,
    /// Another program polls with the same token, or the bot has a webhook (Telegram's status 409).
    Conflict,
    /// Telegram accepts no further request before this time has passed.
    TooMany(Duration),
    /// The group became a supergroup, and has this new chat id.
    Migrated(i64),
    /// The chat takes no messages of this bot any more: the chat is deleted, or the bot was blocked or removed.
    ChatGone,
    /// The bot has no right to write to the chat now.
    NoRights,
    /// The topic of the forum is closed.
    TopicClosed,
    /// The topic of the forum was deleted.
    TopicGone,
    /// The edit changes nothing: the message already has this content.
    NotModified,
    /// The message cannot be edited: it was deleted, is too old, or another account wrote it.
    EditRefused,
    /// Telegram refuses this message. Other messages to the same chat may succeed.
    MessageRefused,
}

/// The phrase with which Telegram reports a syntax error in a message. This phrase is checked first. The rest of the
/// description quotes the message, and may contain phrases of the lists below by chance.
const NOT_PARSED: &str = "can't parse";
const NOT_MODIFIED: [&str; 2] = ["message is not modified", "message_not_modified"];
const NOT_EDITABLE: [&str; 8] = [
    "message to edit not found",
    "message not found",
    "message_id_invalid",
    "message can't be edited",
    "message_author_required",
    "message_edit_time_expired",
    "there is no text in the message to edit",
    "message identifier is not specified",
];
const TOPIC_GONE: [&str; 5] = [
    "topic_deleted",
    "topic_id_invalid",
    "thread not found",
    "thread_id_invalid",
    "thread_invalid",
];
const TOPIC: [&str; 3] = ["topic_", "message thread", "message_thread"];
const GONE: [&str; 17] = [
    "chat not found",
    "peer_id_invalid",
    "chat_id_invalid",
    "channel_invalid",
    "channel_private",
    "chat_forbidden",
    "is deactivated",
    "was deactivated",
    "user_deactivated",
    "chat was deleted",
    "was blocked by the user",
    "user_is_blocked",
    "was kicked",
    "is not a member",
    "can't access the chat",
    "no access to the user",
    "user not found",
];
const RIGHTS: [&str; 8] = [
    "rights",
    "write access",
    "_forbidden",
    "admin_required",
    "restricted",
    "user_banned_in_channel",
    "payment_required",
    "premium_required",
];

impl Refusal {
    /// Returns the meaning of this refusal. `request` is the kind of the refused request.
    pub fn meaning(&self, request: Request) -> RefusalKind {
        if let Some(chat) = self.migrated_to {
            return RefusalKind::Migrated(chat);
        }
        let text = self.description.to_lowercase();
        let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
        match self.code {
            401 | 421 => RefusalKind::UnknownToken,
            // A longer description, such as `not found: method not found`, has another cause: the server is too old to
            // have this method.
            404 if text == "not found" => RefusalKind::UnknownToken,
            409 => RefusalKind::Conflict,
            420 | 429 => RefusalKind::TooMany(self.pause(&text)),
            403 if says(&RIGHTS) => RefusalKind::NoRights,
            403 => RefusalKind::ChatGone,
            400 if text.contains(NOT_PARSED) => RefusalKind::MessageRefused,
            400 if says(&NOT_MODIFIED) => RefusalKind::NotModified,
            400 if request == Request::Edit && says(&NOT_EDITABLE) => RefusalKind::EditRefused,
            400 if says(&TOPIC_GONE) => RefusalKind::TopicGone,
            400 if says(&TOPIC) => RefusalKind::TopicClosed,
            400 if says(&GONE) => RefusalKind::ChatGone,
            400 if says(&RIGHTS) => RefusalKind::NoRights,
            _ => RefusalKind::MessageRefused,
        }
    }

    /// Returns the pause that a status 429 (too many requests) requests: the field `retry_after`, otherwise the last
    /// number in `text`, which is Telegram's description.
    fn pause(&self, text: &str) -> Duration {
        let last = text
            .rsplit(|character: char| !character.is_ascii_digit())
            .find(|part| !part.is_empty());
        let named = self.retry_after_s.or_else(|| last?.parse().ok());
        named.map_or(UNNAMED_PAUSE, Duration::from_secs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(code: u16, description: &str) -> Refusal {
        Refusal {
            code,
            description: description.into(),
            retry_after_s: None,
            migrated_to: None,
        }
    }

    #[test]
    fn a_pause_is_found_wherever_telegram_says_it() {
        let pause = |description: &str| refusal(429, description).meaning(Request::Message);
        let seconds = |seconds| RefusalKind::TooMany(Duration::from_secs(seconds));
        assert_eq!(pause("Too Many Requests: retry after 41"), seconds(41));
        assert_eq!(pause("FLOOD_WAIT_12"), seconds(12));
        assert_eq!(pause("Flood control exceeded. Retry in 305 seconds"), seconds(305));
        assert_eq!(pause("Too Many Requests"), RefusalKind::TooMany(UNNAMED_PAUSE));
        let named = Refusal {
            retry_after_s: Some(3),
            ..refusal(429, "Too Many Requests: retry after 41")
        };
        assert_eq!(named.meaning(Request::Edit), seconds(3));
    }

    #[test]
    fn a_refused_token_is_distinguished_from_a_missing_method() {
        let of = |code, description| refusal(code, description).meaning(Request::Message);
        assert_eq!(of(401, "Unauthorized"), RefusalKind::UnknownToken);
        assert_eq!(
            of(401, "Unauthorized: invalid token specified"),
            RefusalKind::UnknownToken
        );
        assert_eq!(of(404, "Not Found"), RefusalKind::UnknownToken);
        assert_eq!(of(404, "Not Found: method not found"), RefusalKind::MessageRefused);
        assert_eq!(
            of(409, "Conflict: terminated by other getUpdates request"),
            RefusalKind::Conflict
        );
    }

    #[test]
    fn what_a_customer_wrote_is_not_taken_for_telegrams_words() {
        let text =
            "Bad Request: can't parse entities: Unsupported start tag \"chat not found, no rights\" at byte offset 9";
        assert_eq!(
            refusal(400, text).meaning(Request::Message),
            RefusalKind::MessageRefused
        );
    }

    #[test]
    fn what_cannot_be_edited_is_no_reason_to_refuse_a_message() {
        let gone = refusal(400, "Bad Request: MESSAGE_ID_INVALID");
        assert_eq!(gone.meaning(Request::Edit), RefusalKind::EditRefused);
        assert_eq!(gone.meaning(Request::Message), RefusalKind::MessageRefused);
    }
}
