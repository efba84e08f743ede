//! The subcommands. Each subcommand has a file with its options and its implementation.

/// Prints a line to standard output. If the reader has closed the pipe, the error is ignored.
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
mod mapping_file;
pub mod migrate;
mod newest_rows;
mod refusal;
pub mod serve;
pub mod simulate;
pub mod source;
pub mod store;
pub mod tail;
pub mod telegram;
pub mod token;
pub mod webhook;
mod welcome;

/// A mistake of the person who runs the command, such as a wrong option. The value is the message for this person.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// Whether the user's input caused the error. If so, the program ends with the exit code for wrong usage.
pub fn is_usage(error: &anyhow::Error) -> bool {
    use crate::receipts::audit;
    use crate::store;
    use crate::text::catalog::OwnTextsError;
    error.is::<Usage>()
        || error.is::<OwnTextsError>()
        || matches!(error.downcast_ref(), Some(audit::Error::Moment))
        || matches!(
            error.downcast_ref(),
            Some(store::Error::Setting(_) | store::Error::Zone { .. })
        )
}
