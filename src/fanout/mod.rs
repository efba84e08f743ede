//! Delivers events to each connected client. The feed reads new events from the journal, and the router hands each
//! event to the sessions of its store. A session first replays the events that its client missed, and then sends live
//! events.

pub mod router;
pub mod session;
