//! Telegram: the only module that uses teloxide. `api` sends one request and reads its response, and `refusal`
//! classifies errors. `reachability` and `probe` find out whether this node reaches Telegram. `sender` sends one
//! message, and `plain_text_retry` simplifies a message that Telegram refused. `render` writes the message, with
//! `changed`, `digest`, `note` and `message`. `update_poller` polls for the `bot`. `updates` handles texts (`command`,
//! `pause` and `today`, with `duration`) and presses of buttons (`callback_query`).

mod api;
mod bot;
mod callback_query;
mod changed;
mod chat;
mod client;
mod command;
mod digest;
mod duration;
mod erased;
mod message;
mod note;
mod pause;
mod plain_text_retry;
mod press_answers;
mod probe;
mod reachability;
mod refusal;
mod render;
mod sender;
mod today;
mod update_poller;
mod updates;

pub use api::Unreachable;
pub use bot::Bot;
pub use client::Client;
pub use erased::erased;
