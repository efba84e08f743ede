//! The disk of the chaos test's Postgres: a tmpfs whose size the test can change. Only root can mount it.

use std::process::Command;

use crate::support::db::{Database, Server};
use crate::support::look_again;

/// The setting of `tests/it/support/cluster` that mounts the disk. A run of an hour needs less space.
pub const SMALL: [(&str, &str); 2] = [
    ("VESTNIK_TEST_DISK_MIB", "6144"),
    ("VESTNIK_TEST_OPTIONS", "-c max_wal_size=256MB"),
];
/// Needs more space than Postgres may find in its files while the disk is full.
const WRITE: &str = "begin; create table filler as select repeat(md5(n::text), 100) from generate_series(1, 30000) n";

/// Whether this process may mount a tmpfs.
pub fn can_mount() -> bool {
    let directory = tempfile::tempdir().unwrap();
    let run = |command: &mut Command| {
        command
            .arg(directory.path())
            .output()
            .is_ok_and(|run| run.status.success())
    };
    run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])) && run(&mut Command::new("umount"))
}

/// Fills the disk, waits until Postgres has refused a write and then until `pause` ends, and frees the disk. Without
/// space for its WAL, Postgres ends; then it is started again.
pub async fn fill(server: &mut Server, database: &Database, pause: impl Future) {
    let client = database.client().await;
    server.fill_disk();
    while client.batch_execute(WRITE).await.is_ok() {
        client.batch_execute("rollback").await.unwrap();
        look_again().await;
    }
    drop(client);
    pause.await;
    server.free_disk();
}
