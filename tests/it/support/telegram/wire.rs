//! The sockets of the fake Bot API: HTTP over loopback.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::rules::{Answer, Reply};
use super::{Call, Shared};
use crate::support::app::PATIENCE;

/// The longest time that a long poll stays open, even if its request allows a longer time.
const LONGEST_POLL: Duration = Duration::from_secs(50);

/// A response body that is sent as one frame.
struct Whole(Option<Bytes>);

impl Body for Whole {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        std::task::Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, Bytes::len) as u64)
    }
}

/// The error that makes hyper close the connection without a response.
#[derive(Debug, thiserror::Error)]
#[error("the connection is reset on purpose")]
struct Reset;

/// Accepts connections until the process ends. `door` is the label of this address in [`Call::door`].
pub async fn serve(listener: TcpListener, shared: Arc<Shared>, door: &'static str) {
    while let Ok((socket, _)) = listener.accept().await {
        // With a linger of zero, closing this socket resets the connection, as a server that crashes would.
        socket.set_zero_linger().unwrap();
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let service = service_fn(|request| exchange(Arc::clone(&shared), door, request));
            let _ = Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(socket), service)
                .await;
        });
    }
}

async fn exchange(
    shared: Arc<Shared>,
    door: &'static str,
    request: Request<Incoming>,
) -> Result<Response<Whole>, Reset> {
    let path = request.uri().path().to_owned();
    let body = read(request.into_body()).await.map_err(|_| Reset)?;
    let parts = path.strip_prefix("/bot").and_then(|rest| rest.split_once('/'));
    let Some((token, method)) = parts else {
        return Ok(answer(&Answer::error(404, "Not Found")));
    };
    let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    // teloxide calls the method `GetMe`, but Telegram's documentation calls it `getMe`. The fake uses the name from the
    // documentation.
    let method = method[..1].to_lowercase() + &method[1..];
    let reply = if method == "getUpdates" {
        poll(&shared, token, &body).await
    } else {
        shared.call(token, Call::new(door, method, body))
    };
    match reply {
        Reply::Answer(said) => Ok(answer(&said)),
        Reply::Text(status, text) => Ok(response(status, text.into())),
        Reply::Reset => Err(Reset),
        Reply::Silence => std::future::pending().await,
        Reply::Held(said, mut may_go) => {
            let held = tokio::time::timeout(PATIENCE, may_go.wait_for(|may_go| *may_go)).await;
            held.expect("the test lets the answer go").map_err(|_| Reset)?;
            Ok(answer(&said))
        }
    }
}

/// Handles a long poll: waits for updates, or returns 409 if a later poll has begun.
async fn poll(shared: &Shared, token: &str, body: &Value) -> Reply {
    let (turn, mut changed) = shared.begin_poll();
    let seconds = body["timeout"].as_u64().unwrap_or(0);
    let until = tokio::time::Instant::now() + Duration::from_secs(seconds).min(LONGEST_POLL);
    loop {
        changed.borrow_and_update();
        if let Some(reply) = shared.look_for_updates(token, turn, body) {
            return reply;
        }
        let waited = tokio::time::timeout_at(until, changed.changed()).await;
        if waited.is_err() {
            return shared
                .look_for_updates(token, turn, body)
                .unwrap_or(Reply::Answer(Answer::ok(json!([]))));
        }
    }
}

async fn read(mut body: Incoming) -> Result<Vec<u8>, hyper::Error> {
    let mut whole = Vec::new();
    while let Some(frame) = std::future::poll_fn(|context| std::pin::Pin::new(&mut body).poll_frame(context)).await {
        if let Some(data) = frame?.data_ref() {
            whole.extend_from_slice(data);
        }
    }
    Ok(whole)
}

fn answer(said: &Answer) -> Response<Whole> {
    response(said.status, said.json().to_string().into())
}

fn response(status: u16, text: Bytes) -> Response<Whole> {
    let mut response = Response::new(Whole(Some(text)));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    let json = "application/json".parse().unwrap();
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, json);
    response
}
