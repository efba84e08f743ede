//! `vestnik tail`: prints the events of one store, one line of JSON for each event. After an interruption it reconnects
//! with its cursor, as every client should.

use std::collections::VecDeque;
use std::io::Write as _;
use std::time::Duration;

use crate::infra::backoff::Backoff;
use anyhow::{Context as _, bail};
use futures::{SinkExt as _, StreamExt as _};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use tokio::time::timeout;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::{HeaderValue, Response, StatusCode};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::Usage;

/// Time limit of one attempt to connect.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// A connection without a message for this long counts as lost. The server sends a ping or a heartbeat every 30 s.
const SILENCE_DEADLINE: Duration = Duration::from_secs(90);
/// The longest random pause before a reconnect. It also applies if the server requests a longer pause.
const LONGEST_JITTER: Duration = Duration::from_secs(30);
/// Number of the newest event ids that are kept. With them, an event that arrives twice is printed only once.
const REMEMBERED_EVENTS: usize = 1024;
/// The code with which the server closes the connection if the store has too many sessions. The next attempt waits for
/// at least `FULL_PAUSE`.
const TOO_MANY_SESSIONS: u16 = 4430;
const FULL_PAUSE: Duration = Duration::from_secs(15);
/// The longest pause after a refusal by a rate limit. It also applies if the server requests a longer pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// If the server closes the connection with this code or a higher one, the client must not reconnect.
const FIRST_FINAL_CODE: u16 = 4500;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The id of the store
    #[arg(long)]
    store: String,
    /// The address of the server: http://host:port or https://host
    #[arg(long, default_value = "http://127.0.0.1:8000")]
    url: String,
    /// Begin after this cursor [default: now]
    #[arg(long, value_name = "CURSOR")]
    after: Option<String>,
}

/// The fields of a server message that `vestnik tail` uses.
#[derive(Deserialize)]
struct ServerMessage<'a> {
    r#type: &'a str,
    id: Option<&'a str>,
    cursor: Option<&'a str>,
    reason: Option<&'a str>,
    reconnect_jitter_ms: Option<u64>,
}

/// The next step of `vestnik tail` after a connection has ended. The text is the reason, for the person who runs the
/// command.
enum Ended {
    /// The client reconnects after the next pause of its backoff and a random pause.
    Again(String),
    /// The client reconnects after this pause.
    Later(String, Duration),
    /// The command ends, because the program that reads the output has closed the pipe.
    NobodyReads,
}

struct Tail {
    address: String,
    token: String,
    cursor: Option<String>,
    printed: VecDeque<String>,
    /// The longest random pause before the next reconnect. It prevents many clients from reconnecting at the same
    /// moment.
    jitter: Duration,
}

/// Prints the store's events until the command is stopped, or until the server does not allow a reconnect.
pub async fn run(args: Args) -> anyhow::Result<()> {
    // Read the token from the environment, because every user of the machine can see a command line.
    let token = std::env::var("VESTNIK_TOKEN")
        .map_err(|_| Usage("set VESTNIK_TOKEN to a token of this store: `vestnik token create` makes one".into()))?;
    let base = args.url.trim_end_matches('/');
    let base = match base.split_once("://") {
        Some(("http" | "ws", rest)) => format!("ws://{rest}"),
        Some(("https" | "wss", rest)) => format!("wss://{rest}"),
        _ => bail!(Usage(format!(
            "--url {base}: it looks like http://127.0.0.1:8000 or https://orders.example"
        ))),
    };
    let store = utf8_percent_encode(&args.store, NON_ALPHANUMERIC);
    let mut tail = Tail {
        address: format!("{base}/api/partner/ws/partner/{store}"),
        token,
        cursor: args.after,
        printed: VecDeque::new(),
        jitter: Duration::ZERO,
    };
    let mut backoff = Backoff::new();
    loop {
        match tail.follow(&mut backoff).await? {
            Ended::NobodyReads => return Ok(()),
            Ended::Later(why, pause) => {
                eprintln!("vestnik tail: {why}; reconnecting in {} s", pause.as_secs());
                tokio::time::sleep(pause).await;
            }
            Ended::Again(why) => {
                // Apply the random pause only once after each interrupted connection. Further attempts wait only for
                // the backoff.
                let spread = std::mem::take(&mut tail.jitter).mul_f64(fastrand::f64());
                let pause = backoff.next_pause() + spread;
                eprintln!("vestnik tail: {why}; reconnecting");
                tokio::time::sleep(pause).await;
            }
        }
    }
}

impl Tail {
    /// Connects once, and prints events until the connection ends. Returns an error if a reconnect would not help.
    async fn follow(&mut self, backoff: &mut Backoff) -> anyhow::Result<Ended> {
        let url = match &self.cursor {
            Some(cursor) => format!(
                "{}?after={}",
                self.address,
                utf8_percent_encode(cursor, NON_ALPHANUMERIC)
            ),
            None => self.address.clone(),
        };
        let mut request = url.into_client_request().context("--url cannot be read")?;
        let bearer = HeaderValue::from_str(&format!("Bearer {}", self.token)).context("the token cannot be sent")?;
        request.headers_mut().insert("authorization", bearer);
        let protocol = HeaderValue::from_static("vestnik.v1");
        request.headers_mut().insert("sec-websocket-protocol", protocol);
        let mut socket = match timeout(CONNECT_DEADLINE, connect_async(request)).await {
            Ok(Ok((socket, _))) => socket,
            Ok(Err(Error::Http(response))) => return refused(&response),
            Ok(Err(error)) => return Ok(Ended::Again(format!("no connection: {error}"))),
            Err(_) => return Ok(Ended::Again("no connection in time".into())),
        };
        loop {
            match timeout(SILENCE_DEADLINE, socket.next()).await {
                Err(_) => return Ok(Ended::Again("the server sent nothing in time".into())),
                Ok(None) => return Ok(Ended::Again("the connection ended".into())),
                Ok(Some(Err(error))) => return Ok(Ended::Again(format!("the connection broke: {error}"))),
                Ok(Some(Ok(Message::Text(text)))) => {
                    if !self.take(&text, backoff)? {
                        return Ok(Ended::NobodyReads);
                    }
                }
                Ok(Some(Ok(Message::Close(frame)))) => {
                    let (code, reason) = frame.map_or((1005, String::new()), |f| (f.code.into(), f.reason.to_string()));
                    if code >= FIRST_FINAL_CODE {
                        bail!("the server closed for good ({code}): {reason}");
                    }
                    let why = format!("the server closed ({code}): {reason}");
                    return Ok(match code {
                        TOO_MANY_SESSIONS => Ended::Later(why, FULL_PAUSE.mul_f64(1.0 + fastrand::f64())),
                        _ => Ended::Again(why),
                    });
                }
                // The library has queued the answer to a ping, and sends it with this flush.
                Ok(Some(Ok(_))) => drop(socket.flush().await),
            }
        }
    }

    /// Handles one message of the server: keeps its cursor, and prints it if it is an event. Returns `false` if the
    /// program that reads the output has closed the pipe.
    fn take(&mut self, text: &str, backoff: &mut Backoff) -> anyhow::Result<bool> {
        let message: ServerMessage<'_> = serde_json::from_str(text).context("the server does not speak vestnik.v1")?;
        match message.r#type {
            "connected" => {
                let asked = Duration::from_millis(message.reconnect_jitter_ms.unwrap_or(0));
                self.jitter = asked.min(LONGEST_JITTER);
                return Ok(true);
            }
            "live" => backoff.reset(),
            "resync_required" => eprintln!(
                "vestnik tail: the server cannot continue from the cursor ({}): events before this point may be missing",
                message.reason.unwrap_or("no reason given")
            ),
            _ => {}
        }
        if let Some(cursor) = message.cursor {
            self.cursor = Some(cursor.to_owned());
        }
        let Some(id) = message.id.filter(|_| message.cursor.is_some()) else {
            return Ok(true);
        };
        if self.printed.iter().any(|printed| printed == id) {
            return Ok(true);
        }
        if self.printed.len() == REMEMBERED_EVENTS {
            self.printed.pop_front();
        }
        self.printed.push_back(id.to_owned());
        let mut out = std::io::stdout().lock();
        Ok(writeln!(out, "{text}").and_then(|()| out.flush()).is_ok())
    }
}

/// Handles a refused connection. Returns when to reconnect, or an error if a reconnect would not help.
fn refused(response: &Response<Option<Vec<u8>>>) -> anyhow::Result<Ended> {
    let body = response.body().as_deref().unwrap_or_default();
    let body: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let said = body["error"]["message"].as_str().unwrap_or("the server refused");
    let why = format!("{said} ({})", response.status());
    if response.status() == StatusCode::TOO_MANY_REQUESTS {
        let asked = response
            .headers()
            .get("retry-after")
            .and_then(|value| value.to_str().ok());
        let pause_s = asked.and_then(|seconds| seconds.parse().ok()).unwrap_or(1);
        return Ok(Ended::Later(why, Duration::from_secs(pause_s).min(LONGEST_PAUSE)));
    }
    if response.status().is_client_error() {
        bail!(why);
    }
    Ok(Ended::Again(why))
}
