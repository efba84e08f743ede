//! The tests, in one binary: `support` starts one Postgres for the run, then one file for each noun of `src`.

mod session;
mod support;
