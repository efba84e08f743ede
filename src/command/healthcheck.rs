//! `vestnik healthcheck`: checks whether the server on this machine is ready. Container platforms run this command.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::infra::config::Config;
use anyhow::{Context as _, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Time limit of the whole request.
const DEADLINE: Duration = Duration::from_secs(3);
/// Maximum number of bytes of the response that are read.
const ANSWER_BYTES: u64 = 16 * 1024;

/// Runs `vestnik healthcheck`. An error contains the reason why the server is not ready.
pub async fn run(config: &Config) -> anyhow::Result<()> {
    let listen = config.ops.listen;
    let address =
        local(listen.context("ops.listen is off, so the server has no address that reports whether it is ready")?);
    let answer = timeout(DEADLINE, ask(address))
        .await
        .with_context(|| format!("{address} did not answer within {} s", DEADLINE.as_secs()))?
        .with_context(|| format!("cannot connect to {address} (ops.listen)"))?;
    let ready = answer.starts_with("HTTP/1.1 200");
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).trim();
    if !ready {
        bail!("not ready: {body}");
    }
    super::say!("{body}");
    Ok(())
}

/// Returns the address at which a process on this machine reaches the server. This is the loopback address if the
/// server listens on all addresses.
fn local(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

async fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut socket = TcpStream::connect(address).await?;
    let request = "GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    socket.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    socket.take(ANSWER_BYTES).read_to_string(&mut answer).await?;
    Ok(answer)
}
