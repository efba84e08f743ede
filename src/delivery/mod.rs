//! Durable sends: what must reach a person, though the engine, Telegram or the database were away. `plan` turns events
//! into rows, `queue` claims them under Telegram's budgets, in one of a chat's `lane`s, `choice` says what is next, `work` what that may be,
//! `worker` sends, `settle` writes down what became of it; `aside` sets aside what cannot be read, `chat_state` tells
//! of a chat that takes nothing, `migrate` follows one to its new number; `escalation` climbs while nobody
//! answers, `watch` looks for stores that nobody could ring, `pause` tells that a store takes no orders, `today` counts a day, `webhook` is the last rung; `forget` ends what is over,
//! `figures` says how it all stands.

mod aside;
pub mod chat_state;
mod choice;
pub mod escalation;
mod figures;
pub mod forget;
pub mod lane;
pub mod late;
pub mod migrate;
pub mod note;
mod pause;
pub mod plan;
pub mod queue;
pub mod reopen;
pub mod retry;
pub mod settle;
pub mod today;
pub mod told;
pub mod watch;
pub mod webhook;
pub mod work;
pub mod worker;
