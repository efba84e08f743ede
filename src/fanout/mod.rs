//! Brings events from the feed to each client. The router hands events to the sessions of their store. A session
//! replays the events that its client missed, and then sends live events.

pub mod router;
pub mod session;
