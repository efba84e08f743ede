//! Delivers events from the feed to each client. The router hands each event to the sessions of its store. A session
//! replays the events that its client missed, and then sends live events.

pub mod router;
pub mod session;
