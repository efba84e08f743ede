//! Telegram: the only module that knows teloxide. `api` is one request and its response, `refusal` classifies errors,
//! `line` knows whether Telegram is reached. `sender` sends a claim, `update_poller` polls, `updates` handles texts
//! (`command`, `pause`, `today`) and buttons (`callback_query`). `message`, `changed`, `digest` and `note` make
//! the texts.

mod api;
mod callback_query;
mod changed;
mod client;
mod command;
mod digest;
mod line;
pub mod message;
mod note;
pub mod pause;
mod refusal;
mod sender;
mod today;
pub mod update_poller;
mod updates;

pub use client::{Client, Unreachable};
