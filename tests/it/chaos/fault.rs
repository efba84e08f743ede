//! Every kind of fault, and how the test causes it.

use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::process::Command;
use tokio::time::timeout;
use vestnik::infra::db::Client;
use vestnik::token::Stores;

use super::disk;
use super::nodes::{Nodes, Side};
use super::told::Told;
use crate::cluster::NODES;
use crate::oracle::Trial;
use crate::support::app::{PATIENCE, Panel};
use crate::support::db::{Database, Server, until};
use crate::support::look_again;

/// The number of the writers' commits between two faults, and while a fault stops a node or its connections.
pub const COMMITS_BETWEEN: usize = 40;
/// The number of orders that one large transaction inserts.
const LARGE: usize = 2_000;
/// The offsets from the true time that the test gives to a node's clock, seconds.
const OFFSETS_S: [i64; 5] = [-3600, -60, 0, 60, 3600];
/// The test kills `vestnik migrate` at a random moment, at most this many milliseconds after the start of the
/// migration.
const LONGEST_MIGRATION_MS: u64 = 300;
/// The longest time for which the disk stays full after a refused write, seconds.
const LONGEST_FULL_DISK_S: u64 = 4;
/// The test drops this trigger, so that `vestnik migrate` must create it again.
const TRIGGER: &str = "vestnik_record_truncate";

/// One kind of fault. The test chooses one of them at random.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Kill a node with SIGKILL.
    KillNode,
    /// Stop a node with SIGSTOP, and continue it with SIGCONT after some commits.
    StopNode,
    /// Send SIGTERM to one node after the other.
    RollingRestart,
    /// Restart Postgres with a fast shutdown.
    RestartPostgres,
    /// Kill Postgres, so that Postgres recovers from its WAL.
    CrashPostgres,
    /// Terminate every backend of the nodes.
    TerminateBackends,
    /// Close the connection of every client.
    BreakClients,
    /// Insert thousands of orders in one transaction.
    LargeTransaction,
    /// Revoke a token while a session with it is open.
    RevokeToken,
    /// Create a synchronous standby, end the primary for good, and promote the standby.
    Promote,
    /// Create a standby, let it miss some commits, end the primary for good, and promote the standby.
    PromoteWithLoss,
    /// Save a copy of the database's files, and restore the copy after some commits.
    PutBackSnapshot,
    /// Drop all packets between a node and Postgres.
    CutFromPostgres,
    /// Drop all packets between HAProxy and a node, until every client has received all events through the other nodes.
    CutFromBalancer,
    /// Let the Bot API refuse requests, send no responses, throttle a chat, or save a message and reset the connection.
    TelegramAway,
    /// Set the clock of a node forward, back, or to the true time.
    MoveClock,
    /// Kill `vestnik migrate` at a random moment, and run it again.
    KillMigration,
    /// Fill the disk of Postgres.
    FullDisk,
    /// Replace a node's certificate and key.
    RenewCertificate,
}

impl Fault {
    pub const ALL: [Self; 19] = [
        Self::KillNode,
        Self::StopNode,
        Self::RollingRestart,
        Self::RestartPostgres,
        Self::CrashPostgres,
        Self::TerminateBackends,
        Self::BreakClients,
        Self::LargeTransaction,
        Self::RevokeToken,
        Self::Promote,
        Self::PromoteWithLoss,
        Self::PutBackSnapshot,
        Self::CutFromPostgres,
        Self::CutFromBalancer,
        Self::TelegramAway,
        Self::MoveClock,
        Self::KillMigration,
        Self::FullDisk,
        Self::RenewCertificate,
    ];
}

/// The running cluster and its clients, in which the test causes faults.
pub struct Chaos {
    pub server: Server,
    pub database: Database,
    pub nodes: Nodes,
    pub trial: Trial,
    pub told: Told,
    pub random: fastrand::Rng,
}

impl Chaos {
    pub async fn strike(&mut self, fault: Fault) {
        let node = self.random.usize(..NODES);
        match fault {
            Fault::KillNode => self.nodes.cluster.end(node, Signal::KILL).await,
            Fault::StopNode => {
                self.nodes.cluster.signal(node, Signal::STOP);
                self.trial.commits(COMMITS_BETWEEN).await;
                self.nodes.cluster.signal(node, Signal::CONT);
            }
            Fault::RollingRestart => {
                for node in 0..NODES {
                    self.nodes.cluster.end(node, Signal::TERM).await;
                }
            }
            Fault::RestartPostgres => self.server.restart(),
            Fault::CrashPostgres => self.server.crash(),
            Fault::TerminateBackends => {
                let terminate = "select pg_terminate_backend(pid) from pg_stat_activity \
                     where application_name like 'vestnik %' and application_name <> 'vestnik shop'";
                self.database.client().await.batch_execute(terminate).await.unwrap();
            }
            Fault::BreakClients => self.trial.break_clients(),
            Fault::LargeTransaction => self.trial.write_many(LARGE, &mut self.random).await,
            Fault::RevokeToken => self.revoke().await,
            Fault::Promote => self.promote().await,
            Fault::PromoteWithLoss => self.promote_with_loss().await,
            Fault::PutBackSnapshot => {
                self.server.keep();
                self.trial.commits(COMMITS_BETWEEN).await;
                self.trial.until_caught_up().await;
                self.trial.commits(COMMITS_BETWEEN).await;
                let since = Instant::now();
                self.server.put_back();
                self.forget_lost(since).await;
            }
            Fault::CutFromPostgres => self.cut_from_postgres(node).await,
            Fault::CutFromBalancer => {
                self.nodes.drop_packets(node, Side::Balancer);
                self.trial.commits(COMMITS_BETWEEN).await;
                self.trial.until_caught_up().await;
                self.nodes.mend(node, Side::Balancer);
            }
            Fault::TelegramAway => self.told.fail(&self.trial, &mut self.random).await,
            Fault::MoveClock => {
                let offset_s = OFFSETS_S[self.random.usize(..OFFSETS_S.len())];
                self.nodes.set_clock(node, offset_s);
            }
            Fault::KillMigration => self.kill_migration().await,
            Fault::FullDisk => {
                let longest_s = self.random.u64(..LONGEST_FULL_DISK_S);
                let commits = self.trial.commits(COMMITS_BETWEEN);
                disk::fill(
                    &mut self.server,
                    &self.database,
                    timeout(Duration::from_secs(longest_s), commits),
                )
                .await;
            }
            Fault::RenewCertificate => {
                let is_broken_first = self.random.bool();
                self.nodes
                    .renew_certificate(node, is_broken_first, &mut self.random)
                    .await;
            }
        }
    }

    /// Drops packets during some commits. In half of the cases, also waits until the node reports that it cannot read
    /// the journal.
    async fn cut_from_postgres(&mut self, node: usize) {
        let is_noticed = self.random.bool();
        if is_noticed {
            self.nodes.until_ready(node, true).await;
        }
        self.nodes.drop_packets(node, Side::Postgres);
        self.trial.commits(COMMITS_BETWEEN).await;
        if is_noticed {
            self.nodes.until_ready(node, false).await;
            self.trial.until_caught_up().await;
        }
        self.nodes.mend(node, Side::Postgres);
    }

    /// Drops a trigger, kills the migration that creates it again, and starts the migration a second time. Asserts that
    /// the trigger exists at the end.
    async fn kill_migration(&mut self) {
        let client = self.database.client().await;
        let drop = format!("drop trigger if exists {TRIGGER} on orders");
        client.batch_execute(&drop).await.unwrap();
        let migrate = || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_vestnik"));
            command
                .arg("migrate")
                .env("DATABASE_URL", self.database.url())
                .current_dir(std::env::temp_dir())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .kill_on_drop(true)
                .spawn()
                .unwrap()
        };
        let mut killed = migrate();
        let moment = Duration::from_millis(self.random.u64(..LONGEST_MIGRATION_MS));
        let _ = timeout(moment, killed.wait()).await;
        killed.kill().await.unwrap();
        let again = timeout(PATIENCE, migrate().wait_with_output()).await;
        let again = again.expect("the migration ends").unwrap();
        assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
        let is_there = format!(
            "select exists (select from pg_trigger where tgrelid = 'orders'::regclass and tgname = '{TRIGGER}')"
        );
        until(&client, &is_there).await;
    }

    /// Revokes a token. Asserts that the token's session ends, and that the token cannot open a new session.
    async fn revoke(&self) {
        let token = self.database.token(Stores::All).await;
        let connect = || Panel::connect(self.nodes.cluster.address, "1", None, &token);
        let opened = timeout(PATIENCE, async {
            loop {
                match connect().await {
                    Ok(panel) => return panel,
                    Err(_) => look_again().await,
                }
            }
        });
        let mut panel = opened.await.expect("a session of the new token");
        let revoke =
            "update vestnik.vst_token set revoked_at = now() where id = (select max(id) from vestnik.vst_token)";
        self.database.client().await.batch_execute(revoke).await.unwrap();
        let ended = timeout(PATIENCE, async { while panel.message().await.is_ok() {} });
        ended.await.expect("the session of a revoked token ends");
        let refused = timeout(PATIENCE, async {
            while let Ok(mut panel) = connect().await {
                // A node may still accept the revoked token for a few seconds, until the node reads the revocation.
                while panel.message().await.is_ok() {}
            }
        });
        refused.await.expect("a revoked token opens nothing");
    }

    async fn promote(&mut self) {
        let standby = format!("{}/postgres", self.server.standby());
        let primary = self.database.client().await;
        let alone = "alter system set synchronous_standby_names = '*'";
        primary.batch_execute(alone).await.unwrap();
        primary.batch_execute("select pg_reload_conf()").await.unwrap();
        until(
            &primary,
            "select exists (select from pg_stat_replication where sync_state = 'sync')",
        )
        .await;
        // The standby is synchronous: from now on, the standby has every commit that the primary has acknowledged.
        self.trial.commits(COMMITS_BETWEEN).await;
        let standby = Database::at(standby.into()).client().await;
        self.take_over(&standby).await;
    }

    /// Ends the primary for good, and promotes the standby.
    async fn take_over(&mut self, standby: &Client) {
        self.server.fail();
        standby.batch_execute("select pg_promote()").await.unwrap();
        until(standby, "select not pg_is_in_recovery()").await;
    }

    async fn promote_with_loss(&mut self) {
        let standby = format!("{}/postgres", self.server.standby());
        let standby = Database::at(standby.into()).client().await;
        // Wait until every client has received the commits so far. After the loss, clients load their lists again, and
        // get no more events of earlier commits.
        self.trial.until_caught_up().await;
        let cut_off = "alter system set primary_conninfo = ''";
        standby.batch_execute(cut_off).await.unwrap();
        standby.batch_execute("select pg_reload_conf()").await.unwrap();
        until(&standby, "select not exists (select from pg_stat_wal_receiver)").await;
        self.trial.commits(COMMITS_BETWEEN).await;
        let since = Instant::now();
        self.take_over(&standby).await;
        self.forget_lost(since).await;
    }

    async fn forget_lost(&mut self, since: Instant) {
        self.trial.forget_lost(since).await;
        self.told.forget_lost(&self.trial);
    }
}
