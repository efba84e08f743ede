//! Records whether the client of a session is a panel. Also counts the streams of Server-Sent Events that panels have
//! open on this node. A panel with such a stream sends its receipts in separate requests. The node then looks up
//! whether the stream is open, and so finds the channel of the receipts.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::domain::event::StoreId;
use crate::store::presence::Present;
use crate::token::TokenId;

/// Whether the client of a session is a panel, and whether the panel can ring (play its sound). The client itself says
/// this.
pub(super) enum Panel {
    /// The client has not said that it is a panel, so no receipts are recorded for it.
    Unknown,
    /// The client is a panel whose sound is off.
    Silent,
    /// The client is a panel with a stream of Server-Sent Events. The panel sends its receipts in separate requests.
    Stream(#[expect(dead_code, reason = "the stream is closed when it is dropped")] PanelStream),
    /// The client is a panel whose sound is on, so it can ring.
    Rings(#[expect(dead_code, reason = "its presence ends when it is dropped")] Present),
}

/// Identifies a panel: its store, its token, and the name that it chose.
type PanelId = (StoreId, TokenId, String);

/// The number of open streams of each panel. Each stream belongs to a session, so the limits of sessions also limit the
/// number of streams.
#[derive(Default)]
pub struct PanelStreams(Mutex<HashMap<PanelId, usize>>);

/// An open stream of a panel. Dropping this value means that the stream has ended.
pub struct PanelStream {
    streams: Arc<PanelStreams>,
    panel: PanelId,
}

impl PanelStreams {
    /// Counts a stream of this panel as open, until the returned value is dropped.
    pub fn open(self: &Arc<Self>, store: &StoreId, token: TokenId, panel: &str) -> PanelStream {
        let panel = (store.clone(), token, panel.to_owned());
        *self.streams().entry(panel.clone()).or_default() += 1;
        PanelStream {
            streams: Arc::clone(self),
            panel,
        }
    }

    /// Whether this panel has an open stream of Server-Sent Events on this node.
    pub fn is_open(&self, store: &StoreId, token: TokenId, panel: &str) -> bool {
        self.streams().contains_key(&(store.clone(), token, panel.to_owned()))
    }

    fn streams(&self) -> MutexGuard<'_, HashMap<PanelId, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for PanelStream {
    fn drop(&mut self) {
        let mut streams = self.streams.streams();
        if let Some(count) = streams.get_mut(&self.panel) {
            *count -= 1;
            if *count == 0 {
                streams.remove(&self.panel);
            }
        }
    }
}
