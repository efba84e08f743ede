//! Finds the address of a connection's client: the peer of the socket, or the client address that a trusted proxy
//! forwards.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use warp::http::HeaderMap;

/// Length of the fixed part of a PROXY header of version 2, in bytes. The addresses follow this part.
const PROXY_HEAD_BYTES: usize = 16;
/// Maximum length of the variable part of a PROXY header, in bytes. This part has the addresses, and optional values of
/// the proxy.
const MAX_PROXY_BYTES: usize = 4096;
const FORWARDED_FOR: &str = "x-forwarded-for";

/// The proxies whose forwarded client addresses are trusted.
#[derive(Debug, Clone, Default)]
pub struct Proxies {
    /// The addresses and networks of the trusted proxies.
    pub trusted: Vec<IpNet>,
    /// Whether each connection of a trusted proxy begins with a PROXY header of version 2.
    pub send_header: bool,
}

/// The reason why the PROXY header of a trusted proxy's connection could not be read.
#[derive(Debug, thiserror::Error)]
pub enum NoHeader {
    /// The socket failed, or ended before the header was complete.
    #[error("the PROXY header cannot be read: {0}")]
    Socket(#[from] std::io::Error),
    /// The connection does not begin with a PROXY header of version 2.
    #[error("no PROXY header of version 2 (http.proxy_protocol is on)")]
    Unreadable,
}

impl Proxies {
    /// Whether the address belongs to a trusted proxy.
    pub fn trust(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted.iter().any(|network| network.contains(&address))
    }

    /// The address of a request's client. Each proxy appends the address of its own client to `X-Forwarded-For`. So
    /// the client is the last address that does not belong to a trusted proxy. A client can forge all earlier
    /// addresses.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer;
        let values = headers.get_all(FORWARDED_FOR).into_iter().rev();
        let mut hops = values.flat_map(|value| value.to_str().unwrap_or_default().rsplit(','));
        while self.trust(client) {
            match hops.next().and_then(address) {
                Some(before) => client = before,
                None => break,
            }
        }
        client.to_canonical()
    }
}

/// Parses an address, with or without a port.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    bare.unwrap_or(text).parse().ok().or_else(with_port)
}

/// Reads the PROXY header at the start of a connection. Returns the client's address. `None`: the proxy connects for
/// itself, for example for a health check.
pub async fn read_proxy_header(socket: &mut (impl AsyncRead + Unpin)) -> Result<Option<IpAddr>, NoHeader> {
    let mut header = vec![0; PROXY_HEAD_BYTES];
    socket.read_exact(&mut header).await?;
    let rest = usize::from(u16::from_be_bytes([header[14], header[15]]));
    if !header.starts_with(ppp::v2::PROTOCOL_PREFIX) || rest > MAX_PROXY_BYTES {
        return Err(NoHeader::Unreadable);
    }
    header.resize(PROXY_HEAD_BYTES + rest, 0);
    socket.read_exact(&mut header[PROXY_HEAD_BYTES..]).await?;
    let header = ppp::v2::Header::try_from(header.as_slice()).map_err(|_| NoHeader::Unreadable)?;
    Ok(match (header.command, header.addresses) {
        (ppp::v2::Command::Proxy, ppp::v2::Addresses::IPv4(of)) => Some(of.source_address.into()),
        (ppp::v2::Command::Proxy, ppp::v2::Addresses::IPv6(of)) => Some(IpAddr::from(of.source_address).to_canonical()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(trusted: &[&str]) -> Proxies {
        Proxies {
            trusted: trusted.iter().map(|network| network.parse().unwrap()).collect(),
            send_header: false,
        }
    }

    fn client(proxies: &Proxies, peer: &str, forwarded: &[&'static str]) -> String {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append(FORWARDED_FOR, value.parse().unwrap());
        }
        proxies.client(peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn only_a_trusted_proxy_is_believed_whom_it_speaks_for() {
        let none = proxies(&[]);
        assert_eq!(client(&none, "192.0.2.1", &["198.51.100.7"]), "192.0.2.1");
        let some = proxies(&["10.0.0.0/8", "2001:db8::/32"]);
        assert_eq!(client(&some, "192.0.2.1", &["198.51.100.7"]), "192.0.2.1");
        assert_eq!(client(&some, "10.1.2.3", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(client(&some, "::ffff:10.1.2.3", &["198.51.100.7:4711"]), "198.51.100.7");
        assert_eq!(client(&some, "2001:db8::1", &["[2001:db9::7]:443"]), "2001:db9::7");
    }

    #[test]
    fn what_the_client_wrote_itself_is_not_believed() {
        let some = proxies(&["10.0.0.0/8"]);
        let spoofed = ["1.2.3.4, 198.51.100.7, 10.9.9.9"];
        assert_eq!(client(&some, "10.1.2.3", &spoofed), "198.51.100.7");
        assert_eq!(client(&some, "10.1.2.3", &["1.2.3.4", "198.51.100.7"]), "198.51.100.7");
        assert_eq!(client(&some, "10.1.2.3", &["1.2.3.4, nonsense"]), "10.1.2.3");
        assert_eq!(client(&some, "10.1.2.3", &[]), "10.1.2.3");
        assert_eq!(client(&some, "10.1.2.3", &["10.0.0.1, 10.0.0.2"]), "10.0.0.1");
    }

    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut header = ppp::v2::PROTOCOL_PREFIX.to_vec();
        header.extend([command, family]);
        header.extend((rest.len() as u16).to_be_bytes());
        header.extend(rest);
        header
    }

    #[tokio::test]
    async fn a_proxy_header_says_from_where_and_takes_nothing_of_what_follows() {
        let rest = [198, 51, 100, 7, 192, 0, 2, 1, 0x12, 0x67, 0x01, 0xbb];
        let mut stream = header(0x21, 0x11, &rest);
        stream.extend(b"GET /");
        let mut stream = stream.as_slice();
        let source = read_proxy_header(&mut stream).await.unwrap();
        assert_eq!(source.unwrap().to_string(), "198.51.100.7");
        assert_eq!(stream, b"GET /");
        // The proxy connects on its own behalf, for a health check.
        let local = header(0x20, 0x00, &[]);
        assert_eq!(read_proxy_header(&mut local.as_slice()).await.unwrap(), None);
        let wrong = [
            &header(0x21, 0x11, &[0; 3])[..],
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            &header(0x31, 0x11, &rest),
        ];
        for mut wrong in wrong {
            assert!(matches!(read_proxy_header(&mut wrong).await, Err(NoHeader::Unreadable)));
        }
    }
}
