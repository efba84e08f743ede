//! The state that all sessions of a node share.

use std::sync::Arc;
use std::time::Duration;

use super::panel::PanelStreams;
use crate::fanout::router::Router;
use crate::infra::db::{Pool, Reads, Turns};
use crate::receipts::writer::Recorder;
use crate::sources::lookup::Lookup;
use crate::sources::registry::Registry;
use crate::sources::status_change::ShopApi;
use crate::store::presence::Presence;
use crate::token::Tokens;

/// The state that all sessions of a node share.
pub struct Hub {
    /// Routes events to sessions.
    pub router: Arc<Router>,
    /// Connections for replays and status changes.
    pub pool: Pool,
    /// Connections for tokens and acknowledgements.
    pub token_pool: Pool,
    /// Connections for lists, history and summaries.
    pub reads: Reads,
    /// Limits each store's concurrent status changes.
    pub changes: Turns,
    /// Asks the shops' own APIs to change a status.
    pub shop_api: Arc<ShopApi>,
    /// Looks tokens up.
    pub tokens: Arc<Tokens>,
    /// Time between two pings.
    pub ping_interval: Duration,
    /// Which stores have a panel on this node that can ring.
    pub presence: Arc<Presence>,
    /// The streams that panels have open on this node.
    pub panel_streams: Arc<PanelStreams>,
    /// Records receipts.
    pub recorder: Recorder,
    /// The mappings that translate journal rows.
    pub sources: Arc<Registry>,
    /// Reads values that a journal row lacks.
    pub lookup: Arc<Lookup>,
}
