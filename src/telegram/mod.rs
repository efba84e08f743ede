//! Telegram: the only place that knows teloxide. `api` is one request and its answer, `refusal` what an error means, `line`
//! whether Telegram is reached. `sender` sends what a claim says, `bot` polls, `updates` deals with what people write
//! (`command`) and press (`press`); `message`, `html` and `words` make the texts.

mod api;
pub mod bot;
mod client;
mod command;
pub mod digest;
pub mod html;
mod line;
pub mod message;
mod note;
mod press;
mod refusal;
pub mod sender;
mod text;
mod updates;
pub mod words;

pub use client::{Client, Unreachable};
pub use line::Outage;
