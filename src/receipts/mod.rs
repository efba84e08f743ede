//! Receipts: how events reached people. `writer` saves them, `query` reads them for panels, `audit` and `token_audit` for
//! the command line, `summary` counts them.

pub mod acknowledgement;
pub mod audit;
pub mod first_seen;
pub mod query;
pub mod summary;
pub mod token_audit;
pub mod writer;
