//! The settings: `vestnik.default.toml`, then a file, then the environment, then flags. `load` reads and checks them.

mod answers;
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

/// All settings, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// The HTTP server.
    pub http: Http,
    /// The second HTTP server, for operators.
    pub ops: Ops,
    /// The TLS certificate; `None` serves plain http and ws.
    pub tls: Option<Tls>,
    /// The issuer of JWTs that open stores, in addition to our own tokens; `None`: no issuer.
    pub jwt: Option<Jwt>,
    /// The database, if one is served.
    pub database: Database,
    /// The databases, if several are served.
    pub databases: Vec<Shard>,
    /// The private Postgres, for when no database is configured.
    pub embedded: Embedded,
    /// The shop's tables.
    pub shop: Shop,
    /// The journal.
    pub journal: Journal,
    /// The live clients.
    pub session: Session,
    /// People's answers.
    pub answers: Answers,
    /// The durable sends; `None`: no bot and no escalation.
    pub telegram: Option<Telegram>,
    /// Webhooks.
    pub webhook: Webhook,
    /// The log.
    pub log: Log,
}

/// The HTTP server.
#[derive(Debug, Clone)]
pub struct Http {
    /// The address that panels connect to.
    pub listen: SocketAddr,
    /// Origins of web pages that may connect, in addition to the server's own.
    pub allowed_origins: Vec<String>,
    /// Hosts that requests may name; empty: any host.
    pub hosts: Vec<String>,
    /// Maximum number of open connections.
    pub max_connections: usize,
    /// Maximum number of open connections without a valid token.
    pub max_unauthenticated: usize,
    /// Maximum number of open connections without a valid token from one address.
    pub max_unauthenticated_per_address: usize,
    /// Requests a second without a valid token from one address.
    pub requests_per_address: u32,
    /// Requests a second with one token.
    pub requests_per_token: u32,
    /// Proxies whose forwarded client addresses are trusted.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether each connection of these proxies begins with a PROXY header of version 2.
    pub proxy_protocol: bool,
}

/// Maximum number of open connections of the operators' server.
pub const OPS_CONNECTIONS: usize = 64;

/// The HTTP server for operators: `/healthz`, `/readyz`, `/metrics`.
#[derive(Debug, Clone)]
pub struct Ops {
    /// Its address; `None`: no such server.
    pub listen: Option<SocketAddr>,
}

/// The files of the certificate.
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
    /// A direct address for LISTEN if `url` is a transaction pooler; `None`: `url` serves for both.
    pub listen_url: Option<SecretString>,
    /// Whether the triggers notify.
    pub notify: Notify,
    /// The first half of the keys of the two advisory locks of NOTIFY suppression. The triggers use the value of the
    /// last migration.
    pub notify_lock_key: i32,
    /// Share of the Postgres notification queue in use above which orders do not notify, 0 to 1.
    pub notify_queue_limit: f64,
    /// Interval after which an idle feed reads without a notification. It should find nothing.
    pub safety_read: Duration,
    /// Connections for replays, status changes, and background work.
    pub pool_size: usize,
    /// Connections for tokens and acknowledgements only.
    pub token_pool_size: usize,
    /// Connections for lists, history and statistics.
    pub read_pool_size: usize,
    /// Whether `serve` migrates before it starts.
    pub migrate_on_start: bool,
}

/// One of several databases.
#[derive(Debug, Clone)]
pub struct Shard {
    /// Its name in the settings.
    pub name: String,
    /// Its settings.
    pub database: Database,
    /// The stores in this database; `None`: the database is queried.
    pub stores: Option<BTreeSet<String>>,
    /// Its bot.
    pub telegram: Option<Telegram>,
}

/// How the feed learns of new events.
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
    /// The directory of its data.
    pub directory: PathBuf,
}

/// The shop's tables.
#[derive(Debug, Clone)]
pub struct Shop {
    /// Who manages them.
    pub schema: ShopSchema,
    /// The directory for the backup before V23.
    pub backup_directory: PathBuf,
}

/// Who manages the shop's tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShopSchema {
    /// Vestnik makes and migrates `orders` and `bookings`.
    Reference,
    /// The shop manages its own tables; Vestnik does not migrate them.
    Own,
}

/// The journal.
#[derive(Debug, Clone)]
pub struct Journal {
    /// Retention of events.
    pub retention: Duration,
    /// Interval of the reconciler; `None`: the reconciler is off.
    pub reconcile_interval: Option<Duration>,
}

/// The live clients.
#[derive(Debug, Clone)]
pub struct Session {
    /// Interval of pings and heartbeat messages.
    pub ping_interval: Duration,
    /// Maximum bytes of queued events for one session.
    pub queue_bytes: usize,
    /// Maximum bytes of an event's payload. A larger event goes out without its large parts.
    pub max_event_bytes: usize,
    /// Maximum sessions of one store on this node.
    pub max_per_store: usize,
    /// Maximum sessions of one store with one token on this node. It is lower, so that one token cannot use all
    /// sessions of a store.
    pub max_per_token: usize,
}

/// People's answers.
#[derive(Debug, Clone)]
pub struct Answers {
    /// How long after a status change a person may undo it.
    pub step_back: Duration,
    /// Sign what is posted to the shops' own APIs; empty: nothing is posted.
    pub secrets: Vec<SecretString>,
}

/// The durable sends.
#[derive(Debug, Clone)]
pub struct Telegram {
    /// The bot's token.
    pub token: SecretString,
    /// The base URL of the Bot API.
    pub api_url: String,
    /// The proxy for the Bot API: http, https, socks5 or socks5h; `None`: from the environment. It may hold a password.
    pub proxy: Option<SecretString>,
    /// The directory of the operator's own message texts.
    pub texts: Option<PathBuf>,
    /// An event older than this when its delivery is planned goes into a digest.
    pub stale: Duration,
    /// Maximum queued messages for one chat; beyond it the chat receives digests.
    pub digest_threshold: usize,
    /// Deadline for Telegram's response to a message.
    pub deadline: Duration,
    /// Duration of the lease of a delivery. Longer than the deadline.
    pub lease: Duration,
}

/// Webhooks.
#[derive(Debug, Clone, Copy)]
pub struct Webhook {
    /// Whether webhooks may use plain http and private network addresses.
    pub allow_private: bool,
}

impl Telegram {
    /// Whether a bot is configured.
    pub fn is_on(&self) -> bool {
        !self.token.expose_secret().is_empty()
    }
}

/// The log.
#[derive(Debug, Clone)]
pub struct Log {
    /// A tracing filter.
    pub filter: String,
    /// The format of a line.
    pub format: LogFormat,
}

/// The format of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

impl Config {
    /// The settings of each served database, and its index.
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
