//! `vestnik bench`: measures the throughput and latency of this machine and database. For comparison, it measures the
//! same writes also without a trigger, and with a NOTIFY for each order.

mod ground;
mod load;

use std::time::Duration;

use crate::engine::Engine;
use crate::infra::config::Config;
use anyhow::Context as _;

use super::duration;
use ground::{Ground, Table};
use load::{Measurement, Panels};

/// The numbers of concurrent writers with which the throughput is measured.
const WRITERS: [usize; 2] = [16, 64];
/// The orders per second at which the latency is measured.
const RATES: [u32; 3] = [50, 500, 2000];
/// The warm-up before each measurement. After it, NOTIFY suppression is active, and all connections are open.
const WARM_UP: Duration = Duration::from_secs(1);
/// Maximum duration of one measurement. The bench makes nine measurements.
const LONGEST_TURN: Duration = Duration::from_secs(60);
/// The longest time for the engine to start and read the journal to its end.
const BEGIN_DEADLINE: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Duration of each of the nine runs, such as 3s
    #[arg(long = "duration", value_name = "TIME", default_value = "3s", value_parser = length)]
    length: Duration,
}

fn length(text: &str) -> Result<Duration, String> {
    duration::parse(text).and_then(|length| {
        let fits = length <= LONGEST_TURN;
        fits.then_some(length).ok_or_else(|| "a turn takes 60s at most".into())
    })
}

/// Measures, and prints the results. Then removes the bench's tables and events, even after Ctrl-C.
pub async fn run(config: &Config, args: Args) -> anyhow::Result<()> {
    let ground = Ground::make(config).await?;
    let measured = tokio::select! {
        measured = measure(config, &ground, args.length) => measured,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("broken off")),
    };
    ground
        .clear()
        .await
        .context("the bench could not clear up after itself; run it again, or drop the schema vestnik_bench")?;
    measured
}

async fn measure(config: &Config, ground: &Ground, length: Duration) -> anyhow::Result<()> {
    let mut own = config.clone();
    own.http.listen = ([127, 0, 0, 1], 0).into();
    (own.tls, own.telegram) = (None, None);
    // Run no canary (self-test), because its events would stay in the journal.
    own.ops.canary_interval = None;
    let engine = Engine::start(&own).await?;
    tokio::time::timeout(BEGIN_DEADLINE, engine.until_fresh())
        .await
        .context("the engine did not begin: is LISTEN possible here?")?;
    let panels = Panels::open(engine.address(), &ground.token).await?;
    super::say!("{}\n", ground.describe().await?);
    throughput(ground, &panels, length).await?;
    latency(ground, &panels, length).await?;
    engine.shut_down().await;
    Ok(())
}

/// Measures and prints how many orders per second can be written to each table. Also prints each result as a percentage
/// of the result for the table without a trigger.
async fn throughput(ground: &Ground, panels: &Panels, length: Duration) -> anyhow::Result<()> {
    let mut rows = [const { Vec::new() }; 3];
    let mut lost = Vec::new();
    for writers in WRITERS {
        for (row, table) in rows.iter_mut().zip([Table::Bare, Table::Notifying, Table::Watched]) {
            let measurement = Measurement {
                table,
                writers,
                rate: None,
                length,
            };
            let result = measurement.run(ground, panels).await?;
            row.push(result.rate);
            if table == Table::Watched {
                lost.push(result.lost);
            }
        }
    }
    super::say!("orders a second{:>37}{:>16}", "16 writers", "64 writers");
    let names = ["no trigger", "a NOTIFY in each", "Vestnik, each one delivered"];
    for (name, row) in names.iter().zip(&rows) {
        let cells: Vec<String> = row
            .iter()
            .zip(&rows[0])
            .map(|(rate, bare)| format!("{:>9.0} {:>4.0} %", rate, rate / bare * 100.0))
            .collect();
        super::say!("  {name:<34}{}", cells.join(" "));
    }
    super::say!("  {:<34}{:>9}{:>16}\n", "lost", lost[0], lost[1]);
    Ok(())
}

/// Measures and prints, for several rates, the time from the INSERT until the panel's WebSocket receives the order.
async fn latency(ground: &Ground, panels: &Panels, length: Duration) -> anyhow::Result<()> {
    super::say!("from INSERT to the socket, ms{:>18}{:>12}{:>12}", "p50", "p99", "lost");
    for rate in RATES {
        let measurement = Measurement {
            table: Table::Watched,
            writers: WRITERS[0],
            rate: Some(rate),
            length,
        };
        let mut result = measurement.run(ground, panels).await?;
        let (half, most) = (result.quantile(0.5), result.quantile(0.99));
        super::say!(
            "  at {:<24}{half:>20.2}{most:>12.2}{:>12}",
            format!("{rate} orders/s"),
            result.lost
        );
    }
    Ok(())
}
