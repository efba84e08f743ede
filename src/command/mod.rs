//! The subcommands: a file each, with its options and what it does.

/// Prints a line to standard output. Nobody may be reading any more, and that is no failure.
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

/// What is asked for cannot be done, whatever the database says.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// Whether an error is the asker's: the exit code tells it from a failure.
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
