//! From the feed to each client: the router hands events to the sessions of their store. A session replays what its
//! client missed, and then sends live events.

pub mod router;
pub mod session;
