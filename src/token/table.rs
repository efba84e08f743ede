//! All SQL on the table of tokens. This module looks up, creates, lists, revokes and rotates tokens.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::infra::db::{Client, GenericClient, Pool};
use subtle::ConstantTimeEq as _;
use tokio_postgres::types::ToSql;

use super::jwt::Claims;
use super::{Error, Grant, Hash, Scope, Stores, Token, TokenId, TokenInvalidated, TokenLookup};
use crate::infra::db;

/// SQL for the time until a token expires, by Postgres' clock, in seconds. Null: the token does not expire.
const LEFT: &str = "case when isfinite(expires_at) then extract(epoch from expires_at - clock_timestamp())::float8 \
     when expires_at < clock_timestamp() then 0 end";

/// A JWT is accepted this many seconds before it becomes valid, because the issuer's clock may be ahead of Postgres'
/// clock.
const EARLY_S: f64 = 10.0;

/// A token that was found in the table by its hash.
pub(super) struct Row {
    hash: Hash,
    pub found: TokenLookup,
}

impl Row {
    /// Whether the token has this hash. The comparison takes constant time. The lookup of the hash in Postgres' index
    /// does not. But the time of that lookup depends only on the hash, and nobody can compute a token from its hash.
    pub fn is_of(&self, hash: &Hash) -> bool {
        self.hash.ct_eq(hash).into()
    }
}

/// Prepares the SQL statement of lookups on a connection of the pool, so that the first lookup is fast.
pub async fn prepare(pool: &Pool) -> Result<(), Error> {
    find(pool, &[]).await.map(drop)
}

/// Reads the tokens with these hashes. A hash without a token is missing from the result.
pub(super) async fn find(pool: &Pool, hashes: &[&[u8]]) -> Result<Vec<Row>, Error> {
    let find = format!(
        "select id, hash, label, stores, {LEFT}, revoked_at is not null, scope from vestnik.vst_token \
         where hash = any ($1) and issuer is null"
    );
    let asked_at = Instant::now();
    let rows = db::with_timeout::<_, Error>(async {
        let client = pool.get().await?;
        let statement = client.prepare_cached(&find).await?;
        Ok(client.query(&statement, &[&hashes]).await?)
    });
    let read = |row: &tokio_postgres::Row| {
        let left_s: Option<f64> = row.try_get(4)?;
        let found = if row.try_get(5)? {
            TokenLookup::Revoked
        } else if left_s.is_some_and(|left_s| left_s <= 0.0) {
            TokenLookup::Expired
        } else {
            TokenLookup::Valid(Arc::new(Grant {
                id: TokenId(row.try_get(0)?),
                label: row.try_get::<_, Option<&str>>(2)?.map(Into::into),
                stores: stores(row.try_get(3)?),
                scope: scope(row.try_get(6)?),
                ends: end(asked_at, left_s),
            }))
        };
        let hash = row.try_get::<_, &[u8]>(1)?.try_into().unwrap_or_default();
        Ok(Row { hash, found })
    };
    rows.await?.iter().map(read).collect()
}

/// Returns the time at which a token expires. `left_s` is counted from `asked_at`, the start of the query, so the
/// result may be a little early, but never late. `None`: the token does not expire.
fn end(asked_at: Instant, left_s: Option<f64>) -> Option<Instant> {
    asked_at.checked_add(Duration::try_from_secs_f64(left_s?).ok()?)
}

fn stores(stores: Option<Vec<String>>) -> Stores {
    stores.map_or(Stores::All, Stores::These)
}

/// Parses the name of a scope. The table allows only known names. If a name is unknown, returns the scope with the
/// fewest permissions.
fn scope(name: &str) -> Scope {
    Scope::from_name(name).unwrap_or(Scope::Read)
}

/// The holder of a JWT: the person or program that presents it. Each holder has a row in the table of tokens. An
/// operator can revoke the holder through this row, and receipts refer to it.
pub(super) struct Holder {
    /// The id of the holder's row. `None`: the JWT is not valid now, and its holder has no row yet.
    pub id: Option<TokenId>,
    pub is_revoked: bool,
    /// Whether the JWT is not valid yet, by Postgres' clock.
    pub is_early: bool,
    /// The time at which the JWT expires. `None`: the JWT has expired.
    pub ends: Option<Instant>,
}

/// Finds or creates the row for the holder of a JWT. Also checks by Postgres' clock whether the JWT is valid now.
pub(super) async fn holder(pool: &Pool, claims: &Claims) -> Result<Holder, Error> {
    const HOLDER: &str = "with clock as (select extract(epoch from clock_timestamp())::float8 as now), \
         there as (select id, revoked_at is not null as is_revoked from vestnik.vst_token where hash = $1), \
         made as (insert into vestnik.vst_token (hash, issuer, label, stores, scope) select $1, $2, $3, '{}', 'read' from clock \
             where not exists (select from there) and $4::float8 <= now + $6::float8 and $5::float8 > now \
             on conflict (hash) do nothing returning id) \
         select coalesce((select id from there), (select id from made)), coalesce((select is_revoked from there), false), \
             $4::float8 > now + $6::float8, $5::float8 - now from clock";
    let hash = claims.holder();
    let asked_at = Instant::now();
    let row = db::with_timeout::<_, Error>(async {
        let client = pool.get().await?;
        let statement = client.prepare_cached(HOLDER).await?;
        let parameters: [&(dyn ToSql + Sync); 6] = [
            &hash.as_slice(),
            &claims.issuer,
            &claims.subject,
            &claims.not_before,
            &claims.expires,
            &EARLY_S,
        ];
        let row = client.query_one(&statement, &parameters).await?;
        // If the result has no id, a concurrent request may have created the holder's row, and this statement did not
        // see it. A second execution sees the row.
        match row.try_get::<_, Option<i64>>(0)? {
            Some(_) => Ok(row),
            None => Ok(client.query_one(&statement, &parameters).await?),
        }
    });
    let row = row.await?;
    let left_s: f64 = row.try_get(3)?;
    Ok(Holder {
        id: row.try_get::<_, Option<i64>>(0)?.map(TokenId),
        is_revoked: row.try_get(1)?,
        is_early: row.try_get(2)?,
        ends: end(asked_at, Some(left_s)).filter(|_| left_s > 0.0),
    })
}

/// The current state of the token of a session.
#[derive(Debug)]
pub struct TokenState {
    /// The reason why the token gives no access. `None`: the token is valid.
    pub withdrawn: Option<TokenInvalidated>,
    /// The rights that the token gives. `None`: the row is for the holder of JWTs (a person or program), and each JWT
    /// names its own rights.
    pub opens: Option<Opens>,
}

/// The rights that a token gives its holder. JWTs name their own rights.
#[derive(Debug)]
pub struct Opens {
    /// The stores that the token opens.
    pub stores: Stores,
    /// The permissions of the holder in these stores.
    pub scope: Scope,
    /// The time at which the token expires. `None`: the token never expires.
    pub ends: Option<Instant>,
}

/// Reads the current states of these tokens. The result has no entry for a deleted token.
pub async fn states(pool: &Pool, tokens: &[TokenId]) -> Result<HashMap<TokenId, TokenState>, Error> {
    let states = format!(
        "select id, revoked_at is not null, issuer is null, stores, scope, {LEFT} from vestnik.vst_token where id = any ($1)"
    );
    let asked_at = Instant::now();
    let ids: Vec<i64> = tokens.iter().map(|token| token.0).collect();
    let rows = db::with_timeout::<_, Error>(async {
        let client = pool.get().await?;
        let statement = client.prepare_cached(&states).await?;
        Ok(client.query(&statement, &[&ids]).await?)
    });
    let read = |row: &tokio_postgres::Row| {
        let left_s: Option<f64> = row.try_get(5)?;
        let opens = match row.try_get(2)? {
            true => Some(Opens {
                stores: stores(row.try_get(3)?),
                scope: scope(row.try_get(4)?),
                ends: end(asked_at, left_s),
            }),
            false => None,
        };
        let withdrawn = withdrawn(row.try_get(1)?, left_s.is_some_and(|left_s| left_s <= 0.0));
        Ok((TokenId(row.try_get(0)?), TokenState { withdrawn, opens }))
    };
    rows.await?.iter().map(read).collect()
}

fn withdrawn(is_revoked: bool, is_expired: bool) -> Option<TokenInvalidated> {
    match (is_revoked, is_expired) {
        (true, _) => Some(TokenInvalidated::Revoked),
        (false, true) => Some(TokenInvalidated::Expired),
        (false, false) => None,
    }
}

/// The settings of a new token.
#[derive(Debug, Clone)]
pub struct New<'a> {
    /// The stores that the new token opens.
    pub stores: &'a Stores,
    /// The permissions of the holder in these stores.
    pub scope: Scope,
    /// The label of the token. `None`: the token has no label.
    pub label: Option<&'a str>,
    /// The lifetime of the token. `None`: the token is valid until somebody revokes it.
    pub expires_in: Option<Duration>,
}

impl<'a> New<'a> {
    /// The settings of a new token for a panel. It has no label, and is valid until somebody revokes it.
    pub fn of(stores: &'a Stores) -> Self {
        Self {
            stores,
            scope: Scope::Panel,
            label: None,
            expires_in: None,
        }
    }
}

/// Creates a token, and saves its hash. Returns the token in clear text.
pub async fn create(client: &Client, new: &New<'_>) -> Result<Token, Error> {
    const CREATE: &str = "insert into vestnik.vst_token (hash, stores, scope, label, expires_at) \
         values ($1, $2, $3, $4, now() + make_interval(secs => $5))";
    let token = Token::generate()?;
    let stores = match new.stores {
        Stores::All => None,
        Stores::These(stores) => Some(stores),
    };
    let seconds = new.expires_in.map(|expires_in| expires_in.as_secs_f64());
    let hash = token.hash();
    let parameters: [&(dyn ToSql + Sync); 5] = [&hash.as_slice(), &stores, &new.scope.as_str(), &new.label, &seconds];
    client.execute(CREATE, &parameters).await?;
    Ok(token)
}

/// Whether a token is valid now, and will still be valid after the time `left`.
pub async fn lives(client: &Client, token: &Token, left: Duration) -> Result<bool, Error> {
    const LIVES: &str = "select exists (select from vestnik.vst_token where hash = $1 and issuer is null and revoked_at is null \
         and coalesce(expires_at > now() + make_interval(secs => $2), true))";
    let row = client
        .query_one(LIVES, &[&token.hash().as_slice(), &left.as_secs_f64()])
        .await?;
    Ok(row.try_get(0)?)
}

/// Creates a new token with the stores, scope, label and lifetime of an old token. The old token then expires after
/// `old_lives`, or earlier if it would expire earlier anyway. `None`: the old token does not exist, or is not valid.
pub async fn rotate(client: &mut Client, id: TokenId, old_lives: Duration) -> Result<Option<Token>, Error> {
    const FOLLOW: &str = "insert into vestnik.vst_token (hash, stores, scope, label, expires_at) \
         select $2, stores, scope, label, now() + (expires_at - created_at) from vestnik.vst_token \
         where id = $1 and issuer is null and revoked_at is null and coalesce(expires_at > now(), true)";
    const END: &str =
        "update vestnik.vst_token set expires_at = least(expires_at, now() + make_interval(secs => $2)) where id = $1";
    let token = Token::generate()?;
    let transaction = client.transaction().await?;
    if transaction.execute(FOLLOW, &[&id.0, &token.hash().as_slice()]).await? == 0 {
        return Ok(None);
    }
    transaction.execute(END, &[&id.0, &old_lives.as_secs_f64()]).await?;
    transaction.commit().await?;
    Ok(Some(token))
}

/// A row in the list of tokens: either a token that vestnik created, or the holder (person or program) of JWTs. It
/// never has the secret.
#[derive(Debug)]
pub struct ListedToken {
    /// The id of the token's row.
    pub id: TokenId,
    /// The label of the token. For the holder of JWTs: the subject of the JWTs. `None`: there is no label.
    pub label: Option<String>,
    /// The issuer of the holder's JWTs. `None`: the row is a token that vestnik created.
    pub issuer: Option<String>,
    /// The stores that the token opens. For the holder of JWTs, the value has no meaning, because each JWT names its
    /// stores.
    pub stores: Stores,
    /// The permissions of the holder in these stores. For the holder of JWTs, the value has no meaning, because each
    /// JWT names its scope.
    pub scope: Scope,
    /// The day on which the row was created, such as `2026-11-24`.
    pub created: String,
    /// The day on which the token expires. `None`: the token never expires.
    pub expires: Option<String>,
    /// The time of the last use in UTC, to the minute. `None`: the token was never used.
    pub used: Option<String>,
    /// The number of the token's current sessions on all nodes.
    pub sessions: i64,
    /// The reason why the token gives no access. `None`: the token is valid.
    pub withdrawn: Option<TokenInvalidated>,
}

/// Reads the rows of all tokens and of all holders of JWTs, the oldest first.
pub async fn list(client: &Client) -> Result<Vec<ListedToken>, Error> {
    const LIST: &str = "select t.id, label, issuer, stores, scope, to_char(created_at, 'YYYY-MM-DD'), \
             to_char(expires_at, 'YYYY-MM-DD'), to_char(used_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI'), \
             coalesce((select sum(u.count) from vestnik.vst_token_use n, unnest(n.tokens, n.sessions) u(token, count) \
                 where n.until > clock_timestamp() and u.token = t.id), 0), \
             revoked_at is not null, coalesce(expires_at <= now(), false) from vestnik.vst_token t order by t.id";
    let rows = client.query(LIST, &[]).await?;
    let read = |row: &tokio_postgres::Row| {
        Ok(ListedToken {
            id: TokenId(row.try_get(0)?),
            label: row.try_get(1)?,
            issuer: row.try_get(2)?,
            stores: stores(row.try_get(3)?),
            scope: scope(row.try_get(4)?),
            created: row.try_get(5)?,
            expires: row.try_get(6)?,
            used: row.try_get(7)?,
            sessions: row.try_get(8)?,
            withdrawn: withdrawn(row.try_get(9)?, row.try_get(10)?),
        })
    };
    rows.iter().map(read).collect()
}

/// Which tokens to revoke.
#[derive(Debug, Clone)]
pub enum Which {
    /// The token with this id.
    Id(TokenId),
    /// All tokens with this label.
    Label(String),
}

/// Revokes tokens. A trigger then notifies all nodes, and each node closes the sessions of these tokens. Returns the
/// number of revoked tokens. Tokens that were revoked before do not count.
pub async fn revoke(client: &impl GenericClient, which: &Which) -> Result<u64, Error> {
    const REVOKE: &str =
        "update vestnik.vst_token set revoked_at = now() where (id = $1 or label = $2) and revoked_at is null";
    let (id, label) = match which {
        Which::Id(id) => (Some(id.0), None),
        Which::Label(label) => (None, Some(label)),
    };
    Ok(client.execute(REVOKE, &[&id, &label]).await?)
}
