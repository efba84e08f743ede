//! Vestnik: an event engine on Postgres. The modules, in the order in which an event passes them.
//!
//! A row that the shop writes fires a trigger (`triggers/`), which writes the event and rings. From there:

pub mod listener;

pub mod feed;
pub mod journal;

pub mod router;

pub mod session;

pub mod http;

pub mod engine;

// What they stand on.
pub mod ack;
pub mod attachment;
pub mod backoff;
pub mod config;
pub mod cursor;
pub mod db;
pub mod embedded;
pub mod event;
pub mod metrics;
pub mod migrate;
pub mod programs;
pub mod telemetry;
pub mod token;
