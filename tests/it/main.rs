//! The tests, in one binary: `support` starts one Postgres for the run, then one file for each noun of `src`.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod bell;
mod command;
mod cursor;
mod faults;
mod http;
mod migrate;
mod model;
mod oracle;
mod session;
mod support;
mod tidy;
mod triggers;
