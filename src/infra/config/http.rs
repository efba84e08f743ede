//! The settings of the HTTP servers and sessions: which clients may connect, and how many.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use ipnet::IpNet;
use toml::Value;

use super::load::Reading;
use super::{Http, Ops, Session, Tls};

impl Reading {
    pub(super) fn http(&mut self) -> Http {
        let listen = |value: &Value| value.as_str()?.parse::<SocketAddr>().ok();
        let network = |text: &str| {
            text.parse()
                .ok()
                .or_else(|| text.parse().ok().map(<IpNet as From<IpAddr>>::from))
        };
        let http = Http {
            listen: self
                .get("http.listen", "an address and a port, such as 127.0.0.1:8000", listen)
                .unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0))),
            allowed_origins: self.list(
                "http.allowed_origins",
                "origins such as \"https://panel.example\" or \"tauri://localhost\", without a path; list each one: with a wildcard, a page \
                 that somebody else may put there could act with a partner's token",
                |text| is_origin(text).then(|| text.to_owned()),
            ),
            hosts: self.list(
                "http.hosts",
                "names such as \"orders.example\", with the port where it is not the usual one",
                |text| is_host(text).then(|| text.to_ascii_lowercase()),
            ),
            max_connections: self.number("http.max_connections", 1..=1_000_000) as usize,
            max_unauthenticated: self.number("http.max_unauthenticated", 1..=1_000_000) as usize,
            max_unauthenticated_per_address: self.number("http.max_unauthenticated_per_address", 1..=1_000_000)
                as usize,
            requests_per_address: self.number("http.requests_per_address", 1..=1_000_000) as u32,
            requests_per_token: self.number("http.requests_per_token", 1..=1_000_000) as u32,
            trusted_proxies: self.list(
                "http.trusted_proxies",
                "addresses or networks such as \"10.0.0.0/8\"",
                network,
            ),
            proxy_protocol: self.truth("http.proxy_protocol"),
        };
        if http.proxy_protocol && http.trusted_proxies.is_empty() {
            self.complain_of(
                "http.proxy_protocol",
                "only with http.trusted_proxies: whose header is believed",
            );
        }
        http
    }

    pub(super) fn ops(&mut self) -> Ops {
        let listen = |value: &Value| match value.as_str()? {
            "" | "off" => Some(None),
            address => address.parse::<SocketAddr>().ok().map(Some),
        };
        let allowed = "an address and a port, such as 127.0.0.1:8001, or \"off\"";
        Ops {
            listen: self.get("ops.listen", allowed, listen).flatten(),
            canary_interval: match self.number("ops.canary_interval_seconds", 0..=3600) {
                0 => None,
                seconds => Some(std::time::Duration::from_secs(seconds)),
            },
        }
    }

    pub(super) fn session(&mut self) -> Session {
        let max_per_store = self.number("session.max_per_store", 1..=1_000_000) as usize;
        Session {
            ping_interval: std::time::Duration::from_secs(self.number("session.ping_interval_seconds", 1..=300)),
            max_event_bytes: self.number("session.max_event_kib", 2..=1024 * 1024) as usize * 1024,
            send_queue_bytes: self.number("session.send_queue_kib", 16..=1024 * 1024) as usize * 1024,
            max_per_store,
            max_per_token: match self.number("session.max_per_token", 0..=1_000_000) as usize {
                0 => share_of_token(max_per_store),
                given => given,
            },
        }
    }

    /// Parses a list: an array in the settings file, or a comma-separated text in an environment variable.
    pub(super) fn list<T>(&mut self, name: &str, allowed: &str, read: impl Fn(&str) -> Option<T>) -> Vec<T> {
        let of = |value: &Value| match value {
            Value::Array(items) => items
                .iter()
                .map(|item| read(item.as_str()?))
                .collect::<Option<Vec<_>>>(),
            Value::String(list) => list.split(',').map(|item| read(item.trim())).collect(),
            _ => None,
        };
        self.get(name, allowed, of).unwrap_or_default()
    }

    pub(super) fn tls(&mut self) -> Option<Tls> {
        let (certificate, key) = (self.text("tls.certificate"), self.text("tls.key"));
        if certificate.is_empty() && key.is_empty() {
            return None;
        }
        for (name, path) in [("tls.certificate", &certificate), ("tls.key", &key)] {
            let problem = match std::fs::metadata(Path::new(path)) {
                _ if path.is_empty() => Some("needed as well: certificate and key go together".to_owned()),
                Ok(_) => None,
                Err(error) => Some(format!("a PEM file that can be read; this one: {error}")),
            };
            if let Some(allowed) = problem {
                self.complain_of(name, &allowed);
            }
        }
        Some(Tls {
            certificate: certificate.into(),
            key: key.into(),
        })
    }
}

/// The default of `max_per_token`: half of `max_per_store`, but all of `max_per_store` if that number is less than
/// four.
fn share_of_token(max_per_store: usize) -> usize {
    match max_per_store {
        few @ 0..4 => few,
        many => many / 2,
    }
}

/// The allowed schemes of origins. Web pages have `http` or `https`. Apps that are built from web pages have the other
/// schemes.
const ORIGIN_SCHEMES: [&str; 5] = ["http", "https", "tauri", "capacitor", "ionic"];

/// Whether a text has the form of a browser's Origin header: `scheme://host[:port]`.
fn is_origin(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, host)| {
        ORIGIN_SCHEMES.contains(&scheme) && !host.is_empty() && !host.contains(['/', '*'])
    })
}

/// Whether a text has the form of a Host header: a host, with or without a port.
fn is_host(text: &str) -> bool {
    !text.is_empty() && !text.contains(['/', '@', ' ', '*'])
}
