//! A Postgres server that only one test uses. The test can restart the server after a clean shutdown, or after a
//! shutdown that resembles a power failure.

use vestnik::embedded::Embedded;

use super::db::Database;

/// A running Postgres with fsync on. The unix socket is in `directory`.
pub struct Breakable {
    directory: tempfile::TempDir,
    running: Option<Embedded>,
}

impl Breakable {
    /// Starts a Postgres, and returns it with a migrated database.
    pub async fn start() -> (Self, Database) {
        let directory = tempfile::tempdir().unwrap();
        // Postgres runs as another account of the operating system, which must be able to enter the directory.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(directory.path(), open).unwrap();
        let running = Embedded::start(&directory.path().join("data")).await.unwrap();
        let database = Database::at(running.url());
        vestnik::migrate::run(&database.config(), &mut |_| ()).await.unwrap();
        (
            Self {
                directory,
                running: Some(running),
            },
            database,
        )
    }

    /// Restarts Postgres after a fast shutdown, which closes every connection and writes committed data to the disk.
    pub async fn restart_fast(&mut self) {
        self.running.take().unwrap().stop().await;
        self.running = Some(Embedded::start(&self.directory.path().join("data")).await.unwrap());
    }

    /// Restarts Postgres after an immediate shutdown, which resembles a power failure: Postgres recovers from its WAL.
    pub async fn restart_immediate(&mut self) {
        self.running.take().unwrap().stop_at_once().await;
        self.running = Some(Embedded::start(&self.directory.path().join("data")).await.unwrap());
    }

    /// Stops Postgres at the end of the test.
    pub async fn stop(mut self) {
        self.running.take().unwrap().stop().await;
    }
}
