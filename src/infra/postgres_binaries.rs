//! Finds Postgres' programs on this machine, such as initdb and pg_dump. Distributions install them in different
//! places.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

/// The directories in which distributions install Postgres. The first text of each pair is a directory with an entry
/// for each version. The second text is the path from this entry to the programs, as in `/usr/lib/postgresql/15/bin`.
const DISTRIBUTIONS: [(&str, &str); 5] = [
    ("/usr/lib/postgresql", "bin"),
    ("/usr", "bin"),
    ("/usr/local", "bin"),
    ("/opt/homebrew/opt", "bin"),
    ("/Applications/Postgres.app/Contents/Versions", "bin"),
];

/// The directories that contain all of `programs`. The directories of `PATH` come first, and then the directories of
/// distributions.
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

/// Runs a program of Postgres with `--version`, and returns its major version. For example, the version is 15 for
/// `pg_dump (PostgreSQL) 15.14 (Debian 15.14-0)`. `None`: the program could not run, or printed no version.
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
