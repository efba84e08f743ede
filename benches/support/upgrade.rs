//! The HTTP request with which a client opens a WebSocket.

/// The text of the request for the stream of a store.
pub fn upgrade(store: usize, token: &str, after: &str) -> String {
    format!(
        "GET /api/partner/ws/partner/{store}{after} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n\
         Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
}
