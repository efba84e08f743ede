//! Lets clients repeat a request safely. The header `Idempotency-Key` names a request, and a repetition with the same
//! key gets the first response again. The responses are saved in Postgres, so all nodes return the same response.

use std::time::Duration;

use tokio_postgres::types::ToSql;

use super::TokenId;
use crate::domain::event::StoreId;
use crate::infra::db::{self, Pool, QueryError};

/// Time for which a response is kept. A later request with the same key is a new request.
pub const KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// The longest time for which a node may execute a request. After this time, the execution counts as interrupted. If
/// the client then repeats the request, it is executed again.
const LEASE: Duration = Duration::from_secs(60);

/// The id of a request that has an `Idempotency-Key`. A repetition of the request has the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestId(pub i64);

/// Identifies a request by the text of its `Idempotency-Key`, its token and its store. The same text with another token
/// or store identifies another request.
#[derive(Debug, Clone)]
pub struct IdempotencyKey {
    /// The token of the request.
    pub token: TokenId,
    /// The store of the request.
    pub store: StoreId,
    /// The value of the header `Idempotency-Key`, without quotes.
    pub key: String,
}

/// One execution of a request, on this node.
#[derive(Debug, Clone, Copy)]
pub struct Execution {
    /// The id of the request.
    pub id: RequestId,
    /// The number of the execution. Only the newest execution may save its outcome, so a slow older execution cannot
    /// overwrite the outcome of a newer execution.
    fence: i32,
}

/// The result of an attempt to reserve an `Idempotency-Key` for a request.
#[derive(Debug)]
pub enum Claimed {
    /// The key is new, or an earlier execution of the request has failed or was interrupted. The caller must execute
    /// the request.
    Execute(Execution),
    /// The request was executed before. The fields are the HTTP status and the body of its response.
    Answered(u16, String),
    /// The client has already used the key for another request.
    OtherRequest,
    /// The request is being executed, on this node or on another node.
    UnderWay,
}

/// The outcome of the execution of a request.
#[derive(Debug)]
pub enum Executed {
    /// The request was executed. A repetition gets the same response: the fields are its HTTP status and its body.
    Answered(u16, String),
    /// The execution failed because of the node or the shop. A repetition executes the request again, with the same id.
    Failed,
    /// The request was refused before it had any effect. The client may use the key for another request.
    NotBegun,
}

/// Reserves an `Idempotency-Key` for a request, unless the key is in use. `fingerprint` is the SHA-256 of the request.
/// A different fingerprint shows that the client has used the key for another request.
pub async fn claim(pool: &Pool, key: &IdempotencyKey, fingerprint: &[u8]) -> Result<Claimed, QueryError> {
    const CLAIM: &str = "insert into vestnik.vst_idempotent_request as r (token_id, store_id, key, fingerprint, until) \
         values ($1, $2, $3, $4, clock_timestamp() + make_interval(secs => $5)) \
         on conflict (token_id, store_id, key) do update set \
             id = case when r.asked_at < clock_timestamp() - make_interval(secs => $6) then excluded.id else r.id end, \
             asked_at = case when r.asked_at < clock_timestamp() - make_interval(secs => $6) then excluded.asked_at else r.asked_at end, \
             fingerprint = excluded.fingerprint, until = excluded.until, fence = r.fence + 1, status = null, body = null \
         where r.asked_at < clock_timestamp() - make_interval(secs => $6) \
            or r.status is null and r.until < clock_timestamp() and r.fingerprint = excluded.fingerprint \
         returning id, fence";
    const FOUND: &str = "select fingerprint = $4, status, body from vestnik.vst_idempotent_request \
         where token_id = $1 and store_id = $2 and key = $3";
    let (store, lease_s, kept_s) = (key.store.as_str(), LEASE.as_secs_f64(), KEPT.as_secs_f64());
    let parameters: [&(dyn ToSql + Sync); 6] = [&key.token.0, &store, &key.key, &fingerprint, &lease_s, &kept_s];
    db::with_timeout(async {
        let client = pool.get().await?;
        let statement = client.prepare_cached(CLAIM).await?;
        if let Some(row) = client.query_opt(&statement, &parameters).await? {
            let id = RequestId(row.try_get(0)?);
            return Ok(Claimed::Execute(Execution {
                id,
                fence: row.try_get(1)?,
            }));
        }
        let statement = client.prepare_cached(FOUND).await?;
        // The row of this key may have been deleted between the two statements. `UnderWay` makes the client repeat the
        // request, and the repetition is executed.
        let Some(row) = client.query_opt(&statement, &parameters[..4]).await? else {
            return Ok(Claimed::UnderWay);
        };
        Ok(match (row.try_get(0)?, row.try_get::<_, Option<i32>>(1)?) {
            (false, _) => Claimed::OtherRequest,
            (true, None) => Claimed::UnderWay,
            (true, Some(status)) => Claimed::Answered(u16::try_from(status).unwrap_or_default(), row.try_get(2)?),
        })
    })
    .await
}

/// Saves the outcome of an execution.
pub async fn complete(pool: &Pool, execution: Execution, outcome: &Executed) -> Result<(), QueryError> {
    const ANSWERED: &str =
        "update vestnik.vst_idempotent_request set status = $3, body = $4 where id = $1 and fence = $2";
    const FAILED: &str = "update vestnik.vst_idempotent_request set until = '-infinity' where id = $1 and fence = $2";
    const NOT_BEGUN: &str = "delete from vestnik.vst_idempotent_request where id = $1 and fence = $2";
    let Execution { id, fence } = execution;
    let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&id.0, &fence];
    let code: i32;
    let sql = match outcome {
        Executed::Answered(status, body) => {
            code = i32::from(*status);
            parameters.extend([&code as &(dyn ToSql + Sync), body]);
            ANSWERED
        }
        Executed::Failed => FAILED,
        Executed::NotBegun => NOT_BEGUN,
    };
    db::with_timeout(async {
        let client = pool.get().await?;
        let statement = client.prepare_cached(sql).await?;
        client.execute(&statement, &parameters).await?;
        Ok(())
    })
    .await
}
