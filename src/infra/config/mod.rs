//! Vestnik's settings. They come from `vestnik.default.toml`, a file, the environment, and flags. Each of these sources
//! overrides the earlier ones. `load` reads and checks the settings.

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

/// All settings of a node. `load` has checked them.
#[derive(Debug, Clone)]
pub struct Config {
    /// The HTTP server for panels and other clients.
    pub http: Http,
    /// The HTTP server for operators: health, readiness and metrics.
    pub ops: Ops,
    /// The TLS certificate of the HTTP server; `None`: the server speaks plain http and ws.
    pub tls: Option<Tls>,
    /// The trusted issuer of JWTs. A JWT of this issuer gives access to a store, as one of Vestnik's own tokens does.
    /// `None`: no JWT is accepted.
    pub jwt: Option<Jwt>,
    /// The database, if the node serves only one. The Telegram bot of this database is in the field `telegram`.
    pub database: Database,
    /// The databases, if several are served. Empty if only one is served.
    pub databases: Vec<ServedDatabase>,
    /// The private Postgres, which Vestnik starts if no database is configured.
    pub embedded: Embedded,
    /// Whether Vestnik or the shop manages the shop's tables.
    pub shop: Shop,
    /// The retention of events, and the interval of the reconciler. The reconciler compares the shop's tables with the
    /// journal.
    pub journal: Journal,
    /// The limits of sessions. A session is one live client.
    pub session: Session,
    /// The rules for people's answers to orders and bookings.
    pub answers: Answers,
    /// The Telegram bot and its messages. `None`: there is no bot, and nobody gets a message about an unanswered order.
    pub telegram: Option<Telegram>,
    /// The rules for the addresses of webhooks.
    pub webhook: Webhook,
    /// The filter and the format of the log.
    pub log: Log,
}

/// The HTTP server for panels and other clients.
#[derive(Debug, Clone)]
pub struct Http {
    /// The address and port of the server.
    pub listen: SocketAddr,
    /// Origins of web pages that may connect, in addition to the server's own origin.
    pub allowed_origins: Vec<String>,
    /// The host names that clients may use in the header `Host`. A request with another host is refused. Empty: any
    /// host is allowed.
    pub hosts: Vec<String>,
    /// Maximum number of open connections.
    pub max_connections: usize,
    /// Maximum number of open connections without a valid token.
    pub max_unauthenticated: usize,
    /// Maximum number of open connections without a valid token from one client address.
    pub max_unauthenticated_per_address: usize,
    /// Maximum number of requests a second from one client address without a valid token.
    pub requests_per_address: u32,
    /// Maximum number of requests a second with one token.
    pub requests_per_token: u32,
    /// Proxies whose forwarded client addresses are trusted.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether each connection from a trusted proxy begins with a PROXY header of version 2.
    pub proxy_protocol: bool,
}

/// Maximum number of open connections of the HTTP server for operators.
pub const OPS_CONNECTIONS: usize = 64;

/// The HTTP server for operators: `/healthz`, `/readyz`, `/metrics`.
#[derive(Debug, Clone)]
pub struct Ops {
    /// The address and port of the server. `None`: the server is off.
    pub listen: Option<SocketAddr>,
    /// Time between two rounds of the canary, the node's self-test. `None`: the canary is off.
    pub canary_interval: Option<Duration>,
}

/// The certificate of the HTTP server.
#[derive(Debug, Clone)]
pub struct Tls {
    /// PEM file with the certificate chain.
    pub certificate: PathBuf,
    /// PEM file with the private key.
    pub key: PathBuf,
}

/// The connection to a served database.
#[derive(Debug, Clone)]
pub struct Database {
    /// The database's URL, which may contain a password. `None`: the node serves the private Postgres.
    pub url: Option<SecretString>,
    /// Postgres' direct address for LISTEN and migrations, if `url` is the address of a transaction pooler. `None`:
    /// `url` is also used for LISTEN and migrations.
    pub listen_url: Option<SecretString>,
    /// Whether Postgres notifies the feed about new events, or the feed polls. The feed is the task that reads new
    /// events.
    pub notify: Notify,
    /// The first of the two numbers in the keys of two advisory locks. A polling node holds these locks to suppress
    /// NOTIFY: writers then do not notify. The triggers use the value that the last migration wrote.
    pub notify_lock_key: i32,
    /// Share of Postgres' notification queue, 0 to 1. If more of the queue is in use, writers do not notify any more.
    pub notify_queue_limit: f64,
    /// Interval at which an idle feed reads the journal, even if no notification arrives. If such a read finds an
    /// event, a notification was lost.
    pub fallback_poll_interval: Duration,
    /// Number of connections in the pool for replays, status changes and background work.
    pub pool_size: usize,
    /// Number of connections in the pool for tokens and acknowledgements only.
    pub token_pool_size: usize,
    /// Number of connections in the pool for lists, history and statistics.
    pub read_pool_size: usize,
    /// Whether `vestnik serve` runs the migrations before it starts.
    pub migrate_on_start: bool,
}

/// A served database, if one node serves several databases.
#[derive(Debug, Clone)]
pub struct ServedDatabase {
    /// The database's name in the setting `databases`.
    pub name: String,
    /// The connection to the database.
    pub database: Database,
    /// The ids of the stores in this database. `None`: Vestnik reads the ids from the tables of the database.
    pub stores: Option<BTreeSet<String>>,
    /// The Telegram bot of the database's stores. `None`: there is no bot, and nobody gets a message about an
    /// unanswered order.
    pub telegram: Option<Telegram>,
}

/// How the feed learns about new events. The feed is the task that reads new events from the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notify {
    /// Postgres notifies the feed: LISTEN and NOTIFY.
    On,
    /// The feed polls the journal at short intervals.
    Off,
}

/// The private Postgres, which Vestnik starts itself.
#[derive(Debug, Clone)]
pub struct Embedded {
    /// The directory of the data files of the private Postgres.
    pub directory: PathBuf,
}

/// The settings of the shop's tables.
#[derive(Debug, Clone)]
pub struct Shop {
    /// Whether Vestnik or the shop manages the tables.
    pub schema: ShopSchema,
    /// The directory in which `vestnik migrate` writes a backup before migration V23, which renames the statuses of
    /// orders.
    pub backup_directory: PathBuf,
}

/// Whether Vestnik or the shop manages the shop's tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShopSchema {
    /// Vestnik creates and migrates the tables `orders` and `bookings`.
    Reference,
    /// The shop manages its own tables; Vestnik attaches to them and does not migrate them.
    Own,
}

/// The settings of the journal (the table of events), and of the reconciler, which compares the shop's tables with the
/// journal.
#[derive(Debug, Clone)]
pub struct Journal {
    /// Time for which events are kept. Reconnecting clients and lists of earlier events need them.
    pub retention: Duration,
    /// Time between two runs of the reconciler, which compares the shop's tables with the journal. `None`: the
    /// reconciler is off.
    pub reconcile_interval: Option<Duration>,
}

/// The limits of sessions. A session is one live client.
#[derive(Debug, Clone)]
pub struct Session {
    /// Interval between two pings. A heartbeat message is sent with each ping.
    pub ping_interval: Duration,
    /// Maximum number of bytes that wait to be sent to one session. Above this number, the session is closed.
    pub send_queue_bytes: usize,
    /// Maximum size of an event's payload, in bytes. Vestnik leaves out large parts of a larger payload, such as the
    /// items.
    pub max_event_bytes: usize,
    /// Maximum number of sessions of one store on this node.
    pub max_per_store: usize,
    /// Maximum number of sessions of one store with one token on this node. This limit is usually lower than
    /// `max_per_store`, so that one token cannot use all sessions of a store.
    pub max_per_token: usize,
}

/// The rules for people's answers to orders and bookings. An answer is a status change, such as "accepted".
#[derive(Debug, Clone)]
pub struct Answers {
    /// How long after a status change a person may undo it. 0: never.
    pub step_back: Duration,
    /// The secrets with which Vestnik signs people's answers when it posts them to shops' own APIs. During a
    /// replacement of the secret, the list has the old and the new secret. Empty: no answer is posted.
    pub secrets: Vec<SecretString>,
}

/// The Telegram bot, and how its messages are sent to chats.
#[derive(Debug, Clone)]
pub struct Telegram {
    /// The bot's token from @BotFather; empty: there is no bot.
    pub token: SecretString,
    /// The base URL of Telegram's Bot API.
    pub api_url: String,
    /// The proxy to the Bot API: http, https, socks5 or socks5h. The address may contain a password. `None`: the proxy
    /// of the environment is used, if there is one.
    pub proxy: Option<SecretString>,
    /// The directory of the operator's own message texts; `None`: only the built-in texts are used.
    pub texts: Option<PathBuf>,
    /// Maximum age of an event that gets its own message. If an event is older when its message is enqueued, a digest
    /// lists the event instead. A digest is one message for many events.
    pub digest_after: Duration,
    /// Maximum number of messages that wait for one chat. If more messages wait, the chat gets a digest: one message
    /// for many events.
    pub digest_threshold: usize,
    /// Maximum time for Telegram to respond to a request.
    pub deadline: Duration,
    /// Length of the lease of a message. When a node begins to send a message, it takes the lease, and until the lease
    /// ends, no other node sends this message. The lease is longer than `deadline`.
    pub lease: Duration,
}

/// The rules for the addresses of webhooks.
#[derive(Debug, Clone, Copy)]
pub struct Webhook {
    /// Whether webhooks may use plain http and private network addresses.
    pub allow_private: bool,
}

impl Telegram {
    /// Whether a bot is configured: it has a token.
    pub fn is_on(&self) -> bool {
        !self.token.expose_secret().is_empty()
    }
}

/// The filter and the format of the log.
#[derive(Debug, Clone)]
pub struct Log {
    /// The filter of log lines, in the syntax of `tracing`, such as `info,vestnik::feed=debug`.
    pub filter: String,
    /// The format of each log line.
    pub format: LogFormat,
}

/// The format of each log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Readable text, for people.
    Text,
    /// A JSON object, for machines.
    Json,
}

impl Config {
    /// Returns the settings of each served database, together with its entry in `databases`. The entry is `None` if the
    /// node serves only one database.
    pub fn each_database(&self) -> Vec<(Self, Option<ServedDatabase>)> {
        if self.databases.is_empty() {
            return vec![(self.clone(), None)];
        }
        let of = |served: &ServedDatabase| Self {
            database: served.database.clone(),
            telegram: served.telegram.clone(),
            databases: Vec::new(),
            ..self.clone()
        };
        self.databases
            .iter()
            .map(|served| (of(served), Some(served.clone())))
            .collect()
    }
}

impl Default for Config {
    /// The settings in `vestnik.default.toml`, without any other source.
    fn default() -> Self {
        load(&Sources::default()).expect("vestnik.default.toml holds good settings: a test reads it")
    }
}
