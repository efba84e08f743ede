//! The subcommands: one file each, with its options and its implementation.

/// Prints a line to standard output. A closed pipe is not an error.
macro_rules! say {
    ($($part:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($part)*);
    }};
}
use say;

pub mod attach;
pub mod audit;
pub mod bench;
pub mod doctor;
mod duration;
pub mod erase;
pub mod healthcheck;
pub mod migrate;
pub mod serve;
pub mod simulate;
pub mod source;
pub mod store;
pub mod tail;
pub mod telegram;
pub mod token;
pub mod webhook;
mod welcome;

/// A request that is wrong whatever the database contains.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// Whether an error is the user's: it then has the exit code of wrong usage.
pub fn is_usage(error: &anyhow::Error) -> bool {
    use vestnik::receipts::audit;
    use vestnik::store;
    error.is::<Usage>()
        || matches!(error.downcast_ref(), Some(audit::Error::Moment))
        || matches!(
            error.downcast_ref(),
            Some(store::Error::Setting(_) | store::Error::Zone { .. })
        )
}
