//! Decides whether a store is closed according to its opening hours. The orders of a closed store are not escalated if
//! the store's setting `escalates` is `open`.

/// An SQL condition: the store is closed now, and is set to escalate orders only while it is open. A store without
/// opening hours is never closed. `store` is an SQL expression for the store's id.
pub(super) fn is_closed(store: &str) -> String {
    format!(
        "exists (select from vestnik.vst_store s where s.id = {store} and s.escalates = 'open' \
             and exists (select from vestnik.vst_closed_now n where n.store_id = s.id))"
    )
}
