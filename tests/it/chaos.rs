//! Random faults, one after the other, in a cluster of three nodes behind HAProxy, with writers and panels. The oracle
//! checks that no event is lost. `scripts/chaos` runs this test for minutes; the test suite runs a few faults.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::time::timeout;
use vestnik::token::Stores;

use crate::cluster::{Cluster, NODES};
use crate::oracle::{Repeats, Trial, seed};
use crate::support::app::{PATIENCE, Panel};
use crate::support::db::{Database, Server, until};
use crate::support::look_again;

/// The number of faults when the test suite runs this test.
const STEPS: usize = 8;
/// The number of commits of the writers between two faults, and while a node is stopped.
const COMMITS_BETWEEN: usize = 40;
/// The number of orders that one large transaction inserts.
const LARGE: usize = 2_000;
/// Every kind of fault. The test chooses one of them at random.
const FAULTS: [Fault; 10] = [
    Fault::KillNode,
    Fault::StopNode,
    Fault::RollingRestart,
    Fault::RestartPostgres,
    Fault::CrashPostgres,
    Fault::TerminateBackends,
    Fault::BreakPanels,
    Fault::LargeTransaction,
    Fault::RevokeToken,
    Fault::Promote,
];

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
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
    /// Close the socket of every panel.
    BreakPanels,
    /// Insert thousands of orders in one transaction.
    LargeTransaction,
    /// Revoke a token while a session with it is open.
    RevokeToken,
    /// Create a synchronous standby, end the primary for good, and promote the standby.
    Promote,
}

struct Chaos {
    server: Server,
    database: Database,
    cluster: Cluster,
    trial: Trial,
    random: fastrand::Rng,
}

impl Chaos {
    async fn strike(&mut self, fault: Fault) {
        let node = self.random.usize(..NODES);
        match fault {
            Fault::KillNode => self.cluster.end(node, Signal::KILL).await,
            Fault::StopNode => {
                self.cluster.signal(node, Signal::STOP);
                self.trial.commits(COMMITS_BETWEEN).await;
                self.cluster.signal(node, Signal::CONT);
            }
            Fault::RollingRestart => {
                for node in 0..NODES {
                    self.cluster.end(node, Signal::TERM).await;
                }
            }
            Fault::RestartPostgres => self.server.restart(),
            Fault::CrashPostgres => self.server.crash(),
            Fault::TerminateBackends => {
                let terminate = "select pg_terminate_backend(pid) from pg_stat_activity \
                     where application_name like 'vestnik %' and application_name <> 'vestnik shop'";
                self.database.client().await.batch_execute(terminate).await.unwrap();
            }
            Fault::BreakPanels => self.trial.break_panels(),
            Fault::LargeTransaction => self.trial.write_many(LARGE, &mut self.random).await,
            Fault::RevokeToken => self.revoke().await,
            Fault::Promote => self.promote().await,
        }
    }

    /// Revokes a token. Asserts that the token's session ends, and that the token cannot open a new session.
    async fn revoke(&self) {
        let token = self.database.token(Stores::All).await;
        let connect = || Panel::connect(self.cluster.address, "1", None, &token);
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
        self.server.fail();
        standby.batch_execute("select pg_promote()").await.unwrap();
        until(&standby, "select not pg_is_in_recovery()").await;
    }
}

/// How long the test runs, if `scripts/chaos` has set `VESTNIK_CHAOS_MINUTES`.
fn minutes() -> Option<Duration> {
    let minutes: u64 = std::env::var("VESTNIK_CHAOS_MINUTES").ok()?.parse().unwrap();
    Some(Duration::from_secs(60 * minutes))
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_fails_at_random_no_order_is_lost_doubled_or_another_stores() {
    let mut server = Server::start(&[]);
    Database::on(&server).await;
    // The URL names both servers, and the clients connect to the server that accepts writes.
    let (one, other) = (server.port().to_owned(), server.spare_port());
    let url = format!("postgres://postgres@127.0.0.1:{one},127.0.0.1:{other}/postgres?target_session_attrs=read-write");
    let database = Database::at(url.clone().into());
    let token = database.token(Stores::All).await;
    let cluster = Cluster::start(&database);
    let seed = seed();
    let trial = Trial::begin(&url, &[cluster.address], &token, seed).await;
    let mut chaos = Chaos {
        server,
        database,
        cluster,
        trial,
        random: fastrand::Rng::with_seed(seed),
    };
    let (began, mut counts) = (Instant::now(), BTreeMap::<Fault, usize>::new());
    let is_over = |steps: usize| match minutes() {
        Some(minutes) => began.elapsed() >= minutes,
        None => steps >= STEPS,
    };
    let mut steps = 0;
    while !is_over(steps) {
        let fault = FAULTS[chaos.random.usize(..FAULTS.len())];
        eprintln!("{:>6.1} s  {fault:?}", began.elapsed().as_secs_f64());
        chaos.strike(fault).await;
        chaos.trial.commits(COMMITS_BETWEEN).await;
        *counts.entry(fault).or_default() += 1;
        steps += 1;
    }
    let judged = chaos.trial.judge(Repeats::InFaults).await;
    chaos.cluster.stop();
    eprintln!(
        "seed {seed}, {:.0} s, {steps} faults: {counts:?}; {judged}",
        began.elapsed().as_secs_f64()
    );
}
