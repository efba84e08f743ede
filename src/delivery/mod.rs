//! Durable sends: what must reach a person, though the engine, Telegram or the database were away. `plan` turns events
//! into rows, `queue` claims them under Telegram's budgets, `work` says what is next,
//! `worker` sends, `settle` writes down what became of it;
//! `escalation` climbs while nobody
//! answers, `watch` looks for stores that nobody could ring, `webhook` is the last rung; `forget` ends what is over,
//! `figures` says how it all stands.

pub mod escalation;
mod figures;
pub mod forget;
pub mod plan;
pub mod queue;
pub mod retry;
pub mod settle;
pub mod watch;
pub mod webhook;
pub mod work;
pub mod worker;
