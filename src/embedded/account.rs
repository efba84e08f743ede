//! The account that runs the private Postgres. Postgres refuses to run as root. So a Vestnik process that runs as root
//! starts it under another account, in a directory that this account can enter.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown, symlink};
use std::path::{Path, PathBuf};

use rustix::process::{getegid, geteuid};
use sha2::{Digest as _, Sha256};
use tokio::process::Command;

use super::{Error, set_mode};

/// The data directory is created in this directory if only root can enter the directory that was requested.
const REACHABLE: &str = "/var/lib";

/// The account of this machine that runs the private Postgres.
#[derive(Debug, Clone, Copy)]
pub struct Account {
    uid: u32,
    gid: u32,
    /// Whether the server runs under another account than this process, which then runs as root.
    lowered: bool,
}

impl Account {
    /// Returns the account of this process. If this process runs as root, returns the account `postgres` or `nobody`.
    pub fn to_run_postgres() -> Result<Self, Error> {
        if !geteuid().is_root() {
            let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
            return Ok(Self {
                uid,
                gid,
                lowered: false,
            });
        }
        let accounts = fs::read_to_string("/etc/passwd").unwrap_or_default();
        ["postgres", "nobody"]
            .iter()
            .find_map(|name| Self::named(&accounts, name))
            .ok_or(Error::NoAccount)
    }

    /// Finds an account in the text of `/etc/passwd`, whose lines look like `postgres:x:112:120:PostgreSQL
    /// administrator,,,:/var/lib/postgresql:/bin/bash`.
    fn named(accounts: &str, name: &str) -> Option<Self> {
        let fields = accounts.lines().map(|line| line.split(':').collect::<Vec<_>>());
        let fields = fields.into_iter().find(|fields| fields.first() == Some(&name))?;
        let number = |index: usize| fields.get(index)?.parse().ok();
        Some(Self {
            uid: number(2)?,
            gid: number(3)?,
            lowered: true,
        })
    }

    /// Makes the account the owner of the wanted directory, creates the directory if it is missing, and returns its
    /// real path. A missing directory may be in a place that the account cannot enter, for example in root's home. In
    /// this case the data gets another directory, and the wanted path becomes a link to it.
    pub fn prepare(&self, wanted: &Path) -> Result<PathBuf, Error> {
        let problem = |error| Error::File(wanted.to_owned(), error);
        if !wanted.exists() {
            let parent = match wanted.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent,
                _ => Path::new("."),
            };
            fs::create_dir_all(parent).map_err(problem)?;
            let parent = fs::canonicalize(parent).map_err(problem)?;
            if self.reaches(&parent) {
                fs::create_dir(wanted).map_err(problem)?;
            } else {
                let elsewhere = Path::new(REACHABLE).join(format!("vestnik-data-{}", print_of(&parent.join(wanted))));
                fs::create_dir_all(&elsewhere).map_err(|error| Error::File(elsewhere.clone(), error))?;
                // Remove the wanted path first, because it may be a link to a directory that does not exist any more.
                let _ = fs::remove_file(wanted);
                symlink(&elsewhere, wanted).map_err(problem)?;
                tracing::info!(
                    data = %elsewhere.display(),
                    "Postgres does not run as root, and its account cannot reach this directory: ./vestnik-data is a link"
                );
            }
        }
        let root = fs::canonicalize(wanted).map_err(problem)?;
        self.make_directory(&root)?;
        Ok(root)
    }

    /// Creates the directory if it is missing, and lets only this account enter it. Fails if it belongs to another
    /// account.
    pub fn make_directory(&self, path: &Path) -> Result<(), Error> {
        let problem = |error| Error::File(path.to_owned(), error);
        fs::create_dir_all(path).map_err(problem)?;
        if self.lowered {
            chown(path, Some(self.uid), Some(self.gid)).map_err(problem)?;
        }
        if fs::metadata(path).map_err(problem)?.uid() != self.uid {
            return Err(problem(std::io::Error::other("belongs to another account")));
        }
        set_mode(path, 0o700)
    }

    fn reaches(&self, path: &Path) -> bool {
        !self.lowered || path.ancestors().all(|directory| self.may_enter(directory))
    }

    fn may_enter(&self, directory: &Path) -> bool {
        let Ok(metadata) = fs::metadata(directory) else {
            return false;
        };
        let bit = if metadata.uid() == self.uid {
            0o100
        } else if metadata.gid() == self.gid {
            0o010
        } else {
            0o001
        };
        metadata.mode() & bit != 0
    }

    /// Makes the command run under this account, in a directory that the account can always enter.
    pub fn lower(&self, command: &mut Command) {
        command.current_dir("/");
        if self.lowered {
            command.uid(self.uid).gid(self.gid);
        }
    }
}

/// Returns a directory with a short path for the server's socket, because the operating system limits the length of a
/// socket's path. `root` is the directory of the private Postgres.
pub fn short_directory(root: &Path) -> PathBuf {
    // If this process runs as root, do not use /tmp, because another user could have created a link at this path.
    let parent = if geteuid().is_root() { "/var/run" } else { "/tmp" };
    PathBuf::from(format!("{parent}/vestnik-{}", print_of(root)))
}

fn print_of(path: &Path) -> String {
    let digest = Sha256::digest(path.as_os_str().as_encoded_bytes());
    digest[..6].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_found_by_its_name() {
        let accounts = "root:x:0:0:root:/root:/bin/sh\npostgres:x:112:120:,,,:/var/lib/postgresql:/bin/bash\n";
        let account = Account::named(accounts, "postgres").unwrap();
        assert_eq!((account.uid, account.gid), (112, 120));
        assert!(Account::named(accounts, "nobody").is_none());
    }

    #[test]
    fn an_account_that_is_not_root_does_not_reach_a_closed_directory() {
        let closed = tempfile::tempdir().unwrap();
        set_mode(closed.path(), 0o700).unwrap();
        let stranger = Account {
            uid: u32::MAX - 1,
            gid: u32::MAX - 1,
            lowered: true,
        };
        assert!(!stranger.reaches(closed.path()));
        assert!(stranger.reaches(Path::new("/usr/lib")));
    }
}
