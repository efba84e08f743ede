//! `vestnik serve`: the main job.

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use vestnik::config::Config;
use vestnik::engine::Engine;

/// Serves until SIGTERM or SIGINT.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let engine = Engine::start(&config).await?;
    tracing::info!(address = %engine.address(), "serving");
    until_signal().await?;
    tracing::info!("shutting down: clients are told to come back");
    engine.shut_down().await;
    Ok(())
}

async fn until_signal() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
