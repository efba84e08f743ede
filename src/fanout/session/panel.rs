//! What a client says of itself, and the streams of Server-Sent Events that panels have open on this node. A panel sends
//! its receipts next to such a stream, so the node checks whether the stream exists.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::domain::event::StoreId;
use crate::store::presence::Present;
use crate::token::TokenId;

/// What a client has said of itself.
pub(super) enum Panel {
    /// The client has not said that it is a panel.
    Unknown,
    /// A panel with its sound off.
    Silent,
    /// A panel that sends its receipts next to this stream.
    Stream(#[expect(dead_code, reason = "the stream is closed when it is dropped")] PanelStream),
    /// A panel with its sound on.
    Rings(#[expect(dead_code, reason = "its presence ends when it is dropped")] Present),
}

/// A panel: its store, its token, and the name that it gave.
type PanelId = (StoreId, TokenId, String);

/// The number of open streams of each panel. The limits of sessions bound it.
#[derive(Default)]
pub struct PanelStreams(Mutex<HashMap<PanelId, usize>>);

/// An open stream; dropped with its session.
pub struct PanelStream {
    streams: Arc<PanelStreams>,
    panel: PanelId,
}

impl PanelStreams {
    /// Counts a stream until the result is dropped.
    pub fn open(self: &Arc<Self>, store: &StoreId, token: TokenId, panel: &str) -> PanelStream {
        let panel = (store.clone(), token, panel.to_owned());
        *self.streams().entry(panel.clone()).or_default() += 1;
        PanelStream {
            streams: Arc::clone(self),
            panel,
        }
    }

    /// Whether this panel has a stream on this node.
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
