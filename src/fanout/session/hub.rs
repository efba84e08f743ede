//! The state that is shared by all sessions of a database on this node.

use std::sync::Arc;
use std::time::Duration;

use super::panel::PanelStreams;
use crate::fanout::router::Router;
use crate::infra::db::{Pool, Reads, Turns};
use crate::receipts::writer::ReceiptRecorder;
use crate::sources::lookup::Lookup;
use crate::sources::registry::Registry;
use crate::sources::status_change::ShopApi;
use crate::store::presence::Presence;
use crate::token::Tokens;

/// The state that is shared by all sessions of a database on this node. Routes of the HTTP interface use it, too.
pub struct Hub {
    /// Hands events to sessions.
    pub router: Arc<Router>,
    /// The database connections for replays and status changes.
    pub pool: Pool,
    /// The database connections for token checks and acknowledgements.
    pub token_pool: Pool,
    /// The database connections for lists, history and summaries. Each store may use only some of these connections at
    /// the same time.
    pub reads: Reads,
    /// Limits how many status changes of each store run at the same time.
    pub changes: Turns,
    /// The HTTP client that sends status changes to a shop's own API.
    pub shop_api: Arc<ShopApi>,
    /// Looks up tokens and JWTs, and caches the results.
    pub tokens: Arc<Tokens>,
    /// The time between two pings of a session.
    pub ping_interval: Duration,
    /// Records which stores have a panel on this node that can ring (play its sound).
    pub presence: Arc<Presence>,
    /// The streams of Server-Sent Events that panels have open on this node.
    pub panel_streams: Arc<PanelStreams>,
    /// Records receipts: how an event reached a panel or a person.
    pub recorder: ReceiptRecorder,
    /// The sources (attached tables of shops) with their mappings, which translate rows of the journal.
    pub sources: Arc<Registry>,
    /// Looks up values of an order in other tables of the shop, such as the order's items. The order's row in the
    /// journal lacks these values.
    pub lookup: Arc<Lookup>,
}
