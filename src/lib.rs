//! Vestnik: an event engine on Postgres. The modules, in the order in which an event passes them.
//!
//! A row that the shop writes fires a trigger (`triggers/`), which records it and notifies. From there:

pub mod feed;
pub mod journal;
pub mod sources;

pub mod fanout;

pub mod http;

// The durable branch: what must reach a person though everything was away.
pub mod delivery;
pub mod receipts;
pub mod telegram;

// What starts all of it, and what looks at it.
pub mod doctor;
pub mod engine;
pub mod erasure;

// What they stand on.
pub mod domain;
pub mod embedded;
pub mod infra;
pub mod migrate;
pub mod store;
pub mod text;
pub mod token;
