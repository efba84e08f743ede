//! `vestnik serve`: runs a node.

use std::io::IsTerminal as _;

use crate::embedded::Embedded;
use crate::engine::Engine;
use crate::infra::backoff::Backoff;
use crate::infra::config::Config;
use crate::infra::db;
use crate::migrate;
use crate::text::catalog;
use crate::token::Token;
use anyhow::Context as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::welcome::{self, Screen};

/// Serves the configured databases, or a private Postgres, until SIGTERM or SIGINT. SIGHUP reloads the TLS certificate.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let mut stop = Signals::new()?;
    for texts in config
        .each_database()
        .iter()
        .filter_map(|(config, _)| config.telegram.as_ref()?.texts.clone())
        .take(1)
    {
        catalog::load_own(&texts)?;
    }
    allow_many_sockets(config.http.max_connections);
    if config.database.url.is_some() || !config.databases.is_empty() {
        return serve(&config, &mut stop).await;
    }
    let mut embedded = Embedded::start(&config.embedded.directory).await?;
    let mut config = config;
    config.database.url = Some(embedded.url());
    let served = serve_private(&config, &mut embedded, &mut stop).await;
    embedded.stop().await;
    served
}

async fn serve(config: &Config, stop: &mut Signals) -> anyhow::Result<()> {
    if config.database.migrate_on_start {
        for (config, _) in config.each_database() {
            tokio::select! {
                migrated = migrate_when_reachable(&config) => migrated?,
                () = stop.wait() => return Ok(()),
            }
        }
    }
    let engine = Engine::start(config).await?;
    if config
        .each_database()
        .iter()
        .all(|(config, _)| config.telegram.is_none())
    {
        tracing::info!("Telegram and escalation are off: no bot token is configured (VESTNIK_TELEGRAM_TOKEN)");
    }
    let ops = engine
        .ops_address()
        .map_or_else(|| "off".to_owned(), |ops| ops.to_string());
    tracing::info!(address = %engine.address(), %ops, "serving; `vestnik token create --store ID` makes a token for a panel");
    stop.wait_with(&engine).await;
    shut_down(engine).await;
    Ok(())
}

async fn serve_private(config: &Config, embedded: &mut Embedded, stop: &mut Signals) -> anyhow::Result<()> {
    migrate::run(config, &mut |line| tracing::debug!("{line}")).await?;
    // Print the token only to a terminal. Other output may go to a file, and the token must not be stored there.
    let token = match std::io::stdout().is_terminal() {
        true => {
            let client = db::connect(&config.database).await?;
            Some(welcome::token(&client, &config.embedded.directory).await?)
        }
        false => None,
    };
    let engine = Engine::start(config).await?;
    tokio::select! {
        () = engine.until_fresh() => {}
        () = stop.wait() => {
            engine.shut_down().await;
            return Ok(());
        }
    }
    let screen = Screen {
        address: engine.address(),
        secure: config.tls.is_some(),
        token: token.as_ref().map(Token::reveal),
        psql: embedded.psql(),
        directory: &config.embedded.directory,
        major: embedded.major(),
        telegram: config.telegram.is_some(),
    };
    super::say!("{}", screen.text());
    tokio::select! {
        () = stop.wait_with(&engine) => {}
        () = embedded.supervise() => {}
    }
    shut_down(engine).await;
    Ok(())
}

/// Migrates the database. While the database is unreachable, waits and retries. Returns any other error at once,
/// because a retry would not help.
async fn migrate_when_reachable(config: &Config) -> anyhow::Result<()> {
    let mut backoff = Backoff::new();
    loop {
        match migrate::run(config, &mut |line| tracing::info!("{line}")).await {
            Err(migrate::Error::Db(error @ (db::Error::Connect(_) | db::Error::TimedOut))) => {
                let pause = backoff.next_pause();
                tracing::warn!(%error, retry_ms = pause.as_millis() as u64, "waiting for the database");
                tokio::time::sleep(pause).await;
            }
            done => return Ok(done.map(drop)?),
        }
    }
}

async fn shut_down(engine: Engine) {
    tracing::info!("shutting down: clients are asked to reconnect");
    engine.shut_down().await;
}

/// Raises the limit of open files to its maximum, because each session needs one file, and the default is often 1,024.
fn allow_many_sockets(connections: usize) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    );
    let allowed = getrlimit(Resource::Nofile).current.or(current);
    if allowed.is_some_and(|allowed| allowed < connections as u64) {
        tracing::warn!(
            allowed,
            connections,
            "the limit of open files is below http.max_connections, so fewer connections are accepted: raise it (ulimit -n)"
        );
    }
}

/// The signals that stop the program or reload its certificate.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let wait_for = |kind, name| signal(kind).with_context(|| format!("cannot wait for {name}"));
        Ok(Self {
            terminate: wait_for(SignalKind::terminate(), "SIGTERM")?,
            interrupt: wait_for(SignalKind::interrupt(), "SIGINT")?,
            hangup: wait_for(SignalKind::hangup(), "SIGHUP")?,
        })
    }

    /// Waits for SIGTERM or SIGINT.
    async fn wait(&mut self) {
        self.wait_or(|| ()).await;
    }

    /// Waits for SIGTERM or SIGINT. Meanwhile, each SIGHUP makes the engine reload its TLS certificate.
    async fn wait_with(&mut self, engine: &Engine) {
        self.wait_or(|| engine.read_again()).await;
    }

    async fn wait_or(&mut self, on_hangup: impl Fn()) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => on_hangup(),
            }
        }
    }
}
