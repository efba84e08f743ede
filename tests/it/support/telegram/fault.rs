//! Faults of Telegram that a test sets up.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::watch;

/// Whether the fake has saved the message in the chat, although the response reports no success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    Yes,
    No,
}

/// A failure of Telegram that one request or several requests get.
#[derive(Clone)]
pub enum Fault {
    /// The Bot API refuses the request with this error.
    Answer {
        status: u16,
        text: String,
        parameters: Value,
    },
    /// A proxy in front of the Bot API answers with this status and an HTML page.
    Page(u16),
    /// The fake never sends a response.
    Hang(Taken),
    /// The fake reads the request, and resets the connection.
    Reset(Taken),
    /// The fake sends only the beginning of the JSON response.
    BrokenJson(Taken),
    /// The fake saves the message, runs this function, and then sends the response.
    Run(Arc<dyn Fn() + Send + Sync>),
    /// The fake saves the message, and sends the response when the value is true.
    Hold(watch::Receiver<bool>),
}

impl Fault {
    /// The Bot API refuses the request with this status and this error text.
    pub fn says(status: u16, text: &str) -> Self {
        Self::Answer {
            status,
            text: text.into(),
            parameters: Value::Null,
        }
    }

    /// Telegram's response 429: the bot must not send again for `retry_after` seconds.
    pub fn too_many(retry_after: u64) -> Self {
        Self::Answer {
            status: 429,
            text: format!("Too Many Requests: retry after {retry_after}"),
            parameters: json!({"retry_after": retry_after}),
        }
    }

    /// A 502 from a proxy in front of the Bot API.
    pub fn bad_gateway() -> Self {
        Self::Page(502)
    }

    /// Telegram's error for a chat that no longer exists.
    pub fn chat_not_found() -> Self {
        Self::says(400, "Bad Request: chat not found")
    }

    /// Telegram's error for a poll while another program polls with the same token.
    pub fn conflict() -> Self {
        Self::says(
            409,
            "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running",
        )
    }

    /// A 400 with Telegram's error text.
    pub fn refused(text: &str) -> Self {
        Self::says(400, text)
    }

    /// Whether the fake saves the message in spite of the fault.
    pub fn taken(&self) -> Taken {
        match self {
            Self::Answer { .. } | Self::Page(_) => Taken::No,
            Self::Hang(taken) | Self::Reset(taken) | Self::BrokenJson(taken) => *taken,
            Self::Run(_) | Self::Hold(_) => Taken::Yes,
        }
    }
}

/// The methods that send a message or change a message's text.
const MESSAGES: [&str; 2] = ["sendMessage", "editMessageText"];

/// The requests that get a fault.
#[derive(Debug, Clone, Copy)]
pub enum On {
    /// Requests that send or edit a message in any chat.
    Messages,
    /// Requests that send or edit a message in this chat.
    Chat(i64),
    /// Requests that send or edit a message in this chat, if the new text contains these words.
    Text(i64, &'static str),
    /// Requests that edit a message in this chat, even if they edit only the buttons.
    Edits(i64),
    /// Requests of one method. The name is Telegram's, for example `getUpdates`.
    Method(&'static str),
    /// Every request, even the long poll: Telegram is unavailable.
    Everything,
}

/// How many requests get a fault.
#[derive(Debug, Clone, Copy)]
pub enum Times {
    Some(usize),
    Always,
}

/// A fault, and the requests that get it.
pub struct Scripted {
    pub on: On,
    pub fault: Fault,
    pub times: Times,
}

impl Scripted {
    pub fn meets(&self, method: &str, chat: i64, text: &str) -> bool {
        let is_message = MESSAGES.iter().any(|name| name.eq_ignore_ascii_case(method));
        match self.on {
            On::Messages => is_message,
            On::Chat(id) => is_message && id == chat,
            On::Text(id, words) => is_message && id == chat && text.contains(words),
            On::Edits(id) => id == chat && method.to_ascii_lowercase().starts_with("edit"),
            On::Method(name) => name.eq_ignore_ascii_case(method),
            On::Everything => true,
        }
    }

    /// Counts one use of the fault. Returns whether this use was the last one.
    pub fn spend(&mut self) -> bool {
        match &mut self.times {
            Times::Always => false,
            Times::Some(left) => {
                *left -= 1;
                *left == 0
            }
        }
    }
}
