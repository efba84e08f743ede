//! An engine that runs inside a test, and clients of it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, connect_async_tls_with_config};
use vestnik::engine::Engine;
use vestnik::infra::config::{Config, Tls};
use vestnik::token::{self, New, Scope, Stores};

use super::db::Database;
use super::look_again;
use super::tls::trusting;

/// The longest wait for an expected result. This time is long because the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(40);
/// The longest wait until a node listens, polls or is idle. On a busy machine, the first self-test of the listener may
/// time out, and the node repeats the self-test after a minute.
pub const LISTEN_PATIENCE: Duration = Duration::from_secs(120);

/// A node keeps its sessions for at least this long after it could last read the journal. The engine closes them after
/// ten seconds, and the last read may be five seconds old when a failure begins.
const SESSIONS_KEPT: Duration = Duration::from_secs(5);

/// A running engine with its own database.
pub struct App {
    pub database: Database,
    pub engine: Engine,
    pub token: String,
    /// The certificate that the test's clients trust, if the engine serves with TLS.
    trusted: Option<rustls::pki_types::CertificateDer<'static>>,
}

impl App {
    /// Starts an engine with the default settings on a new database.
    pub async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    /// Starts an engine on a new database; `change` edits its settings first.
    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        Self::start_on(Database::fresh().await, change).await
    }

    /// Starts an engine on an existing database.
    pub async fn start_on(database: Database, change: impl FnOnce(&mut Config)) -> Self {
        let app = Self::begin(database, change, None).await;
        app.until_ready().await;
        app
    }

    /// Starts an engine that serves with TLS.
    pub async fn start_secure(tls: Tls, trusted: rustls::pki_types::CertificateDer<'static>) -> Self {
        let app = Self::begin(Database::fresh().await, |config| config.tls = Some(tls), Some(trusted)).await;
        app.engine.until_fresh().await;
        app
    }

    /// Prints the engine's log to stderr if `VESTNIK_TEST_LOG` holds a filter, so that a person can examine a failed
    /// test.
    fn log() {
        if let Ok(filter) = std::env::var("VESTNIK_TEST_LOG") {
            let _ = tracing_subscriber::fmt()
                .with_env_filter(filter)
                .with_writer(std::io::stderr)
                .try_init();
        }
    }

    async fn begin(
        database: Database,
        change: impl FnOnce(&mut Config),
        trusted: Option<rustls::pki_types::CertificateDer<'static>>,
    ) -> Self {
        Self::log();
        let mut config = database.config();
        config.http.listen = ([127, 0, 0, 1], 0).into();
        change(&mut config);
        let token = database.token(Stores::All).await;
        let engine = Engine::start(&config).await.unwrap();
        Self {
            database,
            engine,
            token,
            trusted,
        }
    }

    /// Executes SQL on a new connection, as the shop's application does.
    pub async fn write(&self, sql: &str) {
        self.database.client().await.batch_execute(sql).await.unwrap();
    }

    /// The value of a metric in `/metrics`, or 0 if the metric is missing. All tests share one process and its metrics,
    /// so a test may only assert that a value has grown.
    pub async fn metric(&self, name: &str) -> f64 {
        let (_, metrics) = self.get_ops("/metrics").await;
        let value = metrics
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.trim().parse().unwrap())
    }

    /// Waits until `is_so` returns true for the value of the metric.
    pub async fn until_metric(&self, name: &str, is_so: impl Fn(f64) -> bool) {
        timeout(PATIENCE, async {
            while !is_so(self.metric(name).await) {
                look_again().await;
            }
        })
        .await
        .unwrap_or_else(|_| panic!("the metric {name} did not reach the expected value"));
    }

    /// Waits until `/readyz` returns 200, which means that the engine can serve clients.
    pub async fn until_ready(&self) {
        timeout(PATIENCE, async {
            while self.get_ops("/readyz").await.0 != 200 {
                look_again().await;
            }
        })
        .await
        .expect("the engine becomes ready");
    }

    /// Sends a GET to the address for clients, and returns the status and the body of the response.
    pub async fn get(&self, path: &str, token: Option<&str>) -> (u16, String) {
        let headers = token
            .map(|token| format!("Authorization: Bearer {token}\r\n"))
            .unwrap_or_default();
        self.request(&format!(
            "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{headers}\r\n"
        ))
        .await
    }

    /// Sends a GET to the address for operators (`/metrics`, `/readyz`), and returns the status and the body of the
    /// response.
    pub async fn get_ops(&self, path: &str) -> (u16, String) {
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        let ops = self.engine.ops_address().unwrap();
        Self::parsed(exchange(ops, request.as_bytes()).await)
    }

    /// Sends the text of a whole HTTP request, and returns the status and the body of the response.
    pub async fn request(&self, request: &str) -> (u16, String) {
        Self::parsed(self.exchange(request.as_bytes()).await)
    }

    fn parsed(answer: Vec<u8>) -> (u16, String) {
        let answer = String::from_utf8(answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        (status, body.to_owned())
    }

    /// Sends bytes, and returns the bytes that the server sends until it closes the connection.
    pub async fn exchange(&self, request: &[u8]) -> Vec<u8> {
        exchange(self.engine.address(), request).await
    }

    /// Waits until `/readyz` reports that the engine receives Postgres notifications.
    pub async fn until_listening(&self) {
        self.until_feed("listening").await;
    }

    /// Waits until `/readyz` reports this state of the feed, for example `polling`.
    pub async fn until_feed(&self, state: &str) {
        let waited = timeout(LISTEN_PATIENCE, async {
            while self.readiness().await["feed"] != state {
                look_again().await;
            }
        });
        waited
            .await
            .unwrap_or_else(|_| panic!("the feed did not reach the state {state}"));
    }

    /// The body of the response of `/readyz`.
    pub async fn readiness(&self) -> Value {
        serde_json::from_str(&self.get_ops("/readyz").await.1).unwrap()
    }

    /// Sends a GET with the app's token, and parses the body as JSON.
    pub async fn get_json(&self, path: &str) -> Value {
        let (_, body) = self.get(path, Some(&self.token)).await;
        serde_json::from_str(&body).unwrap_or_else(|_| panic!("not JSON: {body}"))
    }

    /// Connects a panel to a store, and waits for its `connected` message. Tries again while the node is not ready.
    pub async fn panel(&self, store: &str, after: Option<&str>) -> Panel {
        let after = after.map(|after| format!("?after={after}")).unwrap_or_default();
        let path = format!("/api/partner/ws/partner/{store}{after}");
        self.until_connected(&path, &self.token).await
    }

    /// Like [`App::stream`], but tries again while the node is not ready.
    pub async fn until_stream(&self, query: &str, token: &str) -> Panel {
        self.until_connected(&format!("/api/partner/stream{query}"), token)
            .await
    }

    /// Opens a WebSocket, and waits for its `connected` message. A node whose feed is late refuses the handshake, or
    /// closes the socket with 1012. Then this function waits until the node is ready, and tries again.
    async fn until_connected(&self, path: &str, token: &str) -> Panel {
        let bearer = format!("Bearer {token}");
        let connected = timeout(PATIENCE, async {
            loop {
                match self.raw_socket(path, &[("authorization", &bearer)]).await {
                    Ok(socket) => {
                        let mut panel = Panel::over(socket);
                        match panel.message().await {
                            Ok(connected) => {
                                assert_eq!(connected["type"], "connected");
                                return panel;
                            }
                            Err(code) => assert_eq!(code, 1012, "{path}: closed before `connected`"),
                        }
                    }
                    Err(Error::Http(response)) => assert_eq!(response.status(), 503, "{path}"),
                    Err(error) => panic!("{path}: no socket: {error}"),
                }
                self.until_ready().await;
                look_again().await;
            }
        });
        connected.await.unwrap_or_else(|_| panic!("{path}: no session in time"))
    }

    /// Connects a panel, and returns the close code if the server closes the socket before its first message.
    pub async fn panel_or_close(&self, store: &str) -> Result<Panel, u16> {
        self.try_panel_or_close(store, &self.token).await
    }

    /// Like [`App::panel_or_close`], with another token.
    pub async fn try_panel_or_close(&self, store: &str, token: &str) -> Result<Panel, u16> {
        let bearer = format!("Bearer {token}");
        let socket = self.raw_panel(store, &[("authorization", &bearer)]).await.unwrap();
        let mut panel = Panel::over(socket);
        panel.message().await.map(|_| panel)
    }

    /// Connects a panel with this token. Returns the error if the server refuses the WebSocket handshake.
    pub async fn try_panel(&self, store: &str, after: Option<&str>, token: &str) -> Result<Panel, Error> {
        let after = after.map(|after| format!("?after={after}")).unwrap_or_default();
        let bearer = format!("Bearer {token}");
        let socket = self
            .raw_panel(&format!("{store}{after}"), &[("authorization", &bearer)])
            .await?;
        let mut panel = Panel::over(socket);
        let connected = panel.message().await.expect("connected");
        assert_eq!(connected["type"], "connected");
        panel.cursor = connected["cursor"].as_str().unwrap().to_owned();
        Ok(panel)
    }
}

/// Sends bytes to a server, and returns the bytes that the server sends until it closes the connection.
pub async fn exchange(server: SocketAddr, request: &[u8]) -> Vec<u8> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut socket = TcpStream::connect(server).await.unwrap();
    socket.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    timeout(PATIENCE, socket.read_to_end(&mut answer))
        .await
        .expect("an answer")
        .unwrap();
    answer
}

/// The client's end of a WebSocket.
pub type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

impl App {
    /// Opens the WebSocket of a store with these headers. Returns the error if the server refuses the handshake.
    pub async fn raw_panel(&self, store: &str, headers: &[(&'static str, &str)]) -> Result<Socket, Error> {
        self.raw_socket(&format!("/api/partner/ws/partner/{store}"), headers)
            .await
    }

    /// The next event of a panel of this store after a failure of Postgres. `since` is a moment before the failure. On a
    /// busy machine the failure may last so long that the node closes its sessions. Then the panel reconnects.
    pub async fn event_after_failure(&self, panel: &mut Panel, store: &str, since: Instant) -> Value {
        let event = timeout(PATIENCE, async {
            loop {
                match panel.message().await {
                    Ok(message) if message.get("data").is_some() => return message,
                    Ok(_) => {}
                    Err(code) => {
                        assert_eq!(code, 1012);
                        let after = since.elapsed();
                        assert!(after >= SESSIONS_KEPT, "the session was closed after {after:?}");
                        let cursor = panel.cursor.clone();
                        *panel = self.panel(store, Some(&cursor)).await;
                    }
                }
            }
        });
        event.await.expect("an event comes")
    }

    /// Opens a stream of several stores, and waits for its `connected` message. `query` follows the path, for example
    /// `?stores=7,8`.
    pub async fn stream(&self, query: &str, token: &str) -> Result<Panel, Error> {
        let bearer = format!("Bearer {token}");
        let path = format!("/api/partner/stream{query}");
        let socket = self.raw_socket(&path, &[("authorization", &bearer)]).await?;
        let mut panel = Panel::over(socket);
        let connected = panel.message().await.map_err(|_| Error::ConnectionClosed)?;
        assert_eq!(
            (&connected["type"], connected.get("store_id")),
            (&json!("connected"), None)
        );
        Ok(panel)
    }

    /// Opens a WebSocket at a path with these headers. Returns the error if the server refuses the handshake.
    async fn raw_socket(&self, path: &str, headers: &[(&'static str, &str)]) -> Result<Socket, Error> {
        let (scheme, host) = if self.trusted.is_some() {
            ("wss", "localhost")
        } else {
            ("ws", "127.0.0.1")
        };
        let port = self.engine.address().port();
        let mut request = format!("{scheme}://{host}:{port}{path}").into_client_request()?;
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let connector = self.trusted.clone().map(|trusted| Connector::Rustls(trusting(trusted)));
        let (socket, _) = connect_async_tls_with_config(request, None, true, connector).await?;
        Ok(socket)
    }
}

/// A client with a WebSocket of a store.
pub struct Panel {
    pub socket: Socket,
    /// The newest cursor that the server sent.
    pub cursor: String,
    /// The messages that came before the message `live`.
    pub before_live: Vec<Value>,
}

impl Panel {
    fn over(socket: Socket) -> Self {
        Self {
            socket,
            cursor: String::new(),
            before_live: Vec::new(),
        }
    }

    /// Connects a panel to a server without TLS, and waits for its `connected` message.
    pub async fn connect(server: SocketAddr, store: &str, after: Option<&str>, token: &str) -> Result<Self, Error> {
        let after = after.map(|after| format!("?after={after}")).unwrap_or_default();
        let url = format!("ws://{server}/api/partner/ws/partner/{store}{after}");
        let mut request = url.into_client_request()?;
        let bearer = format!("Bearer {token}").parse().unwrap();
        request.headers_mut().insert("authorization", bearer);
        let (socket, _) = connect_async_tls_with_config(request, None, true, None).await?;
        let mut panel = Self::over(socket);
        match panel.message().await {
            Ok(_) => Ok(panel),
            Err(_) => Err(Error::ConnectionClosed),
        }
    }

    /// Connects a panel to a store, and tries again until the server admits it.
    pub async fn until_admitted(server: SocketAddr, store: &str, token: &str) -> Self {
        let admitted = timeout(PATIENCE, async {
            loop {
                match Self::connect(server, store, None, token).await {
                    Ok(panel) => return panel,
                    Err(_) => look_again().await,
                }
            }
        });
        admitted.await.expect("the server admits the panel")
    }

    /// The next message, or the close code if the server closes the socket.
    pub async fn message(&mut self) -> Result<Value, u16> {
        loop {
            let message = timeout(PATIENCE, self.socket.next()).await.expect("a message in time");
            match message {
                Some(Ok(Message::Text(text))) => {
                    let value: Value = serde_json::from_str(&text).expect("JSON");
                    if let Some(cursor) = value["cursor"].as_str() {
                        self.cursor = cursor.to_owned();
                    }
                    return Ok(value);
                }
                Some(Ok(Message::Close(frame))) => return Err(frame.map_or(1005, |frame| frame.code.into())),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(1006),
            }
        }
    }

    /// Waits for the message `live`, and keeps the messages before it in `before_live`.
    pub async fn live(mut self) -> Self {
        loop {
            let message = self.message().await.expect("live");
            if message["type"] == "live" {
                return self;
            }
            self.before_live.push(message);
        }
    }

    /// Returns the next event, and skips messages of other types.
    pub async fn event(&mut self) -> Value {
        let event = timeout(PATIENCE, async {
            loop {
                let message = self.message().await.expect("an event");
                if message.get("data").is_some() {
                    return message;
                }
            }
        });
        event.await.expect("an event comes")
    }

    /// Sends a text message.
    pub async fn say(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    /// Sends the message that acknowledges an event.
    pub async fn acknowledge(&mut self, id: &str) {
        self.say(&json!({"type": "ack", "id": id}).to_string()).await;
    }
}

impl Database {
    /// Creates a token of the scope `operator`, which permits every request.
    pub async fn token(&self, stores: Stores) -> String {
        self.token_of(stores, Scope::Operator).await
    }

    /// Creates a token of this scope.
    pub async fn token_of(&self, stores: Stores, scope: Scope) -> String {
        let new = New {
            scope,
            ..New::of(&stores)
        };
        let token = token::create(&self.client().await, &new).await.unwrap();
        token.reveal().to_owned()
    }
}
