//! Builds successful responses. `error` builds the responses for errors.

use bytes::Bytes;
use futures::stream::poll_fn;
use serde_json::Value;
use tokio::sync::mpsc;
use warp::Reply as _;
use warp::http::header::{self, HeaderValue};
use warp::http::{Response as HttpResponse, StatusCode};
use warp::reply::Response;

/// The WebSocket subprotocol of Vestnik.
pub const PROTOCOL: &str = "vestnik.v1";

/// A response with plain text.
pub fn text(text: impl Into<String>) -> Response {
    let mut response = Response::new(text.into().into());
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// A response with a JSON body.
pub fn json(status: StatusCode, value: &Value) -> Response {
    json_text(status, value.to_string())
}

/// A response whose body is already encoded as JSON.
pub fn json_text(status: StatusCode, text: String) -> Response {
    let mut response = Response::new(text.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // The body may contain customers' data, so no cache may store it.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// A successful response without a body.
pub fn done() -> Response {
    let mut response = Response::new("".into());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// A response with Server-Sent Events. Each buffer from `body` is sent immediately. The response ends when the sender
/// of `body` is dropped.
pub fn event_stream(mut body: mpsc::Receiver<Bytes>) -> Response {
    let buffers = poll_fn(move |context| {
        body.poll_recv(context)
            .map(|buffer| buffer.map(Ok::<_, std::io::Error>))
    });
    let mut response = warp::reply::stream(buffers).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // The header stops the proxy nginx from buffering events.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// The response that upgrades a connection to a WebSocket. `accept` is the value of `Sec-WebSocket-Accept`. If `ours`
/// is `true`, the response confirms Vestnik's subprotocol.
pub fn switching_protocols(accept: &str, ours: bool) -> Response {
    let mut response = HttpResponse::new("".into());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(accept) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    if ours {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(PROTOCOL));
    }
    response
}
