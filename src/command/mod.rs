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
pub mod bench;
mod duration;
pub mod healthcheck;
pub mod migrate;
pub mod replay;
pub mod serve;
pub mod simulate;
pub mod store;
pub mod tail;
pub mod telegram;
pub mod token;
mod welcome;
