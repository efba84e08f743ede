//! The tests, in one binary: `support` starts one Postgres for the run, then one file for each noun of `src`.
#![expect(missing_docs, reason = "a test's name says what it shows")]

mod support;
