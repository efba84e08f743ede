//! Receipts: rows that show how events reached people. `writer` saves receipts. `query` reads them for panels, and
//! `audit` and `token_audit` for the command line. `summary` computes figures from them.

pub mod acknowledgement;
pub mod audit;
pub mod first_seen;
pub mod query;
pub mod summary;
pub mod token_audit;
pub mod writer;
