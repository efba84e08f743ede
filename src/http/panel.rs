//! The panel's own files, embedded in the program. They say nothing of any store, so they need no token.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use percent_encoding::percent_decode_str;
use rust_embed::{EmbeddedFile, RustEmbed};
use warp::http::header::{self, HeaderMap, HeaderValue};
use warp::http::{HeaderName, StatusCode};
use warp::reply::Response;

use super::Sites;
use super::asked::Call;
use super::problem::Problem;

#[derive(RustEmbed)]
#[folder = "panel/"]
struct Files;

/// Everything comes from here, and nothing that was not written into a file runs; `connect-src` stands apart.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; \
     manifest-src 'self'; worker-src 'self'; media-src 'self' blob:; font-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'; connect-src ";

/// No page that opened this one, or was opened by it, can reach into it.
const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");
/// A panel makes sounds, keeps its screen on and fills it; it wants nothing else of its device.
const PERMISSIONS: &str = "accelerometer=(), browsing-topics=(), camera=(), display-capture=(), geolocation=(), gyroscope=(), hid=(), \
     magnetometer=(), microphone=(), midi=(), payment=(), publickey-credentials-get=(), serial=(), usb=(), xr-spatial-tracking=()";

/// The page.
pub async fn page(_: Arc<Sites>, call: Call) -> Result<Response, Problem> {
    file("index.html", &call.headers)
}

/// The service worker: it may only serve what stands below its own address.
pub async fn worker(_: Arc<Sites>, call: Call) -> Result<Response, Problem> {
    file("sw.js", &call.headers)
}

/// What makes the page an app.
pub async fn manifest(_: Arc<Sites>, call: Call) -> Result<Response, Problem> {
    file("manifest.webmanifest", &call.headers)
}

/// Any of its files.
pub async fn any(_: Arc<Sites>, call: Call) -> Result<Response, Problem> {
    match percent_decode_str(&call.id).decode_utf8() {
        Ok(name) => file(&name, &call.headers),
        Err(_) => Err(Problem::NotFound),
    }
}

fn file(name: &str, asked: &HeaderMap) -> Result<Response, Problem> {
    let file = Files::get(name).ok_or(Problem::NotFound)?;
    let kind = with_charset(file.metadata.mimetype());
    let is_text = kind.ends_with("charset=utf-8");
    let compressed = (is_text && takes_gzip(asked)).then(|| compressed(&file));
    let tag = tag(&file, if compressed.is_some() { "-gzip" } else { "" });
    let known = asked.get_all(header::IF_NONE_MATCH).iter();
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
        let is_compressed = compressed.is_some();
        let body = compressed.unwrap_or_else(|| file.data.into_owned().into());
        let mut response = Response::new(body.into());
        set(&mut response, header::CONTENT_TYPE, &kind);
        if is_compressed {
            set(&mut response, header::CONTENT_ENCODING, "gzip");
        }
        response
    };
    if is_text {
        set(&mut response, header::VARY, "accept-encoding");
    }
    set(&mut response, header::ETAG, &tag);
    // Asked for again each time, and sent again only when it has changed: a panel is never older than its server.
    set(&mut response, header::CACHE_CONTROL, "no-cache");
    set(&mut response, header::CONTENT_SECURITY_POLICY, &policy(asked));
    set(&mut response, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(&mut response, header::REFERRER_POLICY, "no-referrer");
    set(&mut response, OPENER_POLICY, "same-origin");
    set(&mut response, PERMISSIONS_POLICY, PERMISSIONS);
    Ok(response)
}

fn set(response: &mut Response, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// Whether the client takes a body that is compressed with gzip.
fn takes_gzip(asked: &HeaderMap) -> bool {
    let accepted = asked.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let is_gzip = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        let weight = parts.find_map(|part| part.strip_prefix("q="));
        is_gzip && weight.is_none_or(|weight| weight.parse::<f32>().is_ok_and(|weight| weight > 0.0))
    })
}

/// A text, compressed: once for each, for the program's life.
fn compressed(file: &EmbeddedFile) -> Bytes {
    static COMPRESSED: LazyLock<Mutex<HashMap<[u8; 32], Bytes>>> = LazyLock::new(Mutex::default);
    let mut compressed = COMPRESSED.lock().unwrap_or_else(PoisonError::into_inner);
    let body = compressed.entry(file.metadata.sha256_hash()).or_insert_with(|| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        // Writing to a Vec cannot fail.
        let _ = encoder.write_all(&file.data);
        encoder.finish().unwrap_or_default().into()
    });
    body.clone()
}

/// `coding`: what is appended for a body that is compressed, which is another one.
fn tag(file: &EmbeddedFile, coding: &str) -> String {
    let hash = file.metadata.sha256_hash();
    let hex: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("\"{hex}{coding}\"")
}

fn with_charset(mime: &str) -> String {
    let is_text = mime.starts_with("text/") || mime.ends_with("json") || mime.ends_with("javascript");
    if is_text {
        format!("{mime}; charset=utf-8")
    } else {
        mime.to_owned()
    }
}

/// Browsers older than the rule that 'self' covers WebSockets want them named. The host is what the client says it is,
/// so only one that can be nothing but a host is repeated.
fn policy(asked: &HeaderMap) -> String {
    let host = asked.get(header::HOST).and_then(|host| host.to_str().ok());
    match host.filter(|host| is_host(host)) {
        Some(host) => format!("{POLICY}'self' ws://{host} wss://{host}"),
        None => format!("{POLICY}'self'"),
    }
}

/// A name or address with or without a port, in characters that mean nothing in a policy.
fn is_host(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        // The colons of an address are within brackets.
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
