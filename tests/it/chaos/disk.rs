//! The disk of the chaos test's Postgres: a tmpfs whose size the test can change. Only root can mount it.

use std::process::Command;

use crate::support::db::{Database, Server};
use crate::support::look_again;

/// Environment variables for `tests/it/support/cluster`. They mount a disk of 6 GiB, which is enough for a run of an
/// hour, and limit the size of the WAL.
pub const SMALL: [(&str, &str); 2] = [
    ("VESTNIK_TEST_DISK_MIB", "6144"),
    ("VESTNIK_TEST_OPTIONS", "-c max_wal_size=256MB"),
];
/// Writes so many rows that Postgres needs new space on the disk. While the disk is full, this statement fails.
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

/// Fills the disk, waits until Postgres has refused a write, waits until `pause` ends, and frees the disk. Postgres
/// ends if it has no space for its WAL. In this case, the function starts Postgres again.
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
