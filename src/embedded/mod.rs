//! A private Postgres in a directory, for a `vestnik serve` without a configured database. It starts and stops with the
//! program. If a server from an earlier run still runs, the program uses this server. The server listens on a socket in
//! a directory of mode 0700, so that only the directory's owner and root can reach it.

mod account;
mod binaries;

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use secrecy::SecretString;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use crate::infra::backoff::Backoff;
use crate::infra::db;
use account::Account;
use binaries::Binaries;

/// The name of the database in the private Postgres.
const DATABASE: &str = "vestnik";
/// The Postgres role that owns the database.
const OWNER: &str = "postgres";
/// Maximum time for the server to start. It may have to recover from a crash.
const START_DEADLINE: Duration = Duration::from_secs(60);
/// Maximum time for the server to end after a signal. The first signal requests an orderly stop. If the server does not
/// end in this time, a second signal requests an immediate stop.
const STOP_DEADLINE: Duration = Duration::from_secs(20);
/// Interval of the checks of the server's state while it starts or stops.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Interval of the checks of the server's state while it runs.
const SUPERVISE_INTERVAL: Duration = Duration::from_millis(200);
/// Maximum length of the socket directory's path, bytes. The operating system limits the length of the whole path, and
/// the socket's file name needs 14 bytes.
const MAX_SOCKET_DIRECTORY_BYTES: usize = 107 - 14;
/// The number of the line in `postmaster.pid` that contains the server's state.
const STATE_LINE: usize = 7;

/// The reason why the private Postgres could not be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// This machine has no Postgres, and the download of one failed.
    #[error(
        "no Postgres was found here and none could be downloaded ({0}): install one (Debian: `apt-get install \
         postgresql`), or set DATABASE_URL to the database that you have"
    )]
    NoPostgres(String),
    /// This machine does not have the major version of Postgres that created the data.
    #[error(
        "the data was made by Postgres {0}, which was not found here: install that version, or move the directory away"
    )]
    OtherVersion(u32),
    /// Another process uses the data directory.
    #[error("another vestnik runs on {}: stop it, or set embedded.directory to another place", .0.display())]
    InUse(PathBuf),
    /// A program of Postgres, such as initdb, failed.
    #[error("{program} failed; {} says why: {said}", .log.display())]
    Program {
        /// The name of the program.
        program: &'static str,
        /// The path of the program's log.
        log: PathBuf,
        /// The last lines of the program's log.
        said: String,
    },
    /// The server was not ready within `START_DEADLINE`. The field is the path of its log.
    #[error("the private Postgres did not start within {} s; see {}", START_DEADLINE.as_secs(), .0.display())]
    TooSlow(PathBuf),
    /// A file could not be read or written.
    #[error("{path}: {1}", path = .0.display())]
    File(PathBuf, #[source] std::io::Error),
    /// This machine has neither an account `postgres` nor an account `nobody`.
    #[error("Postgres does not run as root, and this machine has no account `postgres` or `nobody` to run it as")]
    NoAccount,
    /// The server started, but rejected Vestnik's connection.
    #[error(transparent)]
    Db(#[from] db::Error),
    /// The server started, but rejected a statement.
    #[error("{}", db::reason(.0))]
    Postgres(#[from] tokio_postgres::Error),
}

/// A running private Postgres. [`Embedded::stop`] stops it.
pub struct Embedded {
    paths: Paths,
    account: Account,
    binaries: Binaries,
    process: Pid,
    /// The server as a child process. `None`: the server was running before this program.
    child: Option<Child>,
    /// The file lock that prevents other processes from using the data. The lock is held until this value is dropped.
    _lock: File,
}

/// The paths of the private Postgres: its directory and the parts in it.
#[derive(Debug, Clone)]
struct Paths {
    root: PathBuf,
    data: PathBuf,
    socket: PathBuf,
    log: PathBuf,
}

impl Paths {
    /// Returns the paths of the private Postgres in `root`. `root` must be absolute, because Postgres runs in another
    /// directory.
    fn of(root: PathBuf) -> Self {
        let inside = root.join("socket");
        let fits = inside.as_os_str().len() <= MAX_SOCKET_DIRECTORY_BYTES;
        Self {
            data: root.join("data"),
            socket: if fits { inside } else { account::short_directory(&root) },
            log: root.join("postgres.log"),
            root,
        }
    }

    /// Reads the server's process id, and whether the server is ready, from `postmaster.pid`. `None`: the file is
    /// missing or incomplete.
    fn postmaster(&self) -> Option<(Pid, bool)> {
        let text = fs::read_to_string(self.data.join("postmaster.pid")).ok()?;
        let mut lines = text.lines();
        let process = Pid::from_raw(lines.next()?.trim().parse().ok()?)?;
        let ready = lines.nth(STATE_LINE - 1).is_some_and(|state| state.trim() == "ready");
        Some((process, ready))
    }

    fn url(&self, database: &str) -> SecretString {
        let host = self
            .socket
            .display()
            .to_string()
            .replace('\\', "\\\\")
            .replace('\'', "\\'");
        SecretString::from(format!("host='{host}' user={OWNER} dbname={database}"))
    }
}

/// The URL of the private Postgres in this directory. `None`: its server is not running, or not ready.
pub fn running(directory: &Path) -> Option<SecretString> {
    let paths = Paths::of(fs::canonicalize(directory).ok()?);
    let (process, ready) = paths.postmaster()?;
    (ready && test_kill_process(process).is_ok()).then(|| paths.url(DATABASE))
}

impl Embedded {
    /// Starts the private Postgres, and creates its data if there is none. If its server from an earlier run still
    /// runs, uses this server.
    pub async fn start(directory: &Path) -> Result<Self, Error> {
        let account = Account::to_run_postgres()?;
        let root = account.prepare(directory)?;
        let paths = Paths::of(root);
        let lock = lock(&paths)?;
        account.make_directory(&paths.socket)?;
        let made_by = fs::read_to_string(paths.data.join("PG_VERSION")).ok();
        let made_by = made_by.and_then(|version| version.trim().parse().ok());
        let binaries = Binaries::find(made_by, &paths.root.join("postgres")).await?;
        if made_by.is_none() {
            make_data(&paths, &binaries, &account).await?;
        }
        let (process, child) = match paths.postmaster() {
            Some((process, _)) if test_kill_process(process).is_ok() && answers(&paths).await => (process, None),
            _ => {
                let child = spawn(&paths, &binaries, &account)?;
                (process_of(&child).ok_or_else(|| died(&paths))?, Some(child))
            }
        };
        let mut embedded = Self {
            paths,
            account,
            binaries,
            process,
            child,
            _lock: lock,
        };
        embedded.until_ready().await?;
        embedded.make_database().await?;
        Ok(embedded)
    }

    /// The URL of the private Postgres.
    pub fn url(&self) -> SecretString {
        self.paths.url(DATABASE)
    }

    /// The major version of the private Postgres.
    pub fn major(&self) -> u32 {
        self.binaries.major
    }

    /// The psql command line for the private Postgres. A caller can append options. `None`: psql is not installed.
    pub fn psql(&self) -> Option<String> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let program = if std::env::split_paths(&path).any(|directory| directory.join("psql").is_file()) {
            "psql".to_owned()
        } else {
            let psql = self.binaries.directory.join("psql");
            psql.is_file().then(|| quoted(&psql.display().to_string()))?
        };
        let socket = quoted(&self.paths.socket.display().to_string());
        Some(format!("{program} -h {socket} -U {OWNER} {DATABASE}"))
    }

    async fn until_ready(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + START_DEADLINE;
        while !matches!(self.paths.postmaster(), Some((process, true)) if process == self.process) {
            if let Some(Ok(Some(_))) = self.child.as_mut().map(Child::try_wait) {
                return Err(died(&self.paths));
            }
            if Instant::now() > deadline {
                return Err(Error::TooSlow(self.paths.log.clone()));
            }
            sleep(LOOK_INTERVAL).await;
        }
        Ok(())
    }

    async fn make_database(&self) -> Result<(), Error> {
        let client = db::connect_as(&self.paths.url("postgres"), "start").await?;
        let there = client
            .query_opt("select from pg_database where datname = $1", &[&DATABASE])
            .await?;
        if there.is_none() {
            client.batch_execute(&format!("create database {DATABASE}")).await?;
        }
        Ok(())
    }

    /// Restarts the server whenever it ends. Never returns.
    pub async fn supervise(&mut self) {
        let mut backoff = Backoff::new();
        loop {
            while !self.has_ended() {
                sleep(SUPERVISE_INTERVAL).await;
            }
            tracing::warn!("the private Postgres ended: starting it again");
            match self.start_again().await {
                Ok(()) => backoff.reset(),
                Err(error) => {
                    tracing::warn!(%error, "the private Postgres did not start again");
                    sleep(backoff.next_pause()).await;
                }
            }
        }
    }

    async fn start_again(&mut self) -> Result<(), Error> {
        let child = spawn(&self.paths, &self.binaries, &self.account)?;
        self.process = process_of(&child).ok_or_else(|| died(&self.paths))?;
        self.child = Some(child);
        self.until_ready().await
    }

    /// Stops the server in an orderly way. If this takes longer than `STOP_DEADLINE`, requests an immediate stop.
    pub async fn stop(mut self) {
        if !self.signal(Signal::INT).await && !self.signal(Signal::QUIT).await {
            tracing::warn!("the private Postgres did not stop; the next start takes it over");
        }
    }

    /// Stops the server without a checkpoint, like a power failure. The next start recovers the data from the
    /// write-ahead log.
    pub async fn stop_at_once(mut self) {
        self.signal(Signal::QUIT).await;
    }

    /// Sends a signal to the server. Returns whether the server ended within `STOP_DEADLINE`.
    async fn signal(&mut self, signal: Signal) -> bool {
        let _ = kill_process(self.process, signal);
        let deadline = Instant::now() + STOP_DEADLINE;
        while Instant::now() < deadline {
            if self.has_ended() {
                return true;
            }
            sleep(LOOK_INTERVAL).await;
        }
        false
    }

    fn has_ended(&mut self) -> bool {
        match &mut self.child {
            Some(child) => !matches!(child.try_wait(), Ok(None)),
            None => test_kill_process(self.process).is_err(),
        }
    }
}

/// Takes the file lock, which allows only one process at a time to use the data.
fn lock(paths: &Paths) -> Result<File, Error> {
    let path = paths.root.join("lock");
    let file = File::create(&path).map_err(|error| Error::File(path, error))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(_) => Err(Error::InUse(paths.root.clone())),
    }
}

async fn answers(paths: &Paths) -> bool {
    db::connect_as(&paths.url("postgres"), "start").await.is_ok()
}

/// Creates the data with initdb, in a temporary directory that is renamed at the end. So an interrupted initdb leaves
/// no unfinished data in the final directory.
async fn make_data(paths: &Paths, binaries: &Binaries, account: &Account) -> Result<(), Error> {
    let unfinished = paths.root.join("data.unfinished");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).map_err(|error| Error::File(unfinished.clone(), error))?;
    }
    let mut command = Command::new(binaries.directory.join("initdb"));
    command.arg("-D").arg(&unfinished);
    command.args(["-U", OWNER, "--auth=trust", "--encoding=UTF8", "--locale=C"]);
    account.lower(&mut command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .await
        .map_err(|error| Error::File(binaries.directory.join("initdb"), error))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        let log = paths.log.clone();
        return Err(Error::Program {
            program: "initdb",
            log,
            said,
        });
    }
    fs::rename(&unfinished, &paths.data).map_err(|error| Error::File(paths.data.clone(), error))
}

fn spawn(paths: &Paths, binaries: &Binaries, account: &Account) -> Result<Child, Error> {
    let file = |error| Error::File(paths.log.clone(), error);
    let log = File::create(&paths.log).map_err(file)?;
    let mut command = Command::new(binaries.directory.join("postgres"));
    command.arg("-D").arg(&paths.data).arg("-k").arg(&paths.socket);
    command.args(["-c", "listen_addresses=", "-c", "unix_socket_permissions=0700"]);
    account.lower(&mut command);
    // Give the server its own process group. Then Ctrl-C reaches only Vestnik, which stops Postgres after all its other
    // parts.
    command.process_group(0);
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(file)?)
        .stderr(log)
        .spawn()
        .map_err(|error| Error::File(binaries.directory.join("postgres"), error))
}

/// The server's process id. `None`: the server has already ended.
fn process_of(child: &Child) -> Option<Pid> {
    Pid::from_raw(child.id()?.cast_signed())
}

fn died(paths: &Paths) -> Error {
    /// Maximum number of lines that the error shows. These are the last lines of the server's log.
    const SHOWN_LINES: usize = 3;
    let text = fs::read_to_string(&paths.log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let said = lines[lines.len().saturating_sub(SHOWN_LINES)..].join("; ");
    Error::Program {
        program: "postgres",
        log: paths.log.clone(),
        said,
    }
}

fn set_mode(path: &Path, mode: u32) -> Result<(), Error> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(|error| Error::File(path.to_owned(), error))
}

/// Quotes a text for a shell, if it needs quotes.
fn quoted(text: &str) -> String {
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+:".contains(c));
    if plain {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_blanks_and_quotes_is_pasteable() {
        assert_eq!(quoted("/srv/vestnik-data"), "/srv/vestnik-data");
        assert_eq!(quoted("/my data/it's"), r"'/my data/it'\''s'");
    }

    #[test]
    fn a_long_path_has_its_socket_elsewhere() {
        let long = PathBuf::from(format!("/{}", "x".repeat(200)));
        assert!(Paths::of(long).socket.as_os_str().len() <= MAX_SOCKET_DIRECTORY_BYTES);
        assert_eq!(Paths::of("/srv/v".into()).socket, PathBuf::from("/srv/v/socket"));
    }
}
