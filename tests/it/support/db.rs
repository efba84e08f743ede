//! One Postgres server for the test run, and one database for each test.
//!
//! If the variable `VESTNIK_TEST_CLUSTER` has the URL of a Postgres server, the tests use that server. Otherwise this
//! module starts a server, with fsync off to save time. Each test gets its own database from a template. Notifications
//! and journals belong to one database, so tests can run in parallel.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, mpsc};
use std::time::{Duration, Instant};

use secrecy::SecretString;
use tokio::sync::OnceCell;
use tokio::time::timeout;
use vestnik::infra::config::{Config, Database as DatabaseConfig, ShopSchema};
use vestnik::infra::db::{Client, Error, connect_as, connect_directly};
use vestnik::sources::attach::{self, Options};
use vestnik::sources::registry::Registry;

use super::app::PATIENCE;
use super::look_again;
use super::watch::Watch;

/// The database of one test. Dropping this value drops the database, so that a test run needs little disk space.
pub struct Database {
    url: String,
    /// The database's name, if dropping this value drops the database. `None` for templates and for databases that the
    /// test did not create.
    owned: Option<String>,
    _watch: Watch,
}

/// Waits until a query returns true.
pub async fn until(client: &Client, sql: &str) {
    until_within(client, PATIENCE, sql).await;
}

/// Like [`until`], but waits for at most `patience`.
pub async fn until_within(client: &Client, patience: Duration, sql: &str) {
    let waited = timeout(patience, async {
        while client.query_one(sql, &[]).await.unwrap().get::<_, Option<bool>>(0) != Some(true) {
            look_again().await;
        }
    });
    waited
        .await
        .unwrap_or_else(|_| panic!("the query did not return true: {sql}"));
}

/// Repeats `connect` until it succeeds, for at most [`PATIENCE`]. A busy machine may not open a connection within the
/// time limit of one attempt.
async fn until_connected<C>(connect: impl AsyncFn() -> Result<C, Error>) -> C {
    let begin = Instant::now();
    loop {
        match connect().await {
            Ok(connected) => return connected,
            Err(error) => assert!(begin.elapsed() < PATIENCE, "no connection to Postgres: {error}"),
        }
        look_again().await;
    }
}

static CLUSTER: OnceCell<String> = OnceCell::const_new();
static TEMPLATE: OnceCell<()> = OnceCell::const_new();
static WITHOUT_SHOP: OnceCell<()> = OnceCell::const_new();
static NEXT: AtomicU32 = AtomicU32::new(1);

impl Database {
    /// Waits until a query returns true.
    pub async fn until(&self, sql: &str) {
        until(&self.client().await, sql).await;
    }

    /// Whether `pg_dump` of this machine can dump the database. `pg_dump` refuses a server that is newer than itself;
    /// then this function prints that the test was skipped.
    pub async fn can_be_dumped(&self) -> bool {
        let client = self.client().await;
        let server: String = client.query_one("show server_version", &[]).await.unwrap().get(0);
        let dump = Command::new("pg_dump").arg("--version").output().unwrap();
        let dump = String::from_utf8(dump.stdout).unwrap();
        let major = |version: &str| {
            version
                .split('.')
                .next()
                .and_then(|major| major.parse::<u32>().ok())
                .unwrap()
        };
        let can = major(dump.split_whitespace().nth(2).unwrap()) >= major(&server);
        if !can {
            eprintln!("not tested: {} reads no server {server}", dump.trim());
        }
        can
    }

    /// Creates a database without Vestnik's schema.
    pub async fn empty() -> Self {
        Self::from_template("template0").await
    }

    /// Creates a database with the engine's schema and the reference shop.
    pub async fn fresh() -> Self {
        TEMPLATE
            .get_or_init(|| async {
                let template = Self::named("vestnik_template", "template0").await;
                let config = template.config();
                vestnik::migrate::run(&config, &mut |_| ()).await.unwrap();
            })
            .await;
        Self::from_template("vestnik_template").await
    }

    /// Creates a database with the engine's schema only, for a test that creates its own shop.
    pub async fn without_shop() -> Self {
        WITHOUT_SHOP
            .get_or_init(|| async {
                let template = Self::named("vestnik_without_shop", "template0").await;
                let mut config = template.config();
                config.shop.schema = ShopSchema::Own;
                vestnik::migrate::run(&config, &mut |_| ()).await.unwrap();
            })
            .await;
        Self::from_template("vestnik_without_shop").await
    }

    /// Creates a database with the engine's schema only, in an encoding other than UTF-8.
    pub async fn encoded(encoding: &str) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let template = format!("template0 encoding '{encoding}' locale 'C'");
        let database = Self::owned(&format!("t{}_{number}", std::process::id()), &template).await;
        let mut config = database.config();
        config.shop.schema = ShopSchema::Own;
        vestnik::migrate::run(&config, &mut |_| ()).await.unwrap();
        database
    }

    async fn from_template(template: &str) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self::owned(&format!("t{}_{number}", std::process::id()), template).await
    }

    async fn owned(name: &str, template: &str) -> Self {
        let mut database = Self::named(name, template).await;
        database.owned = Some(name.to_owned());
        database
    }

    async fn named(name: &str, template: &str) -> Self {
        let cluster = CLUSTER.get_or_init(cluster).await;
        let url = url(cluster, "postgres");
        let admin = until_connected(async || connect_as(&url, "test").await).await;
        admin
            .batch_execute(&format!("drop database if exists {name}"))
            .await
            .unwrap();
        admin
            .batch_execute(&format!("create database {name} template {template}"))
            .await
            .unwrap();
        Self {
            url: format!("{cluster}/{name}"),
            owned: None,
            _watch: Watch::begin(),
        }
    }

    /// Creates the engine's schema and the reference shop in the database `postgres` of this server.
    pub async fn on(server: &Server) -> Self {
        let database = Self {
            url: format!("{}/postgres", server.address),
            owned: None,
            _watch: Watch::begin(),
        };
        vestnik::migrate::run(&database.config(), &mut |_| ()).await.unwrap();
        database
    }

    /// A database that already exists at this URL.
    pub fn at(url: SecretString) -> Self {
        use secrecy::ExposeSecret as _;
        Self {
            url: url.expose_secret().to_owned(),
            owned: None,
            _watch: Watch::begin(),
        }
    }

    /// The database's URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The default settings, with this database's URL.
    pub fn config(&self) -> Config {
        let default = Config::default();
        let url = Some(SecretString::from(self.url.clone()));
        Config {
            database: DatabaseConfig {
                url,
                ..default.database.clone()
            },
            ops: vestnik::infra::config::Ops {
                listen: Some(([127, 0, 0, 1], 0).into()),
                // Switch the canary off: it writes synthetic orders, and tests count the rows of the journal.
                canary_interval: None,
            },
            ..default
        }
    }

    /// Loads the attached sources of the database, as a node does at its start.
    pub async fn sources(&self) -> Arc<Registry> {
        let registry = Registry::default();
        registry.reload(&self.client().await).await.unwrap();
        Arc::new(registry)
    }

    /// Attaches a table by its mapping, and returns the lines that `attach` reports.
    pub async fn attach(&self, mapping: &str) -> Vec<String> {
        let mut said = Vec::new();
        attach::attach(&mut self.session().await, mapping, Options::default(), &mut |line| {
            said.push(line.to_owned())
        })
        .await
        .unwrap();
        said
    }

    /// Opens a connection outside the pool, as `vestnik attach` and other commands that alter a table do.
    pub async fn session(&self) -> tokio_postgres::Client {
        let config = self.config();
        until_connected(async || connect_directly(&config.database, "command").await).await
    }

    /// Opens a connection as a shop's application does.
    pub async fn client(&self) -> Client {
        let url = SecretString::from(self.url.clone());
        until_connected(async || connect_as(&url, "shop").await).await
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Some(name) = self.owned.take() {
            // If the thread that drops databases has ended, the database is removed together with the cluster.
            let _ = DROPPED.send(name);
        }
    }
}

/// Drops the databases of ended tests one after the other, while other tests run. Dropping a database closes its
/// connections.
static DROPPED: LazyLock<mpsc::Sender<String>> = LazyLock::new(|| {
    let (sender, names) = mpsc::channel::<String>();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(async {
            let cluster = CLUSTER.get().expect("the cluster of these databases");
            let url = url(cluster, "postgres");
            let admin = until_connected(async || connect_as(&url, "test").await).await;
            for name in names {
                let statement = format!("drop database if exists {name} with (force)");
                if let Err(error) = admin.batch_execute(&statement).await {
                    eprintln!("{name} ends with the cluster: {error}");
                }
            }
        });
    });
    sender
});

fn url(cluster: &str, database: &str) -> SecretString {
    SecretString::from(format!("{cluster}/{database}"))
}

/// The URL of the test run's Postgres server, without a database name.
async fn cluster() -> String {
    match std::env::var("VESTNIK_TEST_CLUSTER") {
        Ok(given) => given.trim_end_matches('/').to_owned(),
        Err(_) => start_cluster(),
    }
}

fn start_cluster() -> String {
    let server = Server::start(&[]);
    let address = server.address.clone();
    // The script stops Postgres when the script's standard input closes, so the handle must not be dropped.
    std::mem::forget(server);
    address
}

/// A Postgres server that the script `cluster` starts. The script stops the server when the script's standard input
/// closes, which happens when the test process ends.
pub struct Server {
    /// The URL of the server, without a database name.
    pub address: String,
    child: Child,
    answers: std::io::BufReader<std::process::ChildStdout>,
}

impl Server {
    /// Starts the script with these environment variables.
    pub fn start(variables: &[(&str, &str)]) -> Self {
        use std::io::{BufRead, BufReader};
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/support/cluster");
        let mut child = Command::new(script)
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("tests/it/support/cluster starts a Postgres");
        let mut line = String::new();
        let mut answers = BufReader::new(child.stdout.take().unwrap());
        answers.read_line(&mut line).unwrap();
        assert!(line.starts_with("postgres://"), "no test cluster: {line:?}");
        Self {
            address: line.trim().to_owned(),
            child,
            answers,
        }
    }

    /// Stops the server, copies its data directory, and starts it again.
    pub fn keep(&mut self) {
        self.ask("keep");
    }

    /// Stops the server, restores the copy of its data directory, and starts it again.
    pub fn put_back(&mut self) {
        self.ask("put_back");
    }

    /// Kills the server as a crash would, and starts it again. The server recovers from its WAL.
    pub fn crash(&mut self) {
        self.ask("crash");
    }

    /// Stops the server and starts it again.
    pub fn restart(&mut self) {
        self.ask("restart");
    }

    /// Chooses a free port for the next standby, and returns it. After [`Server::fail`], the standby at this port is
    /// the primary.
    pub fn spare_port(&mut self) -> String {
        self.answer("spare")
    }

    /// Starts a streaming standby at the port of [`Server::spare_port`], and returns its URL.
    pub fn standby(&mut self) -> String {
        let port = self.answer("standby");
        self.address.replace(self.port(), &port)
    }

    /// Kills the server for good, as a failure of its machine would. After a promotion, the standby replaces it.
    pub fn fail(&mut self) {
        self.ask("fail");
    }

    /// Leaves no free space on the server's disk. The server must have been started with `VESTNIK_TEST_DISK_MIB`.
    pub fn fill_disk(&mut self) {
        self.ask("full");
    }

    /// Frees the disk space that [`Server::fill_disk`] has filled. If the full disk has ended the server, starts it
    /// again.
    pub fn free_disk(&mut self) {
        self.ask("roomy");
    }

    fn ask(&mut self, word: &str) {
        assert_eq!(self.answer(word), word, "Postgres came back");
    }

    fn answer(&mut self, word: &str) -> String {
        use std::io::{BufRead as _, Write as _};
        writeln!(self.child.stdin.as_mut().unwrap(), "{word}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        answer.trim().to_owned()
    }

    /// The port at which the server listens.
    pub fn port(&self) -> &str {
        self.address.rsplit_once(':').unwrap().1
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
