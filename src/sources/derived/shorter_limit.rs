//! The time limit of the statements that run after a statement of the mapping has failed.

use crate::infra::db::Transaction;

/// Time limit of a statement after an earlier one has failed, milliseconds. It computes one order, one value, or the
/// keys of a part of the written rows.
const AFTER_FAILURE_MS: u32 = 300;

/// The time limit that the transaction's statements had before.
#[must_use]
pub(super) struct EarlierLimit(String);

/// Makes the time limit of the transaction's next statements shorter.
pub(super) async fn begin(transaction: &Transaction<'_>) -> Result<EarlierLimit, tokio_postgres::Error> {
    const LIMIT: &str = "select current_setting('statement_timeout')";
    let earlier = transaction.query_one(LIMIT, &[]).await?.try_get(0)?;
    let shorter = format!("set local statement_timeout = {AFTER_FAILURE_MS}");
    transaction.batch_execute(&shorter).await?;
    Ok(EarlierLimit(earlier))
}

impl EarlierLimit {
    /// Gives the transaction's next statements their earlier time limit.
    pub async fn restore(self, transaction: &Transaction<'_>) -> Result<(), tokio_postgres::Error> {
        let restored = format!("set local statement_timeout = '{}'", self.0);
        transaction.batch_execute(&restored).await
    }
}
