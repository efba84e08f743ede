//! The settings: `vestnik.default.toml`, then a file, then the environment, then flags. `load` reads and checks them.

mod databases;
mod http;
mod jwt;
mod load;
mod telegram;

pub use jwt::{Jwt, JwtAlgorithm, JwtKeys};
pub use load::{Problem, Problems, Sources, load};

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use secrecy::{ExposeSecret as _, SecretString};

/// Every setting, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// The HTTP server.
    pub http: Http,
    /// The second one, for operators.
    pub ops: Ops,
    /// Its certificate; `None` serves plain http and ws.
    pub tls: Option<Tls>,
    /// Whose JWTs open stores, beside our own tokens; `None`: nobody's.
    pub jwt: Option<Jwt>,
    /// The database that is served, where it is one.
    pub database: Database,
    /// The databases that are served, where they are several.
    pub databases: Vec<Shard>,
    /// The private Postgres, used where no database is given.
    pub embedded: Embedded,
    /// The shop's tables.
    pub shop: Shop,
    /// The journal.
    pub journal: Journal,
    /// The live clients.
    pub session: Session,
    /// What people answer.
    pub answers: Answers,
    /// The durable sends; `None`: there is no bot, and no escalation.
    pub telegram: Option<Telegram>,
    /// What is posted to stores' own addresses.
    pub webhook: Webhook,
    /// The log.
    pub log: Log,
}

/// The HTTP server.
#[derive(Debug, Clone)]
pub struct Http {
    /// The address that panels connect to.
    pub listen: SocketAddr,
    /// Origins of browsers' pages that may connect, beside the server's own.
    pub allowed_origins: Vec<String>,
    /// Hosts that requests may name; empty: any.
    pub hosts: Vec<String>,
    /// Connections at once.
    pub max_connections: usize,
    /// Of them, those that have shown no valid token.
    pub max_unauthenticated: usize,
    /// Of these, those from one address.
    pub max_unauthenticated_per_address: usize,
    /// Requests without a valid token from one address, a second.
    pub requests_per_address: u32,
    /// Requests with one token, a second.
    pub requests_per_token: u32,
    /// Proxies that are believed whom they speak for.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether each of their connections begins with a PROXY header of version 2.
    pub proxy_protocol: bool,
}

/// Connections at once of the server for operators.
pub const OPS_CONNECTIONS: usize = 64;

/// The HTTP server for operators: `/healthz`, `/readyz`, `/metrics`.
#[derive(Debug, Clone)]
pub struct Ops {
    /// Its address; `None`: there is none.
    pub listen: Option<SocketAddr>,
}

/// Where the certificate is.
#[derive(Debug, Clone)]
pub struct Tls {
    /// PEM file with the certificate chain.
    pub certificate: PathBuf,
    /// PEM file with the private key.
    pub key: PathBuf,
}

/// The database that is served.
#[derive(Debug, Clone)]
pub struct Database {
    /// Its URL, which may hold a password; `None`: the private Postgres.
    pub url: Option<SecretString>,
    /// A direct address for LISTEN, where `url` is a transaction pooler.
    pub listen_url: Option<SecretString>,
    /// Whether the triggers ring.
    pub notify: Notify,
    /// The first half of the keys of the two advisory locks of NOTIFY suppression; the triggers know it since the last migration.
    pub notify_lock_key: i32,
    /// Share of Postgres' notification queue in use above which orders do not notify, 0 to 1.
    pub notify_queue_limit: f64,
    /// After this long a sleeping feed reads though nothing rang. It finds nothing.
    pub safety_read: Duration,
    /// Connections for replays, changes of status, and what runs in the background.
    pub pool_size: usize,
    /// Connections for tokens and acknowledgements alone.
    pub token_pool_size: usize,
    /// Connections for lists, history and figures.
    pub read_pool_size: usize,
    /// Whether `serve` migrates first.
    pub migrate_on_start: bool,
}

/// One of several databases.
#[derive(Debug, Clone)]
pub struct Shard {
    /// What it is called here.
    pub name: String,
    /// Where it is.
    pub database: Database,
    /// The stores that live there; `None`: it is asked.
    pub stores: Option<BTreeSet<String>>,
    /// Its bot.
    pub telegram: Option<Telegram>,
}

/// How the feed hears of new events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notify {
    /// By LISTEN.
    On,
    /// By reading the journal at short intervals.
    Off,
}

/// The private Postgres.
#[derive(Debug, Clone)]
pub struct Embedded {
    /// Where it keeps its data.
    pub directory: PathBuf,
}

/// The shop's tables.
#[derive(Debug, Clone)]
pub struct Shop {
    /// Whose they are.
    pub schema: ShopSchema,
    /// Where the backup before V23 is written.
    pub backup_directory: PathBuf,
}

/// Whose the shop's tables are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShopSchema {
    /// Vestnik makes and migrates `orders` and `bookings`.
    Reference,
    /// Vestnik leaves them alone.
    Own,
}

/// The journal.
#[derive(Debug, Clone)]
pub struct Journal {
    /// How long events are kept.
    pub retention: Duration,
    /// Between two comparisons of the attached tables with it; `None`: there are none.
    pub reconcile_interval: Option<Duration>,
}

/// The live clients.
#[derive(Debug, Clone)]
pub struct Session {
    /// Between two pings, which a heartbeat message goes with.
    pub ping_interval: Duration,
    /// Bytes of events that may wait for one session.
    pub queue_bytes: usize,
    /// Sessions of one store on this node.
    pub max_per_store: usize,
    /// Sessions of one store that one token may have on this node: fewer, so that no token takes a store's last place.
    pub max_per_token: usize,
}

/// What people answer.
#[derive(Debug, Clone)]
pub struct Answers {
    /// For how long after a step a person may take it back.
    pub step_back: Duration,
}

/// The durable sends.
#[derive(Debug, Clone)]
pub struct Telegram {
    /// The bot's token.
    pub token: SecretString,
    /// Where the Bot API is.
    pub api_url: String,
    /// The proxy on the way there, http, https, socks5 or socks5h; `None`: as the environment says. It may hold a password.
    pub proxy: Option<SecretString>,
    /// The directory of the operator's own texts.
    pub texts: Option<PathBuf>,
    /// An event older than this when it is planned is told in a digest.
    pub stale: Duration,
    /// Messages that may wait for one chat; above: digests.
    pub digest_threshold: usize,
    /// How long Telegram may take to answer a message.
    pub deadline: Duration,
    /// How long a send belongs to its node. Longer than the deadline.
    pub lease: Duration,
}

/// What is posted to stores' own addresses.
#[derive(Debug, Clone, Copy)]
pub struct Webhook {
    /// Whether plain http and addresses of the own network may be called, too.
    pub allow_private: bool,
}

impl Telegram {
    /// Whether there is a bot.
    pub fn is_on(&self) -> bool {
        !self.token.expose_secret().is_empty()
    }
}

/// The log.
#[derive(Debug, Clone)]
pub struct Log {
    /// A tracing filter.
    pub filter: String,
    /// How a line looks.
    pub format: LogFormat,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

impl Config {
    /// The settings of each database that is served, and its place among several.
    pub fn shards(&self) -> Vec<(Self, Option<Shard>)> {
        if self.databases.is_empty() {
            return vec![(self.clone(), None)];
        }
        let of = |shard: &Shard| Self {
            database: shard.database.clone(),
            telegram: shard.telegram.clone(),
            databases: Vec::new(),
            ..self.clone()
        };
        self.databases
            .iter()
            .map(|shard| (of(shard), Some(shard.clone())))
            .collect()
    }
}

impl Default for Config {
    /// The values of `vestnik.default.toml`.
    fn default() -> Self {
        load(&Sources::default()).expect("vestnik.default.toml holds good settings: a test reads it")
    }
}
