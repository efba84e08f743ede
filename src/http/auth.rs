//! Who may open what: the token, the store, the origin of the page. A token comes in a header only, for what is in a
//! URL is in every log on the way.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use warp::http::header::{self, HeaderMap};

use super::Site;
use super::asked::{Call, Query};
use super::problem::Problem;
use crate::domain::event::StoreId;
use crate::token::{self, Found, Grant, Token};

/// The subprotocol that this program speaks.
pub const PROTOCOL: &str = "vestnik.v1";
/// What a browser, which can set no header on a WebSocket, puts before its token.
const BEARER_PROTOCOL: &str = "bearer.";
/// Bytes of a store's id at most.
const MAX_STORE_BYTES: usize = 200;
/// What a token begins with, wherever it is.
const TOKEN_PREFIX: &str = "vst_";

/// The store, if this request's token opens it. Only the `Authorization` header counts, which no other site's page can
/// make a browser send: so nothing can be forged across sites.
pub async fn open(site: &Site, call: &Call) -> Result<(StoreId, Grant), Problem> {
    let (store, token) = asked_for(site, call, authorization(&call.headers))?;
    look_up(site, store, &token).await
}

/// The same for a stream of events, which is let in when it is its turn: after a restart all of them come at once.
pub async fn open_stream(site: &Site, call: &Call) -> Result<(StoreId, Grant), Problem> {
    open_session(site, call, authorization(&call.headers)).await
}

/// The same for a WebSocket, whose token may come as a subprotocol.
pub async fn open_socket(site: &Site, call: &Call) -> Result<(StoreId, Grant), Problem> {
    let subprotocol = || protocols(&call.headers).find_map(|protocol| protocol.strip_prefix(BEARER_PROTOCOL));
    let token = match call.headers.contains_key(header::AUTHORIZATION) {
        true => authorization(&call.headers),
        false => subprotocol(),
    };
    open_session(site, call, token).await
}

async fn open_session(site: &Site, call: &Call, token: Option<&str>) -> Result<(StoreId, Grant), Problem> {
    let (store, token) = asked_for(site, call, token)?;
    let let_in = site.hub.router.rush().let_in().await;
    let_in.map_err(|_| Problem::NotReady)?;
    look_up(site, store, &token).await
}

/// What the request asks for, and with which token.
fn asked_for(site: &Site, call: &Call, token: Option<&str>) -> Result<(StoreId, Token), Problem> {
    if holds_token(&call.query) {
        return Err(Problem::TokenInUrl);
    }
    if !origin_allowed(site, &call.headers) {
        return Err(Problem::ForeignOrigin);
    }
    let store = self::store(&call.store)?;
    let token = token.and_then(Token::parse).ok_or(Problem::Unauthorized)?;
    Ok((store, token))
}

async fn look_up(site: &Site, store: StoreId, token: &Token) -> Result<(StoreId, Grant), Problem> {
    match token::look_up(&site.hub.token_pool, token)
        .await
        .map_err(Problem::database)?
    {
        Found::Valid(grant) if grant.opens(store.as_str()) => Ok((store, grant)),
        Found::Valid(_) => Err(Problem::OtherStore),
        Found::Unknown => Err(Problem::Unauthorized),
        Found::Expired => Err(Problem::NoLonger("token_expired")),
        Found::Revoked => Err(Problem::NoLonger("token_revoked")),
    }
}

/// The store that a path names.
pub fn store(text: &str) -> Result<StoreId, Problem> {
    let store = percent_decode_str(text).decode_utf8().map_err(|_| Problem::BadStore)?;
    if store.is_empty() || store.len() > MAX_STORE_BYTES || store.contains('\0') {
        return Err(Problem::BadStore);
    }
    Ok(StoreId::new(&store))
}

fn holds_token(query: &Query) -> bool {
    let named = |name: &str| matches!(name, "token" | "access_token" | "bearer" | "authorization");
    query
        .pairs()
        .any(|(key, value)| named(&key.to_ascii_lowercase()) || value.contains(TOKEN_PREFIX))
}

/// The token's text.
fn authorization(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn protocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    tokens(headers, header::SEC_WEBSOCKET_PROTOCOL)
}

/// The comma-separated words of a header.
fn tokens(headers: &HeaderMap, name: header::HeaderName) -> impl Iterator<Item = &str> {
    let values = headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

/// Whether the client offers our subprotocol; only then may the answer name it.
pub fn offers_our_protocol(headers: &HeaderMap) -> bool {
    protocols(headers).any(|protocol| protocol == PROTOCOL)
}

/// Whether the page that asks, if it is one, is ours or an allowed one.
pub fn origin_allowed(site: &Site, headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return true;
    };
    let Ok(origin) = origin.to_str() else { return false };
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok());
    let own = origin
        .split_once("://")
        .is_some_and(|(_, authority)| Some(authority) == host);
    own || site.allowed_origins.iter().any(|allowed| allowed == origin)
}

/// Checks the handshake, and what its answer accepts it with.
pub fn websocket_accept(headers: &HeaderMap) -> Result<String, Problem> {
    let says = |name, word: &str| tokens(headers, name).any(|token| token.eq_ignore_ascii_case(word));
    if !says(header::UPGRADE, "websocket") || !says(header::CONNECTION, "upgrade") {
        return Err(Problem::NotAnUpgrade);
    }
    let version = headers
        .get(header::SEC_WEBSOCKET_VERSION)
        .is_some_and(|version| version == "13");
    let key = headers.get(header::SEC_WEBSOCKET_KEY).map(|key| key.as_bytes());
    match key.filter(|key| version && STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 16)) {
        Some(key) => Ok(derive_accept_key(key)),
        None => Err(Problem::BadUpgrade),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_in_a_url_under_any_name() {
        for raw in [
            "token=abc",
            "after=x&access_token=abc",
            "Token=abc",
            "x=vst_abc",
            "x=%76st_abc",
        ] {
            assert!(holds_token(&Query::parse(raw)), "{raw}");
        }
        assert!(!holds_token(&Query::parse("after=AbC_-9&limit=5")));
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
