//! Webhooks for any event. Posts the events of chosen stores and types to an operator's addresses (endpoints). This
//! needs no Telegram bot. `table` changes endpoints when an operator runs a command, `lease` decides which node posts,
//! `post` sends one message, and `failed_post` decides about the next attempt. `run` reads the journal and posts in
//! order, and `figures` has the metrics and the state for `vestnik doctor`.

mod failed_post;
pub mod figures;
mod lease;
mod post;
pub mod run;
pub mod table;
