//! Durable sends: what must reach a person, though the engine, Telegram or the database were away. `plan` turns events
//! into rows, `queue` claims them under Telegram's budgets, in one of a chat's `lane`s, `choice` says what is next, `work` what that may be,
//! `worker` sends, `settle` writes down what became of it; `aside` sets aside what cannot be read, `chat_state` tells
//! of a chat that takes nothing, `migrate` follows one to its new number; `escalation` climbs while nobody
//! answers, `watch` looks for stores that nobody could ring, `pause` tells that a store takes no orders, `today` counts a day, `webhook` is the last step; `forget` ends what is over,
//! `figures` says how it all stands.

pub mod chat_links;
pub mod chat_state;
mod choice;
pub mod cleanup;
pub mod complete;
mod dead_letter;
pub mod enqueue;
pub mod escalation;
pub mod event_view;
mod gauges;
pub mod lane;
pub mod late;
pub mod migrate;
pub mod next_message;
pub mod note;
mod pause;
pub mod queue;
pub mod reopen;
pub mod retry;
pub mod shared_bot;
pub mod today;
pub mod unattended_alarm;
pub mod webhook;
pub mod worker;
