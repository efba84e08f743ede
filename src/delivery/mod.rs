//! Durable sends: messages that must reach a person even if the engine, Telegram or the database was away. `enqueue`
//! turns events into rows, `queue` claims them under Telegram's budgets, in one of a chat's `lane`s. `choice` picks a
//! chat's next work, `next_message` says what it may be, `worker` sends it, `complete` saves the outcome. `dead_letter`
//! sets aside unreadable rows; `cleanup` deletes finished ones; `gauges` has the metrics. `chat_state` reports a chat
//! that takes no messages, `migrate` follows a group to its new number, `shared_bot` is the lease of the bot.
//! `escalation` executes the next step while nobody answers, `unattended_alarm` finds open stores without a panel,
//! `webhook` is the last step. `pause` reports a pause, `today` counts a day.

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
