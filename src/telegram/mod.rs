//! Telegram: the only place that knows teloxide. `api` is one request and its answer, `refusal` what an error means, `line`
//! whether Telegram is reached. `sender` sends what a claim says, `bot` polls, `updates` deals with what people write
//! (`command`, `pause`, `today`) and press (`press`); `message`, `changed`, `html` and `words` make the texts.

mod api;
mod callback_query;
pub mod catalog;
mod changed;
mod client;
mod command;
pub mod digest;
pub mod html;
mod line;
pub mod message;
mod note;
pub mod pause;
mod refusal;
pub mod sender;
mod text;
mod today;
pub mod update_poller;
mod updates;

pub use client::{Client, Unreachable};
pub use line::Outage;
