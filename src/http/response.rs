//! The shapes of answers; `problem` has those that say no.

use bytes::Bytes;
use futures::stream::poll_fn;
use serde_json::Value;
use tokio::sync::mpsc;
use warp::Reply as _;
use warp::http::header::{self, HeaderValue};
use warp::http::{Response as HttpResponse, StatusCode};
use warp::reply::Response;

use super::auth;

/// Plain text.
pub fn text(text: impl Into<String>) -> Response {
    let mut response = Response::new(text.into().into());
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// JSON.
pub fn json(status: StatusCode, value: &Value) -> Response {
    json_text(status, value.to_string())
}

/// JSON that is text already.
pub fn json_text(status: StatusCode, text: String) -> Response {
    let mut response = Response::new(text.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // Events are customers' data: no cache on the way may keep them.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Nothing to say but that it is done.
pub fn done() -> Response {
    let mut response = Response::new("".into());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// A stream of Server-Sent Events.
pub fn event_stream(mut body: mpsc::Receiver<Bytes>) -> Response {
    let buffers = poll_fn(move |context| {
        body.poll_recv(context)
            .map(|buffer| buffer.map(Ok::<_, std::io::Error>))
    });
    let mut response = warp::reply::stream(buffers).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // nginx would gather the stream otherwise.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// The answer that makes a connection a WebSocket.
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
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(auth::PROTOCOL));
    }
    response
}
