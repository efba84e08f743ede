//! Rules for every request: which hosts a request may name, and which web pages may send requests.

use std::net::IpAddr;
use std::sync::Arc;

use warp::http::header::{self, HeaderMap, HeaderValue};
use warp::reply::Response;

use super::server::Proxies;
use crate::infra::config;

/// The value of the header `Strict-Transport-Security` (HSTS). After a visit, the browser uses only TLS for this
/// server, for one year.
const HSTS: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// Response headers that a web page of another origin may read.
const EXPOSED: HeaderValue = HeaderValue::from_static("retry-after, allow, www-authenticate, idempotent-replayed");
/// Time for which a browser may cache the response to a CORS preflight, in seconds. Browsers cache it for at most two
/// hours.
const PREFLIGHT_MAX_AGE: HeaderValue = HeaderValue::from_static("7200");

/// The host and origin rules of a node.
pub struct Rules {
    allowed_origins: Vec<String>,
    hosts: Vec<String>,
    is_secure: bool,
    proxies: Arc<Proxies>,
}

impl Rules {
    /// Takes the rules from the settings. `is_secure` means that the server uses TLS.
    pub fn new(http: &config::Http, is_secure: bool, proxies: Arc<Proxies>) -> Self {
        Self {
            allowed_origins: http.allowed_origins.clone(),
            hosts: http.hosts.clone(),
            is_secure,
            proxies,
        }
    }

    /// The address of the request's client. If the request came through trusted proxies, this is the address that they
    /// forwarded.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        self.proxies.client(peer, headers)
    }

    /// Whether the header `Host` names an allowed host. Without this rule, an attacker could make the host name of the
    /// attacker's page resolve to this node (DNS rebinding). The page's origin would then match the header `Host`, and
    /// the request would be allowed.
    pub fn allow_host(&self, headers: &HeaderMap) -> bool {
        let host = host(headers).map(str::to_ascii_lowercase);
        self.hosts.is_empty() || host.is_some_and(|host| self.hosts.contains(&host))
    }

    /// Whether the origin of the request is allowed: it is a configured origin, or its host is the host in the header
    /// `Host`. A request without an origin is allowed, because no web page sends it.
    pub fn allow_origin(&self, headers: &HeaderMap) -> bool {
        let Some(origin) = headers.get(header::ORIGIN) else {
            return true;
        };
        let Ok(origin) = origin.to_str() else { return false };
        let own = origin.split_once("://").is_some_and(|(scheme, authority)| {
            let scheme_fits = scheme == "https" || scheme == "http" && !self.is_secure;
            scheme_fits && Some(authority) == host(headers)
        });
        own || self.allowed_origins.iter().any(|allowed| allowed == origin)
    }

    /// Adds the HSTS header, and the CORS headers with which a page of an allowed origin can read the response. `asked`
    /// are the headers of the request. If `any_origin` is `true`, a page of any origin can read the response.
    pub fn add_headers(&self, response: &mut Response, asked: &HeaderMap, any_origin: bool) {
        if self.is_secure {
            response.headers_mut().insert(header::STRICT_TRANSPORT_SECURITY, HSTS);
        }
        let is_allowed = any_origin || self.allow_origin(asked);
        let Some(origin) = asked.get(header::ORIGIN).filter(|_| is_allowed) else {
            return;
        };
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(header::VARY, HeaderValue::from_static("Origin"));
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_METHODS,
            HeaderValue::from_static("GET, POST, PUT, DELETE"),
        );
        let allowed = HeaderValue::from_static("authorization, content-type, idempotency-key, last-event-id");
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_MAX_AGE);
    }
}

fn host(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::HOST)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(hosts: &[&str], is_secure: bool) -> Rules {
        let mut http = config::Config::default().http;
        http.hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
        http.allowed_origins = vec!["https://panel.example".into()];
        Rules::new(&http, is_secure, Arc::default())
    }

    fn headers(host: &'static str, origin: Option<&'static str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static(host));
        headers.extend(origin.map(|origin| (header::ORIGIN, HeaderValue::from_static(origin))));
        headers
    }

    #[test]
    fn a_page_is_ours_by_its_host_and_with_tls_by_its_scheme() {
        let plain = rules(&[], false);
        assert!(plain.allow_origin(&headers("orders.example", None)));
        assert!(plain.allow_origin(&headers("orders.example", Some("http://orders.example"))));
        // A proxy in front of the node may terminate TLS. Then the origin has the scheme https, although the node has
        // no TLS.
        assert!(plain.allow_origin(&headers("orders.example", Some("https://orders.example"))));
        assert!(plain.allow_origin(&headers("orders.example", Some("https://panel.example"))));
        for foreign in [
            "https://evil.example",
            "null",
            "file://",
            "ftp://orders.example",
            "orders.example",
        ] {
            assert!(
                !plain.allow_origin(&headers("orders.example", Some(foreign))),
                "{foreign}"
            );
        }
        let secure = rules(&[], true);
        assert!(secure.allow_origin(&headers("orders.example", Some("https://orders.example"))));
        assert!(!secure.allow_origin(&headers("orders.example", Some("http://orders.example"))));
    }

    #[test]
    fn a_name_that_is_not_ours_is_refused_where_ours_are_listed() {
        assert!(rules(&[], false).allow_host(&headers("anything.example", None)));
        let listed = rules(&["orders.example:8000"], false);
        assert!(listed.allow_host(&headers("Orders.Example:8000", None)));
        assert!(!listed.allow_host(&headers("rebound.example:8000", None)));
        assert!(!listed.allow_host(&HeaderMap::new()));
    }
}
