//! The tests, in one binary: `support` starts one Postgres for the run, then one file for each noun of `src`.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod altered;
mod bell;
mod bench;
mod board;
mod bot;
mod bulk;
mod cluster;
mod command;
mod cursor;
mod delivery;
mod doctor;
mod escalation;
mod faults;
mod fleet;
mod forget;
mod http;
mod memory;
mod migrate;
mod model;
mod openapi;
mod oracle;
mod order;
mod panel;
mod panel_files;
mod presence;
mod proof;
mod reach;
mod replay;
mod sending;
mod session;
mod shards;
mod status_change;
mod support;
mod tidy;
mod triggers;
