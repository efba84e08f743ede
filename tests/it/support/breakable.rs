//! A Postgres of a test's own, to be stopped and started, in the ways in which it may go.

use vestnik::embedded::Embedded;

use super::db::Database;

/// A Postgres of its own, which may be broken: with fsync, and reached through its directory.
pub struct Breakable {
    directory: tempfile::TempDir,
    running: Option<Embedded>,
}

impl Breakable {
    /// With a database that has been migrated.
    pub async fn start() -> (Self, Database) {
        let directory = tempfile::tempdir().unwrap();
        // The account that Postgres runs as must be able to enter it.
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

    /// Fast: every connection is cut, and what is committed is on the disk.
    pub async fn restart_fast(&mut self) {
        self.running.take().unwrap().stop().await;
        self.running = Some(Embedded::start(&self.directory.path().join("data")).await.unwrap());
    }

    /// Immediate: as if the power had gone; it recovers from its log.
    pub async fn restart_immediate(&mut self) {
        self.running.take().unwrap().stop_at_once().await;
        self.running = Some(Embedded::start(&self.directory.path().join("data")).await.unwrap());
    }

    /// At the end of a test.
    pub async fn stop(mut self) {
        self.running.take().unwrap().stop().await;
    }
}
