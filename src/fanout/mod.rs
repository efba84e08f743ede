//! From the feed to each client: the router hands events to the sessions of their store, and a session replays what its client
//! missed and then sends what happens.

pub mod router;
pub mod session;
