//! Checks the address of a webhook. Vestnik sends requests to this address, so it must not lead into Vestnik's own
//! network. An address needs https and a public host, unless `webhook.allow_private` is set. An address must not
//! contain a user or password.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// The reason why a webhook's address is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The text is not an http or https URL.
    #[error("a webhook's address looks like https://example.com/hook")]
    NoUrl,
    /// The scheme is http, so others could read the unencrypted request on its way.
    #[error("a webhook's address begins with https:// (plain http needs webhook.allow_private)")]
    NotHttps,
    /// The address contains a user or password. Vestnik shows addresses in lists and logs, so an address must contain
    /// no secret.
    #[error("a webhook's address holds no user and password: the signature says who posts")]
    Credentials,
    /// The host is in a private network, or on this machine.
    #[error("a webhook's address is a public one (a private one needs webhook.allow_private)")]
    Private,
}

/// Checks a webhook's address, and returns the parsed URL. A host name is resolved later, for each request, and its
/// network addresses are checked then.
pub fn check(text: &str, allow_private: bool) -> Result<Url, Refused> {
    let url: Url = text.parse().map_err(|_| Refused::NoUrl)?;
    if !matches!(url.scheme(), "http" | "https") || text.contains(char::is_whitespace) {
        return Err(Refused::NoUrl);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Refused::Credentials);
    }
    if allow_private {
        return Ok(url);
    }
    if url.scheme() != "https" {
        return Err(Refused::NotHttps);
    }
    let host = url.host_str().unwrap_or_default();
    let literal: Option<IpAddr> = host.trim_start_matches('[').trim_end_matches(']').parse().ok();
    let is_local = host.eq_ignore_ascii_case("localhost") || host.to_ascii_lowercase().ends_with(".localhost");
    match literal {
        Some(address) if !is_public(address) => Err(Refused::Private),
        None if is_local => Err(Refused::Private),
        _ => Ok(url),
    }
}

/// Whether a network address is public. An address of a private network or of this machine is not public.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

/// Whether an IPv4 address is outside all ranges of IANA's registry of special addresses.
fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let is_special = a == 0
        || address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || a == 100 && (64..128).contains(&b)
        || (a, b, c) == (192, 0, 0)
        || (a, b, c) == (192, 88, 99)
        || a == 198 && (18..20).contains(&b)
        // The ranges for multicast, reserved addresses and broadcast.
        || a >= 224;
    !is_special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let parts = address.segments();
    let v4 = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match parts {
        // An IPv6 address that contains an IPv4 address (mapped, translated, 6to4) is as public as the IPv4 address.
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => is_public_v4(v4(high, low)),
        [0x2002, high, low, ..] => is_public_v4(v4(high, low)),
        // The ranges for documentation, benchmarks, Teredo and other special uses.
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => false,
        // Public addresses are in 2000::/3.
        [first, ..] => (0x2000..0x4000).contains(&first),
    }
}

/// A DNS resolver for the HTTP client. It removes network addresses that are not public from each result.
pub(super) struct PublicOnly;

/// The error for a host name that has no public network address.
#[derive(Debug, thiserror::Error)]
#[error("its name leads to a private address, which needs webhook.allow_private")]
struct LeadsInside;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let public: Vec<SocketAddr> = found.filter(|address| is_public(address.ip())).collect();
            if public.is_empty() {
                return Err(LeadsInside.into());
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_https_public_and_holds_no_password() {
        for (text, refused) in [
            ("https://example.com/hook?shop=7", None),
            ("https://example.com:8443/hook", None),
            ("https://93.184.216.34/", None),
            ("https://[2606:2800:220:1::1]/", None),
            ("http://example.com/hook", Some(Refused::NotHttps)),
            ("https://user:pw@example.com/", Some(Refused::Credentials)),
            ("https://user@example.com/", Some(Refused::Credentials)),
            ("https://x y", Some(Refused::NoUrl)),
            ("ftp://example.com/", Some(Refused::NoUrl)),
            ("example.com", Some(Refused::NoUrl)),
            ("", Some(Refused::NoUrl)),
            ("https://localhost/", Some(Refused::Private)),
            ("https://127.0.0.1/", Some(Refused::Private)),
            ("https://2130706433/", Some(Refused::Private)),
            ("https://0x7f.1/", Some(Refused::Private)),
            ("https://10.1.2.3/", Some(Refused::Private)),
            ("https://172.31.0.1/", Some(Refused::Private)),
            ("https://192.168.1.1/", Some(Refused::Private)),
            ("https://169.254.169.254/latest/meta-data", Some(Refused::Private)),
            ("https://100.64.0.1/", Some(Refused::Private)),
            ("https://0.0.0.0/", Some(Refused::Private)),
            ("https://224.0.0.1/", Some(Refused::Private)),
            ("https://[::1]/", Some(Refused::Private)),
            ("https://[::]/", Some(Refused::Private)),
            ("https://[fe80::1]/", Some(Refused::Private)),
            ("https://[fd00::1]/", Some(Refused::Private)),
            ("https://[::ffff:10.0.0.1]/", Some(Refused::Private)),
            ("https://[64:ff9b::a00:1]/", Some(Refused::Private)),
            ("https://[2002:a00:1::]/", Some(Refused::Private)),
        ] {
            assert_eq!(check(text, false).err(), refused, "{text}");
        }
        assert!(check("http://10.0.0.1:8080/hook", true).is_ok());
        assert_eq!(check("http://u:p@10.0.0.1/", true).err(), Some(Refused::Credentials));
    }

    #[tokio::test]
    async fn a_name_that_leads_inside_leads_nowhere() {
        let found = PublicOnly.resolve("localhost".parse().unwrap()).await;
        assert!(found.is_err_and(|error| error.to_string().contains("private address")));
    }
}
