//! Presence: which stores have a panel that can ring now. A panel can ring while its page is open and its sound is on.
//! Each node knows the panels that are connected to it, and tells the other nodes through Postgres. If a node has sent
//! no heartbeat recently, its panels do not count.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use time::OffsetDateTime;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::domain::event::StoreId;
use crate::infra::db::{self, Pool, QueryError};
use crate::token::TokenId;

/// The time between two heartbeats of a node.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// If a node sends no heartbeat for this many seconds, its panels do not count any more.
const NODE_LIFE_S: f64 = 15.0;

/// How long a panel without a live session counts as able to ring after its last report. Such a panel polls by HTTP
/// requests.
pub const POLLING_LIFE: Duration = Duration::from_secs(90);
/// Maximum number of polling panels of one store that a node keeps in memory. More are not needed, because one panel is
/// enough for a store.
const POLLING_PER_STORE: usize = 64;

/// The polling panels (panels without a live session) of one store. The value is the time until which the panel counts.
/// The key has the token and the panel's name, so that a token cannot change the panel of another token.
type Polling = HashMap<(TokenId, String), Instant>;

/// The panels that are connected to this node and can play the sound of a new order.
#[derive(Debug, Default)]
pub struct Presence {
    /// The number of panels that can ring and have a live session, by store.
    panels: Mutex<HashMap<StoreId, usize>>,
    /// The panels that can ring, but have no live session, by store. They poll by HTTP requests.
    polling: Mutex<HashMap<StoreId, Polling>>,
    changed: Notify,
}

/// Proof that one panel can ring. When this value is dropped, the panel does not count any more.
#[derive(Debug)]
pub struct Present {
    presence: Arc<Presence>,
    store: StoreId,
}

impl Presence {
    fn panels(&self) -> MutexGuard<'_, HashMap<StoreId, usize>> {
        self.panels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that a panel of this store can ring. The record ends when the caller drops the returned value.
    pub fn enter(self: &Arc<Self>, store: &StoreId) -> Present {
        let mut panels = self.panels();
        let count = panels.entry(store.clone()).or_default();
        *count += 1;
        if *count == 1 {
            self.changed.notify_one();
        }
        Present {
            presence: Arc::clone(self),
            store: store.clone(),
        }
    }

    fn polling(&self) -> MutexGuard<'_, HashMap<StoreId, Polling>> {
        self.polling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records what a polling panel (a panel without a live session) has reported: whether it can ring. The report that
    /// it can ring is valid for [`POLLING_LIFE`].
    pub fn poll(&self, store: &StoreId, token: TokenId, panel: &str, rings: bool) {
        self.poll_at(store, token, panel, rings, Instant::now());
    }

    fn poll_at(&self, store: &StoreId, token: TokenId, panel: &str, rings: bool, now: Instant) {
        let panel = (token, panel.to_owned());
        let mut polling = self.polling();
        if !rings {
            if let Some(panels) = polling.get_mut(store) {
                panels.remove(&panel);
            }
        } else {
            let panels = polling.entry(store.clone()).or_default();
            panels.retain(|_, until| *until > now);
            if panels.len() < POLLING_PER_STORE || panels.contains_key(&panel) {
                panels.insert(panel, now + POLLING_LIFE);
            }
        }
        polling.retain(|_, panels| !panels.is_empty());
        self.changed.notify_one();
    }

    fn stores(&self) -> HashSet<String> {
        self.stores_at(Instant::now())
    }

    fn stores_at(&self, now: Instant) -> HashSet<String> {
        let mut polling = self.polling();
        polling.retain(|_, panels| {
            panels.retain(|_, until| *until > now);
            !panels.is_empty()
        });
        let panels = self.panels();
        let stores = panels.keys().chain(polling.keys());
        stores.map(|store| store.as_str().to_owned()).collect()
    }

    /// Until the shutdown, tells the other nodes for which stores this node has a panel that can ring. At the shutdown,
    /// deletes this node's rows in Postgres.
    pub async fn run(self: Arc<Self>, pool: Pool, stop: CancellationToken) {
        let node = format!("{:016x}", fastrand::u64(..));
        let mut reported: Option<HashSet<String>> = None;
        loop {
            let stores = self.stores();
            match report(&pool, &node, reported.as_ref(), &stores).await {
                Ok(()) => reported = Some(stores),
                Err(error) => {
                    // The report may or may not have been saved, so the next report must contain all stores.
                    reported = None;
                    tracing::warn!(%error, "could not save which stores have a panel that can ring");
                }
            }
            tokio::select! {
                () = tokio::time::sleep(HEARTBEAT) => {}
                () = self.changed.notified(), if reported.is_some() => {}
                () = stop.cancelled() => break,
            }
        }
        if let Err(error) = leave(&pool, &node).await {
            tracing::debug!(%error, "could not remove the presence of this node");
        }
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        let mut panels = self.presence.panels();
        if let Some(count) = panels.get_mut(&self.store) {
            *count -= 1;
            if *count == 0 {
                panels.remove(&self.store);
                self.presence.changed.notify_one();
            }
        }
    }
}

/// Saves this node's heartbeat. `stores` has the stores for which this node has a panel that can ring. `reported` has
/// the stores of the last report; `None`: the last report may be lost. Saves `stores` only if it differs from
/// `reported`, or if other nodes have deleted this node's rows.
async fn report(
    pool: &Pool,
    node: &str,
    reported: Option<&HashSet<String>>,
    stores: &HashSet<String>,
) -> Result<(), QueryError> {
    const UP: &str = "insert into vestnik.vst_node (id, until, clock_ahead_s) \
         values ($1, clock_timestamp() + make_interval(secs => $2), extract(epoch from $3::timestamptz - clock_timestamp())) \
         on conflict (id) do update set until = excluded.until, clock_ahead_s = excluded.clock_ahead_s returning xmax = 0";
    const GONE: &str = "delete from vestnik.vst_presence where node_id = $1 and store_id <> all ($2)";
    const CAME: &str =
        "insert into vestnik.vst_presence (node_id, store_id) select $1, unnest($2::text[]) on conflict do nothing";
    const EXPIRED: &str = "delete from vestnik.vst_node where until < clock_timestamp()";
    db::with_timeout(async {
        let mut client = pool.get().await?;
        let transaction = client.transaction().await?;
        let statement = transaction.prepare_cached(UP).await?;
        let new: bool = transaction
            .query_one(&statement, &[&node, &NODE_LIFE_S, &OffsetDateTime::now_utc()])
            .await?
            .try_get(0)?;
        if new || reported != Some(stores) {
            let stores: Vec<&String> = stores.iter().collect();
            transaction.execute(GONE, &[&node, &stores]).await?;
            transaction.execute(CAME, &[&node, &stores]).await?;
        }
        transaction.commit().await?;
        client.execute(EXPIRED, &[]).await?;
        Ok(())
    })
    .await
}

async fn leave(pool: &Pool, node: &str) -> Result<(), QueryError> {
    db::with_timeout(async {
        let client = pool.get().await?;
        client
            .execute("delete from vestnik.vst_node where id = $1", &[&node])
            .await?;
        Ok(())
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panel_that_polls_is_there_until_it_is_silent_for_too_long_or_says_otherwise() {
        let (presence, now) = (Presence::default(), Instant::now());
        let (here, there) = (StoreId::new("7"), StoreId::new("8"));
        let token = TokenId(1);
        presence.poll_at(&here, token, "kitchen", true, now);
        presence.poll_at(&there, token, "kitchen", true, now + POLLING_LIFE / 2);
        presence.poll_at(&there, token, "counter", true, now + POLLING_LIFE / 2);
        assert_eq!(presence.stores_at(now + POLLING_LIFE / 2).len(), 2);
        assert_eq!(presence.stores_at(now + POLLING_LIFE), HashSet::from(["8".to_owned()]));
        presence.poll_at(&there, token, "kitchen", false, now + POLLING_LIFE);
        assert_eq!(presence.stores_at(now + POLLING_LIFE), HashSet::from(["8".to_owned()]));
        presence.poll_at(&there, token, "counter", false, now + POLLING_LIFE);
        assert!(presence.stores_at(now + POLLING_LIFE).is_empty());
    }

    #[test]
    fn no_token_takes_the_panel_of_another_one_away() {
        let (presence, store) = (Presence::default(), StoreId::new("7"));
        presence.poll(&store, TokenId(1), "kitchen", true);
        presence.poll(&store, TokenId(2), "kitchen", false);
        assert_eq!(presence.stores().len(), 1);
        presence.poll(&store, TokenId(1), "kitchen", false);
        assert!(presence.stores().is_empty());
    }

    #[test]
    fn no_more_names_are_kept_than_make_a_difference() {
        let (presence, store) = (Presence::default(), StoreId::new("7"));
        (0..1000).for_each(|number| presence.poll(&store, TokenId(1), &number.to_string(), true));
        assert_eq!(presence.polling()[&store].len(), POLLING_PER_STORE);
    }
}
