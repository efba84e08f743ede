//! Telegram: the only place that knows teloxide. `sender` sends what a claim says, `bot` hears what people say and press;
//! `message`, `html` and `words` make the texts.

pub mod bot;
mod client;
mod command;
mod html;
pub mod message;
mod press;
pub mod sender;
pub mod words;

pub use client::{Client, Unreachable};
