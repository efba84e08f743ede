//! Who may open what: the token, the store, the origin of the page. A token comes in a header only, for what is in a
//! URL is in every log on the way.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use warp::http::header::{self, HeaderMap};

use super::answer::Problem;
use super::{Asked, Site};
use crate::event::StoreId;
use crate::token::{self, Found, Grant, Token};

/// The subprotocol that this program speaks.
pub const PROTOCOL: &str = "vestnik.v1";
/// What a browser, which can set no header on a WebSocket, puts before its token.
const BEARER_PROTOCOL: &str = "bearer.";
/// Bytes of a store's id at most.
const MAX_STORE_BYTES: usize = 200;
/// What a token begins with, wherever it is.
const TOKEN_PREFIX: &str = "vst_";

/// The parameters of a URL.
#[derive(Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// From the text behind the question mark.
    pub fn parse(raw: &str) -> Self {
        let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let pairs = raw.split('&').filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                .map(|(k, v)| (decode(k), decode(v)))
                .collect(),
        )
    }

    /// The first parameter of this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    fn holds_token(&self) -> bool {
        let named = |name: &str| matches!(name, "token" | "access_token" | "bearer" | "authorization");
        self.0
            .iter()
            .any(|(key, value)| named(&key.to_ascii_lowercase()) || value.contains(TOKEN_PREFIX))
    }
}

/// The store, if this request's token opens it.
pub async fn open(site: &Site, store: &str, asked: &Asked) -> Result<(StoreId, Grant), Problem> {
    let (store, token) = asked_for(site, store, asked)?;
    look_up(site, &store, &token).await
}

/// The same for a session, which is let in when it is its turn: after a restart all of them come at once.
pub async fn open_session(site: &Site, store: &str, asked: &Asked) -> Result<(StoreId, Grant), Problem> {
    let (store, token) = asked_for(site, store, asked)?;
    let let_in = site.hub.router.rush().let_in().await;
    let_in.map_err(|_| Problem::NotReady)?;
    look_up(site, &store, &token).await
}

/// What the request asks for, and with which token.
fn asked_for(site: &Site, store: &str, asked: &Asked) -> Result<(String, Token), Problem> {
    if asked.query.holds_token() {
        return Err(Problem::TokenInUrl);
    }
    if !origin_allowed(site, &asked.headers) {
        return Err(Problem::ForeignOrigin);
    }
    let store = percent_decode_str(store).decode_utf8().map_err(|_| Problem::BadStore)?;
    if store.is_empty() || store.len() > MAX_STORE_BYTES {
        return Err(Problem::BadStore);
    }
    let token = bearer(&asked.headers)
        .and_then(Token::parse)
        .ok_or(Problem::Unauthorized)?;
    Ok((store.into_owned(), token))
}

async fn look_up(site: &Site, store: &str, token: &Token) -> Result<(StoreId, Grant), Problem> {
    match token::look_up(&site.hub.pool, token).await.map_err(Problem::database)? {
        Found::Valid(grant) if grant.opens(store) => Ok((StoreId::new(store), grant)),
        Found::Valid(_) => Err(Problem::OtherStore),
        Found::Unknown => Err(Problem::Unauthorized),
        Found::Expired => Err(Problem::NoLonger("token_expired")),
        Found::Revoked => Err(Problem::NoLonger("token_revoked")),
    }
}

/// The token's text, from the header or, for browsers, from a subprotocol.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let header = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    match header {
        Some(value) => {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        }
        None => protocols(headers).find_map(|protocol| protocol.strip_prefix(BEARER_PROTOCOL)),
    }
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
            assert!(Query::parse(raw).holds_token(), "{raw}");
        }
        assert!(!Query::parse("after=AbC_-9&limit=5").holds_token());
    }

    #[test]
    fn a_browser_sends_its_token_as_a_subprotocol() {
        let mut headers = HeaderMap::new();
        headers.insert(
            header::SEC_WEBSOCKET_PROTOCOL,
            "vestnik.v1, bearer.vst_x".parse().unwrap(),
        );
        assert_eq!(bearer(&headers), Some("vst_x"));
        assert!(offers_our_protocol(&headers));
        headers.insert(header::AUTHORIZATION, "bearer vst_y".parse().unwrap());
        assert_eq!(bearer(&headers), Some("vst_y"));
    }
}
