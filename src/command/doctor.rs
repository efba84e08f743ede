//! `vestnik doctor`: prints what is wrong with a database, and how to correct it.

use std::time::Duration;

use crate::doctor::{self, Severity};
use crate::infra::config::Config;
use anyhow::bail;

use super::duration;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Report transactions that have been open for at least this time
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = duration::parse)]
    old: Duration,
}

/// Runs `vestnik doctor`, and prints a line for each finding. Returns an error if the operator must act on a finding.
pub async fn run(config: &Config, args: &Args) -> anyhow::Result<()> {
    let findings = doctor::examine(config, args.old).await?;
    let width = findings.iter().map(|finding| finding.subject.chars().count()).max();
    let width = width.unwrap_or_default();
    for finding in &findings {
        let mark = match finding.severity {
            Severity::Ok => "ok  ",
            Severity::Note => "note",
            Severity::Fail => "FAIL",
        };
        super::say!("{mark}  {:width$}  {}", finding.subject, finding.says);
    }
    match findings
        .iter()
        .filter(|finding| finding.severity == Severity::Fail)
        .count()
    {
        0 => Ok(()),
        1 => bail!("one thing is wrong"),
        many => bail!("{many} things are wrong"),
    }
}
