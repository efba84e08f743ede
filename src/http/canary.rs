//! The result of a node's self-test, which is called the canary. At intervals, the node writes a synthetic order, which
//! passes through every part of the node that a real order passes through.

use tokio::sync::watch;

use crate::domain::event::StoreId;

/// The state of the self-test of one database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Canary {
    /// The self-test is turned off in the settings.
    Off,
    /// No round of the self-test has ended yet.
    Waiting,
    /// The newest synthetic order arrived at the session that the node has opened to itself.
    Back,
    /// The newest synthetic order did not arrive. The value is the reason.
    Failed(CanaryFailure),
}

/// The reason why a round of the self-test failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CanaryFailure {
    /// The node could not open a session to itself.
    #[error("this node did not let its own client in: see the log, and `http.listen`, `tls` and `http.hosts`")]
    NoSession,
    /// Postgres accepts no writes.
    #[error(
        "Postgres takes no writes: it is a standby, or default_transaction_read_only is on; give the address of the primary"
    )]
    ReadOnly,
    /// The table of the self-test is missing.
    #[error("vestnik.vst_canary is missing: run `vestnik migrate`")]
    NotMigrated,
    /// The node's database role may not write to the table of the self-test.
    #[error(
        "this role may not write to vestnik.vst_canary: grant select, insert, update and delete on all tables in schema vestnik to it"
    )]
    NoRight,
    /// The synthetic order could not be written, and no other variant describes the cause. The log has the error of
    /// Postgres.
    #[error("the synthetic order could not be written: see the log for what Postgres says")]
    NotWritten,
    /// The synthetic order was committed, but did not arrive at the session in time.
    #[error(
        "a committed order did not reach a session of this node: a trigger is off, or the feed stands still; `vestnik doctor`, `vestnik migrate`"
    )]
    Lost,
}

impl CanaryFailure {
    /// All reasons why a round of the self-test may fail.
    pub const ALL: [Self; 6] = [
        Self::NoSession,
        Self::ReadOnly,
        Self::NotMigrated,
        Self::NoRight,
        Self::NotWritten,
        Self::Lost,
    ];

    /// The name of the reason, such as `not_migrated`, as it appears in `/readyz`, in `vestnik_canary_failures_total`,
    /// and in the table of the self-test.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoSession => "no_session",
            Self::ReadOnly => "read_only",
            Self::NotMigrated => "not_migrated",
            Self::NoRight => "no_right",
            Self::NotWritten => "not_written",
            Self::Lost => "lost",
        }
    }
}

impl Canary {
    /// The name of the state. The response of `/readyz` shows this name, such as `waiting`. After each round, the node
    /// saves the name in the table of the self-test.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Waiting => "waiting",
            Self::Back => "back",
            Self::Failed(failure) => failure.as_str(),
        }
    }
}

/// Gives the routes the state of one database's self-test.
#[derive(Debug, Clone)]
pub struct CanaryReport {
    /// The store for which the self-test writes synthetic orders. `None`: the self-test is off.
    pub store: Option<StoreId>,
    /// Receives the current state of the self-test, and each change of the state.
    pub now: watch::Receiver<Canary>,
}

impl CanaryReport {
    /// The current state of the self-test.
    pub fn state(&self) -> Canary {
        *self.now.borrow()
    }

    /// Whether the newest round of the self-test failed: its synthetic order did not arrive.
    pub fn has_failed(&self) -> bool {
        matches!(self.state(), Canary::Failed(_))
    }
}
