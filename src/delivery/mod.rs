//! Durable sends: messages that must reach a person despite failures of the engine, Telegram or the database. `enqueue`
//! turns events into rows. `queue` claims the rows within Telegram's limits, in one of a chat's two `lane`s. `choice`
//! picks a chat's next work, `next_message` has its kinds, `worker` sends it, `complete` saves the outcome.
//! `channel` is what Telegram and the webhook implement. `dead_letter` gives up unreadable rows, `cleanup` deletes finished ones, `gauges` has the metrics. `chat_state`
//! reports a chat that takes no messages, `migrate` gives a group its new id, `shared_bot` has the bot's lease.
//! `escalation` executes the next step while nobody answers, and `webhook` is the last step. `unattended_alarm` finds
//! open stores without a panel, `pause` reports a pause, `today` counts a day.

pub mod channel;
pub mod chat_links;
pub mod chat_state;
pub mod choice;
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
mod note;
mod open_delivery;
mod pause;
pub mod queue;
pub mod reopen;
pub mod retry;
pub mod shared_bot;
pub mod today;
pub mod unattended_alarm;
pub mod webhook;
pub mod worker;
