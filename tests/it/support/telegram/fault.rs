//! What goes wrong at Telegram, as a test orders it.

use std::sync::Arc;

use serde_json::{Value, json};

/// Whether a message stands in its chat, though nobody is told so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    Yes,
    No,
}

/// Something that goes wrong.
#[derive(Clone)]
pub enum Fault {
    /// The Bot API refuses, in its own words.
    Answer {
        status: u16,
        text: String,
        parameters: Value,
    },
    /// Something before the Bot API answers, with a page.
    Page(u16),
    /// No answer ever comes.
    Hang(Taken),
    /// The connection is reset once the request was read.
    Reset(Taken),
    /// An answer that is cut off.
    BrokenJson(Taken),
    /// The message stands; this runs, and then it is answered.
    Run(Arc<dyn Fn() + Send + Sync>),
}

impl Fault {
    /// A refusal, with this code and in Telegram's words.
    pub fn says(status: u16, text: &str) -> Self {
        Self::Answer {
            status,
            text: text.into(),
            parameters: Value::Null,
        }
    }

    /// 429: leave it alone for so long.
    pub fn too_many(retry_after: u64) -> Self {
        Self::Answer {
            status: 429,
            text: format!("Too Many Requests: retry after {retry_after}"),
            parameters: json!({"retry_after": retry_after}),
        }
    }

    /// 502, from a proxy before the Bot API.
    pub fn bad_gateway() -> Self {
        Self::Page(502)
    }

    /// The chat is gone.
    pub fn chat_not_found() -> Self {
        Self::says(400, "Bad Request: chat not found")
    }

    /// Another program polls with the same token.
    pub fn conflict() -> Self {
        Self::says(
            409,
            "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running",
        )
    }

    /// Another refusal, in Telegram's words.
    pub fn refused(text: &str) -> Self {
        Self::says(400, text)
    }

    /// Whether the message stands all the same.
    pub fn taken(&self) -> Taken {
        match self {
            Self::Answer { .. } | Self::Page(_) => Taken::No,
            Self::Hang(taken) | Self::Reset(taken) | Self::BrokenJson(taken) => *taken,
            Self::Run(_) => Taken::Yes,
        }
    }
}

/// The methods that put a text into a chat.
const MESSAGES: [&str; 2] = ["sendMessage", "editMessageText"];

/// Which requests it meets.
#[derive(Debug, Clone, Copy)]
pub enum On {
    /// Messages, sent or edited, of every chat.
    Messages,
    /// Those of one chat.
    Chat(i64),
    /// Messages to one chat that hold these words.
    Text(i64, &'static str),
    /// Edits of one chat, of the text or of the buttons alone.
    Edits(i64),
    /// All of one method, by Telegram's name for it: `getUpdates`.
    Method(&'static str),
    /// All requests, the long poll too: Telegram is away.
    Everything,
}

/// How often.
#[derive(Debug, Clone, Copy)]
pub enum Times {
    Some(usize),
    Always,
}

/// A fault that waits for its requests.
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

    /// Counts one; whether it was the last.
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
