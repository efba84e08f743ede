//! Closes the live sessions of tokens that are revoked, changed or expired.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::fanout::router::{Router, Selection};
use crate::feed::listener::{ListenState, ListenerSignals};
use crate::infra::db::Pool;
use crate::token::{self, Holder, Opens, TokenInvalidated, TokenState, Tokens};

/// Interval of the checks for revoked tokens. A check also finds a revocation whose notification was lost.
const TOKEN_CHECK_INTERVAL: Duration = Duration::from_secs(30);
/// Interval of the checks for revoked tokens while this node receives no notifications, or after a failed check.
const TOKEN_POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Expiry times of one token that differ by less than this count as equal. Two look-ups return slightly different
/// times, because a look-up takes some time.
const END_TOLERANCE: Duration = Duration::from_secs(6);

/// Closes the sessions of tokens that are revoked, changed or expired. Checks the tokens after each notification, and
/// also at intervals, because a notification may be lost.
pub(super) async fn close_sessions(
    pool: Pool,
    router: Arc<Router>,
    tokens: Arc<Tokens>,
    signals: Arc<ListenerSignals>,
    listen_state: watch::Receiver<ListenState>,
    stop: CancellationToken,
) {
    let mut must_retry = false;
    loop {
        let listening = *listen_state.borrow() == ListenState::Listening;
        let pause = if listening && !must_retry {
            TOKEN_CHECK_INTERVAL
        } else {
            TOKEN_POLL_INTERVAL
        };
        tokio::select! {
            () = signals.tokens.notified() => tokens.clear_cache(),
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
        must_retry = false;
        let live = router.tokens();
        if live.is_empty() {
            continue;
        }
        match token::states(&pool, &live).await {
            Ok(states) => router.close_sessions_of(|selection, holder| {
                // Check only sessions that `live` contains. A session that connected later is not in `live`, and its
                // token was looked up just now.
                live.binary_search(&holder.token).ok()?;
                why_invalidated(states.get(&holder.token), selection, holder)
            }),
            Err(error) => {
                // The check failed, and no second notification arrives for the same change of a token. So repeat the
                // check soon.
                must_retry = true;
                tracing::warn!(%error, "could not check the tokens of live sessions");
            }
        }
    }
}

/// Returns the reason why a token no longer allows the session's access. `None`: the token still allows it.
fn why_invalidated(state: Option<&TokenState>, selection: &Selection, holder: Holder) -> Option<TokenInvalidated> {
    let Some(state) = state else {
        return Some(TokenInvalidated::Revoked);
    };
    let narrowed = |opens: &Opens| {
        if !selection.is_opened_by(&opens.stores) {
            // If the session is for all stores of the token, ask its client to connect again. Then the client gets the
            // stores that the token allows now.
            return Some(match selection {
                Selection::Many(many) if many.granted.is_some() => TokenInvalidated::Changed,
                _ => TokenInvalidated::Revoked,
            });
        }
        let is_same = opens.scope == holder.scope && is_same_expiry(opens.ends, holder.ends);
        (!is_same).then_some(TokenInvalidated::Changed)
    };
    state.withdrawn.or_else(|| state.opens.as_ref().and_then(narrowed))
}

/// Whether two look-ups returned the same expiry time of a token. A difference below `END_TOLERANCE` does not count.
fn is_same_expiry(one: Option<Instant>, other: Option<Instant>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.max(other) - one.min(other) < END_TOLERANCE,
        (None, None) => true,
        _ => false,
    }
}
