//! The subcommands: a file each, with its options and what it does.

pub mod attach;
mod duration;
pub mod healthcheck;
pub mod migrate;
pub mod serve;
pub mod simulate;
pub mod tail;
pub mod token;
mod welcome;
