//! What sessions share.

use std::sync::Arc;
use std::time::Duration;

use crate::fanout::router::Router;
use crate::infra::db::{Pool, Reads, Turns};
use crate::receipts::writer::Recorder;
use crate::sources::lookup::Lookup;
use crate::sources::registry::Registry;
use crate::store::presence::Presence;
use crate::token::Tokens;

/// What all sessions of a node share.
pub struct Hub {
    /// Hands them their events.
    pub router: Arc<Router>,
    /// For replays, and changes of status.
    pub pool: Pool,
    /// For tokens and acknowledgements.
    pub token_pool: Pool,
    /// For lists, history and figures.
    pub reads: Reads,
    /// Whose turn it is to change a status.
    pub changes: Turns,
    /// What tokens open.
    pub tokens: Arc<Tokens>,
    /// Between two pings.
    pub ping_interval: Duration,
    /// Which stores have a panel here that can ring.
    pub presence: Arc<Presence>,
    /// Takes the proof of each alert.
    pub recorder: Recorder,
    /// What the rows of the journal mean.
    pub sources: Arc<Registry>,
    /// Looks up what they do not say.
    pub lookup: Arc<Lookup>,
}
