//! The secrets with which the requests to a store's webhook are signed.

use crate::infra::db::Client;

use crate::domain::event::StoreId;
use crate::infra::db::QueryError;

/// Whether the store has a secret for signing the requests to its webhook.
pub async fn is_there(client: &Client, store: &StoreId) -> Result<bool, QueryError> {
    let sql = "select exists (select from vestnik.vst_store where id = $1 and webhook_secret is not null)";
    Ok(client.query_one(sql, &[&store.as_str()]).await?.try_get(0)?)
}

/// Begins a rotation: sets a new signing secret. Until `end_rotation`, requests are signed with both the old and the
/// new secret. Returns whether the store has a webhook.
pub async fn rotate(client: &Client, store: &StoreId, secret: &str) -> Result<bool, QueryError> {
    const ROTATE: &str = "update vestnik.vst_store set webhook_secret_old = webhook_secret, webhook_secret = $2 \
         where id = $1 and webhook_url is not null";
    Ok(client.execute(ROTATE, &[&store.as_str(), &secret]).await? > 0)
}

/// Ends the rotation: requests are signed with the new secret only. Returns whether the store had an old secret.
pub async fn end_rotation(client: &Client, store: &StoreId) -> Result<bool, QueryError> {
    const END: &str =
        "update vestnik.vst_store set webhook_secret_old = null where id = $1 and webhook_secret_old is not null";
    Ok(client.execute(END, &[&store.as_str()]).await? > 0)
}
