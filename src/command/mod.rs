//! The subcommands: a file each, with its options and what it does.

pub mod migrate;
pub mod serve;
