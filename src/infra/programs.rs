//! Finds the programs of Postgres on this machine (initdb, postgres, pg_dump), wherever a distribution installs them.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

/// Where distributions install Postgres: a directory, and the path below each of its entries.
const DISTRIBUTIONS: [(&str, &str); 5] = [
    ("/usr/lib/postgresql", "bin"),
    ("/usr", "bin"),
    ("/usr/local", "bin"),
    ("/opt/homebrew/opt", "bin"),
    ("/Applications/Postgres.app/Contents/Versions", "bin"),
];

/// The directories, from `PATH` and of the distributions, that contain all of these programs.
pub fn directories_with(programs: &[&str]) -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut directories: Vec<PathBuf> = std::env::split_paths(&path).collect();
    for (parent, below) in DISTRIBUTIONS {
        let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
        directories.extend(entries.map(|entry| entry.path().join(below)));
    }
    directories.retain(|directory| programs.iter().all(|program| directory.join(program).is_file()));
    directories
}

/// The major version in a program's output: `pg_dump (PostgreSQL) 15.14 (Debian 15.14-0)`.
pub async fn major_of(program: &Path) -> Option<u32> {
    let output = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .await
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let version = text.split_whitespace().nth(2)?;
    version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}
