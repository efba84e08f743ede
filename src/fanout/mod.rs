//! From the feed to each client. The router hands events to the sessions of their store. A session replays the missed
//! events, and then sends live events.

pub mod router;
pub mod session;
