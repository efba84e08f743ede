//! Durable sends: messages that must reach a person despite failures of the engine, Telegram or the database. A
//! delivery is a row: one message that is owed to a chat. `enqueue` turns events into deliveries. `queue` claims
//! deliveries within Telegram's limits, in one of a chat's two `lane`s (messages and edits). `choice` picks a chat's
//! next message, and `next_message` has the kinds of messages. `list_button` removes the buttons of answered orders
//! from lists. `worker` sends the message, `next_state` decides what follows from the outcome, and `send_outcome` saves
//! it.
//! `channel` is the trait that Telegram and the escalation webhook implement. `dead_letter` marks unreadable deliveries
//! as dead, `cleanup` deletes old rows, and `gauges` has the metrics. `chat_state` handles chats that take no messages,
//! `supergroup` gives a group its new id, and `shared_bot` decides which node polls Telegram for updates. `escalation`
//! executes the next step while nobody answers an order, and `escalation_webhook` is the last step; `webhook_endpoint`
//! posts events to operators' addresses. `unattended_alarm` finds open stores without a panel. `pause` sends a message
//! when a store is paused, and `today` reads the orders of a store's day.

pub mod channel;
pub mod chat_links;
pub mod chat_state;
pub mod choice;
pub mod cleanup;
mod closed_store;
mod dead_letter;
mod due_event;
pub mod enqueue;
pub mod escalation;
pub mod escalation_webhook;
pub mod event_view;
mod gauges;
pub mod lane;
pub mod late_order;
mod list_button;
pub mod next_message;
mod next_state;
mod note;
mod open_delivery;
mod pause;
pub mod queue;
pub mod reopen;
pub mod retry;
pub mod send_outcome;
pub mod shared_bot;
pub mod supergroup;
pub mod today;
pub mod unattended_alarm;
pub mod webhook_endpoint;
mod webhook_test_message;
pub mod worker;
