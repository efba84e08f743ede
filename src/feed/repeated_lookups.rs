//! Repeats the look-ups of items and details that failed. When a look-up works again, the clients that received orders
//! without these parts reload their lists.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::domain::event::StoreId;
use crate::fanout::router::Router;
use crate::infra::periodic::Periodic;
use crate::sources::lookup::Lookup;
use crate::sources::registry::Registry;

/// Time between two tries.
const RETRY_INTERVAL: Duration = Duration::from_secs(15);

/// The task that repeats the failed look-ups of one database.
pub struct RepeatedLookups {
    /// The attached tables of the shop.
    pub sources: Arc<Registry>,
    /// Looks up items and details, and remembers the orders that were sent without them.
    pub lookup: Arc<Lookup>,
    /// The router, which tells the sessions to reload their lists.
    pub router: Arc<Router>,
}

impl RepeatedLookups {
    /// Repeats the failed look-ups until the shutdown.
    pub async fn run(self, stop: CancellationToken) {
        let mut periodic = Periodic::later(RETRY_INTERVAL, &stop);
        while periodic.next_run().await {
            stop.run_until_cancelled(self.repeat()).await;
        }
    }

    async fn repeat(&self) {
        let sources = self.sources.current();
        let mut stores: Vec<StoreId> = Vec::new();
        for (source, incomplete) in self.lookup.incomplete_orders.take() {
            let keys = HashMap::from([(source, incomplete.keys.clone())]);
            if self.lookup.for_keys(&sources, keys).await.has_failed(source) {
                self.lookup.incomplete_orders.put_back(source, &incomplete);
            } else {
                stores.extend(incomplete.stores);
            }
        }
        if !stores.is_empty() {
            tracing::info!(
                stores = stores.len(),
                "items or details can be looked up again: panels reload their lists"
            );
            // The cached events are without these parts.
            self.router.clear_cache();
            self.router.resync(Some(&stores));
        }
    }
}
