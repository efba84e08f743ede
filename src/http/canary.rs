//! What the self-test of a node says: a synthetic order at intervals, through every part that an order passes.

use tokio::sync::watch;

use crate::domain::event::StoreId;

/// The state of a database's canary on this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Canary {
    /// The settings turn it off.
    Off,
    /// No round has ended yet.
    Waiting,
    /// The newest order came back.
    Back,
    /// The newest order did not come back.
    Failed(CanaryFailure),
}

/// Where a round ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CanaryFailure {
    /// No session could be opened.
    #[error("this node did not let its own client in: see the log, and `http.listen`, `tls` and `http.hosts`")]
    NoSession,
    /// Postgres takes no writes.
    #[error(
        "Postgres takes no writes: it is a standby, or default_transaction_read_only is on; give the address of the primary"
    )]
    ReadOnly,
    /// The table is missing.
    #[error("vestnik.vst_canary is missing: run `vestnik migrate`")]
    NotMigrated,
    /// The role may not write to the table.
    #[error(
        "this role may not write to vestnik.vst_canary: grant select, insert, update and delete on all tables in schema vestnik to it"
    )]
    NoRight,
    /// The write failed otherwise.
    #[error("the synthetic order could not be written: see the log for what Postgres says")]
    NotWritten,
    /// The order was committed, and did not come back in time.
    #[error(
        "a committed order did not reach a session of this node: a trigger is off, or the feed stands still; `vestnik doctor`, `vestnik migrate`"
    )]
    Lost,
}

impl CanaryFailure {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::NoSession,
        Self::ReadOnly,
        Self::NotMigrated,
        Self::NoRight,
        Self::NotWritten,
        Self::Lost,
    ];

    /// The word in `/readyz`, the metric and the table.
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
    /// The word in `/readyz` and the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Waiting => "waiting",
            Self::Back => "back",
            Self::Failed(failure) => failure.as_str(),
        }
    }
}

/// The self-test of one database, as the routes see it.
#[derive(Debug, Clone)]
pub struct CanaryReport {
    /// The store that its session opens; `None`: it is off.
    pub store: Option<StoreId>,
    /// Its state.
    pub now: watch::Receiver<Canary>,
}

impl CanaryReport {
    /// Its state.
    pub fn state(&self) -> Canary {
        *self.now.borrow()
    }

    /// Whether the newest order did not come back.
    pub fn has_failed(&self) -> bool {
        matches!(self.state(), Canary::Failed(_))
    }
}
