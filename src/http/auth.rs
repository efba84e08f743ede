//! Authorizes requests: checks the token, the store, and the origin of the web page that sends the request. A token is
//! accepted only in a header, because proxies and servers log URLs.
//!
//! The token is verified before the request reads a store's data or waits in a store's queue. So a client without a
//! valid token cannot delay the clients of a store.

use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use percent_encoding::percent_decode_str;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use warp::http::header::{self, HeaderMap};

use super::error::ApiError;
use super::request::{ApiRequest, Query};
use super::response::PROTOCOL;
use super::{DatabaseContext, Databases};
use crate::domain::event::StoreId;
use crate::infra::telemetry::LogLimit;
use crate::token::{Grant, Jwt, Looked, Presented, Refused, Scope, Stores, Token, TokenId, TokenLookup};

/// The prefix of a WebSocket subprotocol that carries a token, such as `bearer.TOKEN`. A web page cannot set the
/// headers of a WebSocket handshake, but it can set the subprotocols. So panels send the token this way.
const BEARER_PROTOCOL: &str = "bearer.";
/// Maximum length of a store id, in bytes.
const MAX_STORE_BYTES: usize = 200;

/// The result of the authorization of a request to one store.
pub struct Access {
    /// The database that has the store.
    pub database: Arc<DatabaseContext>,
    /// The id of the store.
    pub store: StoreId,
    /// The rights of the token: its stores and its scope.
    pub grant: Arc<Grant>,
    presented: Presented,
    generation: u64,
}

impl Access {
    /// Checks the token again if any token in the database has changed since the first check. Call this method after
    /// the session has subscribed: a later revocation ends the session, and this check finds an earlier revocation.
    pub async fn confirm(&self) -> Result<(), ApiError> {
        if self.database.hub.tokens.generation() == self.generation {
            return Ok(());
        }
        let looked = look_up(&self.database, &self.presented).await?;
        judge(looked.found, &self.store).map(drop)
    }
}

/// Selects the headers in which a route accepts a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenLocation {
    /// The route accepts a token only in the header `Authorization`. A web page of another site cannot make a browser
    /// send this header, so such a page cannot forge requests.
    Header,
    /// The route also accepts a token in a subprotocol of a WebSocket handshake.
    HeaderOrSubprotocol,
}

/// Checks that the request's token gives access to the store in the path, with a scope of at least `scope`. The error
/// is the response for the client.
pub async fn authorize(
    databases: &Databases,
    call: &ApiRequest,
    scope: Scope,
    location: TokenLocation,
    client: IpAddr,
) -> Result<Access, ApiError> {
    let given = offered(databases, call, location)?;
    let store = store(&call.store)?;
    let presented = parse(given, client)?;
    let refused = |why: &'static str| refused(given, why, client);
    // With several databases, the token is checked before the node looks for the database of the store. So a request
    // without a valid token causes no query for the store.
    let is_counted = databases.are_several() && identify(databases, &presented, &store, refused).await?;
    let database = databases.of(&store).await?;
    let looked = look_up(&database, &presented).await?;
    let generation = looked.generation;
    let grant = match looked.found {
        // The store's database does not know the token, but another database does. So the token opens other stores
        // only.
        TokenLookup::Unknown if databases.are_several() => return Err(ApiError::OtherStore),
        found => {
            if let Some(why) = found.why_not() {
                refused(why);
            }
            judge_alone(found)?
        }
    };
    authenticate(call)?;
    if !is_counted {
        databases.limits.count_token(database.number, grant.id)?;
    }
    // Only the token of the self-test (canary) opens the store of the self-test. This token opens no other store.
    if !grant.opens(store.as_str()) || store.is_canary() != (grant.id == TokenId::CANARY) {
        return Err(ApiError::OtherStore);
    }
    if grant.scope < scope {
        return Err(ApiError::OtherScope(scope));
    }
    Ok(Access {
        database,
        store,
        grant,
        presented,
        generation,
    })
}

/// Checks that the URL holds no token, and that the origin of the request is allowed. Returns the text of the request's
/// token without verifying the token. `None`: the request has no token.
pub fn offered<'a>(
    databases: &Databases,
    call: &'a ApiRequest,
    location: TokenLocation,
) -> Result<Option<&'a str>, ApiError> {
    if holds_token(call) {
        return Err(ApiError::TokenInUrl);
    }
    if !databases.rules.allow_origin(&call.headers) {
        return Err(ApiError::ForeignOrigin);
    }
    Ok(match location {
        TokenLocation::HeaderOrSubprotocol if !call.headers.contains_key(header::AUTHORIZATION) => {
            protocols(&call.headers).find_map(|protocol| protocol.strip_prefix(BEARER_PROTOCOL))
        }
        _ => authorization(&call.headers),
    })
}

/// Parses the text of a token. Fails if the token is missing or malformed, and counts the refusal in the metrics.
pub fn parse(given: Option<&str>, client: IpAddr) -> Result<Presented, ApiError> {
    given.and_then(Presented::parse).ok_or_else(|| {
        refused(given, if given.is_some() { "malformed" } else { "missing" }, client);
        ApiError::Unauthorized
    })
}

/// Looks the token up in a database.
pub async fn look_up(database: &DatabaseContext, presented: &Presented) -> Result<Looked, ApiError> {
    database.hub.tokens.look_up(presented).await.map_err(ApiError::database)
}

/// Checks that the token gives access to the store in at least one of the node's databases. A JWT is verified without a
/// database. Returns `true` if the request was counted against the token's rate limit.
///
/// If no database knows the token, and one database does not respond, the error is the error of that database.
async fn identify(
    databases: &Databases,
    presented: &Presented,
    store: &StoreId,
    refused: impl Fn(&'static str),
) -> Result<bool, ApiError> {
    if let Presented::Jwt(jwt) = presented {
        let opened = verify(databases, jwt, refused).await?;
        return match opened.have(store.as_str()) {
            true => Ok(false),
            false => Err(ApiError::OtherStore),
        };
    }
    let looking = databases
        .all()
        .map(|database| async move { (database, database.hub.tokens.look_up(presented).await) });
    let mut looking: FuturesUnordered<_> = looking.collect();
    let (mut failed, mut known) = (None, None);
    while let Some((database, looked)) = looking.next().await {
        match looked.map(|looked| looked.found) {
            Ok(TokenLookup::Unknown) => {}
            Ok(TokenLookup::Valid(grant)) => {
                databases.limits.count_token(database.number, grant.id)?;
                if grant.opens(store.as_str()) {
                    return Ok(true);
                }
                known = Some(ApiError::OtherStore);
            }
            Ok(found) => {
                if let Some(why) = found.why_not() {
                    refused(why);
                }
                known = known.or(judge_alone(found).err());
            }
            Err(error) => failed = Some(ApiError::database(error)),
        }
    }
    Err(match (known, failed) {
        (Some(problem), _) | (None, Some(problem)) => problem,
        (None, None) => {
            refused("unknown");
            ApiError::Unauthorized
        }
    })
}

/// Verifies a JWT without a database. Returns the stores to which the JWT gives access. If the JWT is not valid, calls
/// `refused` with the reason.
pub async fn verify(databases: &Databases, jwt: &Jwt, refused: impl Fn(&'static str)) -> Result<Stores, ApiError> {
    databases.any().hub.tokens.verify(jwt).await.map_err(|why| match why {
        Refused::NoKeys => ApiError::NotReady,
        why => {
            refused(why.as_str());
            ApiError::Unauthorized
        }
    })
}

/// Marks the request's connection as a connection with a valid token, so that the server does not close it to make room
/// for others. Fails if connections with valid tokens fill all slots.
pub fn authenticate(call: &ApiRequest) -> Result<(), ApiError> {
    call.connection.slot.authenticate().map_err(|full| {
        full.log();
        ApiError::TooManyConnections
    })
}

/// Returns the rights of a valid token, or the error for the client. This function does not check whether the token
/// gives access to the store: the caller must check it.
pub fn judge_alone(found: TokenLookup) -> Result<Arc<Grant>, ApiError> {
    match found {
        TokenLookup::Valid(grant) => Ok(grant),
        TokenLookup::Unknown | TokenLookup::Refused(_) => Err(ApiError::Unauthorized),
        TokenLookup::Expired => Err(ApiError::NoLonger("token_expired")),
        TokenLookup::Revoked => Err(ApiError::NoLonger("token_revoked")),
    }
}

fn judge(found: TokenLookup, store: &StoreId) -> Result<Arc<Grant>, ApiError> {
    let grant = judge_alone(found)?;
    match grant.opens(store.as_str()) {
        true => Ok(grant),
        false => Err(ApiError::OtherStore),
    }
}

/// Counts a request with a missing or invalid token. If the token is invalid, logs its first characters and the
/// client's address. The client may be an attacker who guesses tokens, or a device whose token is old.
pub fn refused(given: Option<&str>, why: &'static str, client: IpAddr) {
    static LIMIT: LogLimit = LogLimit::new();
    metrics::counter!("vestnik_tokens_refused_total", "why" => why).increment(1);
    if why == "missing" {
        return;
    }
    if let Some(unlogged) = LIMIT.allows() {
        let begins = given.map(Token::beginning).unwrap_or_default();
        tracing::warn!(%client, why, begins, unlogged, "a token was refused");
    }
}

/// Decodes the store id in a request's path.
pub fn store(text: &str) -> Result<StoreId, ApiError> {
    let store = percent_decode_str(text).decode_utf8().map_err(|_| ApiError::BadStore)?;
    checked_store(&store)
}

/// Checks that a store id has 1 to `MAX_STORE_BYTES` bytes, and no zero byte, because Postgres cannot store a zero
/// byte.
pub fn checked_store(store: &str) -> Result<StoreId, ApiError> {
    if store.is_empty() || store.len() > MAX_STORE_BYTES || store.contains('\0') {
        return Err(ApiError::BadStore);
    }
    Ok(StoreId::new(store))
}

/// Whether the URL contains a token: a parameter with a name such as `token`, or a text that has the form of a token.
fn holds_token(call: &ApiRequest) -> bool {
    let parts = [&call.store, &call.id].map(|part| percent_decode_str(part).decode_utf8_lossy());
    parts.iter().any(|part| Presented::begins(part)) || query_holds_token(&call.query)
}

fn query_holds_token(query: &Query) -> bool {
    let named = |name: &str| matches!(name, "token" | "access_token" | "bearer" | "authorization");
    query
        .pairs()
        .any(|(key, value)| named(&key.to_ascii_lowercase()) || Presented::begins(key) || Presented::begins(value))
}

/// The token in the header `Authorization`. `None`: the header is missing, or its scheme is not `Bearer`.
fn authorization(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn protocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    tokens(headers, header::SEC_WEBSOCKET_PROTOCOL)
}

/// The values of a header that contains a list, separated by commas, such as `Connection: keep-alive, Upgrade`.
fn tokens(headers: &HeaderMap, name: header::HeaderName) -> impl Iterator<Item = &str> {
    let values = headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

/// Whether the client offers the subprotocol of Vestnik. The response may confirm the subprotocol only if the client
/// offers it.
pub fn offers_our_protocol(headers: &HeaderMap) -> bool {
    protocols(headers).any(|protocol| protocol == PROTOCOL)
}

/// Whether the request asks for an upgrade to a WebSocket.
pub fn asks_for_websocket(headers: &HeaderMap) -> bool {
    let says = |name, word: &str| tokens(headers, name).any(|token| token.eq_ignore_ascii_case(word));
    says(header::UPGRADE, "websocket") && says(header::CONNECTION, "upgrade")
}

/// Checks the WebSocket handshake. Returns the `Sec-WebSocket-Accept` value of the response.
pub fn websocket_accept(headers: &HeaderMap) -> Result<String, ApiError> {
    if !asks_for_websocket(headers) {
        return Err(ApiError::NotAnUpgrade);
    }
    let version = headers
        .get(header::SEC_WEBSOCKET_VERSION)
        .is_some_and(|version| version == "13");
    let key = headers.get(header::SEC_WEBSOCKET_KEY).map(|key| key.as_bytes());
    match key.filter(|key| version && STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 16)) {
        Some(key) => Ok(derive_accept_key(key)),
        None => Err(ApiError::BadUpgrade),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "vst_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    #[test]
    fn a_token_is_found_in_a_url_under_any_name_and_without_one() {
        let holds = |raw: &str| query_holds_token(&Query::parse(raw));
        for raw in ["token=abc", "after=x&access_token=abc", "Token=abc"] {
            assert!(holds(raw), "{raw}");
        }
        assert!(holds(&format!("x={TOKEN}")) && holds(TOKEN) && holds(&format!("a=b&{TOKEN}=c")));
        assert!(holds(&format!("x=%76{}", &TOKEN[1..])));
    }

    #[test]
    fn a_cursor_is_no_token_whatever_its_letters() {
        let holds = |raw: &str| query_holds_token(&Query::parse(raw));
        for raw in [
            "after=AbC_-9&limit=5",
            "after=Ae_fvPJxBsZAAdCDBAD3hgQAvst_",
            "after=vst_short",
        ] {
            assert!(!holds(raw), "{raw}");
        }
        assert!(!holds(&format!("after=AAAA{TOKEN}")));
    }

    #[test]
    fn a_browser_offers_our_protocol_beside_its_token() {
        let mut headers = HeaderMap::new();
        let protocols = "vestnik.v1, bearer.vst_x".parse().unwrap();
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocols);
        assert!(offers_our_protocol(&headers));
        assert_eq!(authorization(&headers), None);
        headers.insert(header::AUTHORIZATION, "bearer vst_y".parse().unwrap());
        assert_eq!(authorization(&headers), Some("vst_y"));
    }
}
