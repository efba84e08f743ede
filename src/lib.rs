//! Vestnik: an event engine on Postgres. The modules, in the order in which an event passes them.
//!
//! A row that the shop writes fires a trigger (`triggers/`), which writes the event and rings. From there:

pub mod listener;

pub mod feed;
pub mod journal;

pub mod router;

pub mod session;

pub mod http;

// The durable branch: what must reach a person though everything was away.
pub mod delivery;
pub mod telegram;

pub mod engine;

// What they stand on.
pub mod ack;
pub mod backoff;
pub mod bell;
pub mod config;
pub mod db;
pub mod doctor;
pub mod domain;
pub mod embedded;
pub mod link;
pub mod metrics;
pub mod migrate;
pub mod poll;
pub mod presence;
pub mod programs;
pub mod rate_limiter;
pub mod reach;
pub mod receipts;
pub mod sources;
pub mod store;
pub mod table_lock;
pub mod telemetry;
pub mod token;
