//! A Postgres with fsync on, started for the run, with the reference shop.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use secrecy::{ExposeSecret as _, SecretString};
use vestnik::infra::config::Config;

/// A database with the reference shop.
pub struct Shop {
    pub url: SecretString,
    /// The process that runs Postgres. `None` for a database that [`Shop::beside`] has created.
    _cluster: Option<Ended>,
}

/// A process that ends when the bench ends.
pub struct Ended(pub Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // The script that runs Postgres cleans up and ends when its standard input closes. The program needs a
        // signal.
        drop(self.0.stdin.take());
        if self.0.stdout.is_none() {
            let _ = self.0.kill();
        }
        let _ = self.0.wait();
    }
}

impl Shop {
    pub async fn open() -> Self {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/support/cluster");
        let mut cluster = Command::new(script);
        cluster
            .env("VESTNIK_TEST_FSYNC", "on")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut cluster = cluster.spawn().expect("a Postgres for the bench");
        let mut line = String::new();
        let mut stdout = BufReader::new(cluster.stdout.take().expect("its address"));
        stdout.read_line(&mut line).expect("its address");
        cluster.stdout = Some(stdout.into_inner());
        let url = SecretString::from(format!("{}/postgres", line.trim()));
        Self::migrated(url, Some(Ended(cluster))).await
    }

    /// Creates one more database in the Postgres of `self`. Dropping `self` ends this Postgres, and so both databases.
    #[expect(clippy::allow_attributes, reason = "not every bench needs two")]
    #[allow(dead_code)]
    pub async fn beside(&self, name: &str) -> Self {
        let client = vestnik::infra::db::connect_as(&self.url, "bench")
            .await
            .expect("a connection");
        let create = format!("create database {name}");
        client.batch_execute(&create).await.expect("a database");
        let (server, _) = self.url.expose_secret().rsplit_once('/').expect("a database's name");
        Self::migrated(format!("{server}/{name}").into(), None).await
    }

    async fn migrated(url: SecretString, cluster: Option<Ended>) -> Self {
        let mut config = Config::default();
        config.database.url = Some(url.clone());
        vestnik::migrate::run(&config, &mut |_| ()).await.expect("migrated");
        Self { url, _cluster: cluster }
    }
}
