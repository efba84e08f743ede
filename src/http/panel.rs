//! Serves the files of the panel's web page. `build.rs` builds them, and the program embeds them. They contain no
//! store's data, so they need no token.

use std::sync::Arc;

use percent_encoding::percent_decode_str;
use rust_embed::{EmbeddedFile, RustEmbed};
use warp::http::header::{self, HeaderMap, HeaderValue};
use warp::http::{HeaderName, StatusCode};
use warp::reply::Response;

use super::Databases;
use super::error::ApiError;
use super::request::ApiRequest;

#[derive(RustEmbed)]
#[folder = "$OUT_DIR/panel/"]
struct Files;

/// The compressed forms in which a text file may exist, the smallest first. Each pair is the name of the encoding in
/// HTTP, and the suffix of the compressed file.
const CODINGS: [(&str, &str); 2] = [("br", ".br"), ("gzip", ".gz")];

/// The content security policy. It allows files of this origin, images as `data:` and `blob:`, sounds as `blob:`, and
/// no inline script. The hosts of `connect-src` are added for each request.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; \
     manifest-src 'self'; worker-src 'self'; media-src 'self' blob:; font-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'; connect-src ";

/// The endings of some file names. A browser may open a file with such a name as a page, or run it as a worker. Only
/// these files get the security headers.
const RULED: [&str; 3] = [".html", ".svg", "sw.js"];

/// The name of the header `Cross-Origin-Opener-Policy`. It separates the panel's window from windows of other origins,
/// so that their scripts cannot access the panel.
const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");
/// The value of the header `Permissions-Policy`. `()` forbids a device feature, and `(self)` allows it. The panel
/// prints over USB or a serial port, and needs none of the forbidden features.
const PERMISSIONS: &str = "accelerometer=(), browsing-topics=(), camera=(), display-capture=(), geolocation=(), gyroscope=(), hid=(), \
     magnetometer=(), microphone=(), midi=(), payment=(), publickey-credentials-get=(), serial=(self), usb=(self), xr-spatial-tracking=()";

/// Serves the panel's page.
pub async fn page(_: Arc<Databases>, call: ApiRequest) -> Result<Response, ApiError> {
    file("index.html", &call.headers)
}

/// Serves the service worker. Its path is `/sw.js`, because a service worker controls only paths in its own folder
/// and below.
pub async fn worker(_: Arc<Databases>, call: ApiRequest) -> Result<Response, ApiError> {
    file("sw.js", &call.headers)
}

/// Serves the web app manifest.
pub async fn manifest(_: Arc<Databases>, call: ApiRequest) -> Result<Response, ApiError> {
    file("manifest.webmanifest", &call.headers)
}

/// Serves any file of the panel by its name.
pub async fn any(_: Arc<Databases>, call: ApiRequest) -> Result<Response, ApiError> {
    match percent_decode_str(&call.id).decode_utf8() {
        Ok(name) => file(&name, &call.headers),
        Err(_) => Err(ApiError::NotFound),
    }
}

fn file(name: &str, headers: &HeaderMap) -> Result<Response, ApiError> {
    if CODINGS.iter().any(|(_, end)| name.ends_with(end)) {
        return Err(ApiError::NotFound);
    }
    let plain = Files::get(name).ok_or(ApiError::NotFound)?;
    let kind = with_charset(plain.metadata.mimetype());
    let is_text = Files::get(&format!("{name}.gz")).is_some();
    let coded = CODINGS
        .iter()
        .filter(|(coding, _)| takes(headers, coding))
        .find_map(|(coding, end)| Some((*coding, Files::get(&format!("{name}{end}"))?)));
    let (coding, file) = coded.map_or((None, plain), |(coding, file)| (Some(coding), file));
    let tag = tag(&file);
    let known = headers.get_all(header::IF_NONE_MATCH).iter();
    let is_known = known
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|value| value.trim())
        .any(|value| value == "*" || value.strip_prefix("W/").unwrap_or(value) == tag);
    let mut response = if is_known {
        let mut response = Response::new("".into());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        let mut response = Response::new(file.data.into_owned().into());
        set(&mut response, header::CONTENT_TYPE, &kind);
        if let Some(coding) = coding {
            set(&mut response, header::CONTENT_ENCODING, coding);
        }
        response
    };
    if is_text {
        set(&mut response, header::VARY, "accept-encoding");
    }
    set(&mut response, header::ETAG, &tag);
    // The browser checks at each load whether the file has changed, so that a panel never runs older files than its
    // server has.
    set(&mut response, header::CACHE_CONTROL, "no-cache");
    set(&mut response, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(&mut response, header::REFERRER_POLICY, "no-referrer");
    // Only the files with an ending in `RULED` need these headers. The other files are smaller on the wire without them.
    if RULED.iter().any(|end| name.ends_with(end)) {
        set(&mut response, header::CONTENT_SECURITY_POLICY, &policy(headers));
        set(&mut response, OPENER_POLICY, "same-origin");
        set(&mut response, PERMISSIONS_POLICY, PERMISSIONS);
    }
    Ok(response)
}

fn set(response: &mut Response, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// Whether the client accepts a body in this encoding.
fn takes(headers: &HeaderMap, coding: &str) -> bool {
    let accepted = headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|accepted| {
        let mut parts = accepted.split(';').map(str::trim);
        let is_it = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(coding));
        let weight = parts.find_map(|part| part.strip_prefix("q="));
        is_it && weight.is_none_or(|weight| weight.parse::<f32>().is_ok_and(|weight| weight > 0.0))
    })
}

fn tag(file: &EmbeddedFile) -> String {
    let hash = file.metadata.sha256_hash();
    let hex: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("\"{hex}\"")
}

fn with_charset(mime: &str) -> String {
    let is_text = mime.starts_with("text/") || mime.ends_with("json") || mime.ends_with("javascript");
    if is_text {
        format!("{mime}; charset=utf-8")
    } else {
        mime.to_owned()
    }
}

/// The content security policy of the panel's page. It names the host, because older browsers do not apply `'self'` to
/// WebSockets. Only a well-formed host is inserted, because the client chooses the header `Host`.
fn policy(headers: &HeaderMap) -> String {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    match host.filter(|host| is_host(host)) {
        Some(host) => format!("{POLICY}'self' ws://{host} wss://{host}"),
        None => format!("{POLICY}'self'"),
    }
}

/// Whether the text is a host name or an IP address, with or without a port. No such text contains a character with a
/// special meaning in a content security policy.
fn is_host(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        // The colons of an IPv6 address are inside its brackets.
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    };
    let is_port = port.is_none_or(|port| port.parse::<u16>().is_ok() && port.bytes().all(|byte| byte.is_ascii_digit()));
    let is_name = match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !name.is_empty()
                && name.len() <= 253
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'))
        }
    };
    is_port && is_name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_host_is_repeated_in_the_policy() {
        for host in [
            "localhost",
            "127.0.0.1:8000",
            "[::1]:8000",
            "[::1]",
            "orders.example:443",
        ] {
            assert!(is_host(host), "{host}");
        }
        for host in [
            "",
            ":80",
            "a b",
            "a;script-src *",
            "*",
            "a:",
            "a:x",
            "a:99999",
            "a:+80",
            "a:80:80",
            "[x]",
            "[::1",
            "::1",
            "é",
            "a/b",
            "u@h",
        ] {
            assert!(!is_host(host), "{host}");
        }
    }
}
