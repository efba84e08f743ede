//! Debian's PgBouncer in transaction mode, in front of the Postgres of the test run.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::app::PATIENCE;
use super::db::Database;
use super::look_again;

/// The number of connections to Postgres that PgBouncer opens for one database. A node opens more connections to
/// PgBouncer, so several connections of the node share one connection to Postgres.
pub const SESSIONS: usize = 3;

/// A running PgBouncer. Dropping this value ends the process.
pub struct Pooler {
    port: u16,
    child: Child,
    _directory: TempDir,
}

impl Pooler {
    /// Starts a PgBouncer in front of the Postgres that has this database.
    pub async fn before(database: &Database) -> Self {
        let (_, host) = database.url().split_once('@').unwrap();
        let (_, port) = host.split_once('/').unwrap().0.split_once(':').unwrap();
        // The kernel has just assigned this port to a socket that is now closed. The kernel does not assign the same
        // port again so soon.
        let ours = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let directory = tempfile::tempdir().unwrap();
        let settings = directory.path().join("pgbouncer.ini");
        let text = format!(
            "[databases]\n* = host=127.0.0.1 port={port} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {ours}\nunix_socket_dir =\nauth_type = any\npool_mode = transaction\n\
             default_pool_size = {SESSIONS}\nmax_client_conn = 500\n"
        );
        std::fs::write(&settings, text).unwrap();
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(directory.path(), open).unwrap();
        let mut command = Command::new(program());
        if rustix::process::geteuid().is_root() {
            command.args(["-u", "postgres"]);
        }
        let child = command
            .arg(settings)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("pgbouncer is installed: scripts/test does that");
        let pooler = Self {
            port: ours,
            child,
            _directory: directory,
        };
        let listens = timeout(PATIENCE, async {
            while TcpStream::connect(("127.0.0.1", ours)).await.is_err() {
                look_again().await;
            }
        });
        listens.await.expect("the pooler listens");
        pooler
    }

    /// The URL of a database through the pooler.
    pub fn url(&self, database: &Database) -> String {
        let (_, name) = database.url().rsplit_once('/').unwrap();
        format!("postgres://postgres@127.0.0.1:{}/{name}", self.port)
    }
}

fn program() -> PathBuf {
    let usual = PathBuf::from("/usr/sbin/pgbouncer");
    if usual.exists() { usual } else { "pgbouncer".into() }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
