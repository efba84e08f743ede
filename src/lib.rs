//! Vestnik: an event engine on Postgres. The modules are listed in the order in which an event passes through them.
//!
//! When the shop writes a row, a trigger (`triggers/`) records the row in the journal and notifies the nodes. After
//! that, these modules process the event:

pub mod feed;
pub mod journal;
pub mod sources;

pub mod fanout;

pub mod http;

// The durable branch: messages that must reach a person even if no client is connected.
pub mod delivery;
pub mod receipts;
pub mod telegram;

// The command line, and the parts that start a node and examine a database. They are in the library, because otherwise
// the program would compile much of the library a second time.
pub mod cli;
mod command;
pub mod doctor;
pub mod engine;
pub mod erasure;

// The base layer, which all other modules use.
pub mod domain;
pub mod embedded;
pub mod infra;
pub mod migrate;
pub mod store;
pub mod text;
pub mod token;
