//! An engine for one test, and clients of it.

use std::net::SocketAddr;
use std::time::Duration;

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

/// A wait after which a test has failed: long, because the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// An engine on a database of its own.
pub struct App {
    pub database: Database,
    pub engine: Engine,
    pub token: String,
    /// What its clients trust, where it serves with TLS.
    trusted: Option<rustls::pki_types::CertificateDer<'static>>,
}

impl App {
    /// With the default settings.
    pub async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    /// With other settings.
    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        Self::start_on(Database::fresh().await, change).await
    }

    /// On a database that is there.
    pub async fn start_on(database: Database, change: impl FnOnce(&mut Config)) -> Self {
        let app = Self::begin(database, change, None).await;
        app.until_ready().await;
        app
    }

    /// With TLS.
    pub async fn start_secure(tls: Tls, trusted: rustls::pki_types::CertificateDer<'static>) -> Self {
        let app = Self::begin(Database::fresh().await, |config| config.tls = Some(tls), Some(trusted)).await;
        app.engine.until_fresh().await;
        app
    }

    /// What the engine logs, on the test's own output: for who looks at a failure.
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

    /// Writes as the shop's application does.
    pub async fn write(&self, sql: &str) {
        self.database.client().await.batch_execute(sql).await.unwrap();
    }

    /// A figure of `/metrics`; 0 where it is not there yet. The tests share one process, and so its figures: a test
    /// may only say that they have grown.
    pub async fn metric(&self, name: &str) -> f64 {
        let (_, metrics) = self.get_ops("/metrics").await;
        let value = metrics
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.trim().parse().unwrap())
    }

    /// Waits until a figure is so.
    pub async fn until_metric(&self, name: &str, is_so: impl Fn(f64) -> bool) {
        timeout(PATIENCE, async {
            while !is_so(self.metric(name).await) {
                look_again().await;
            }
        })
        .await
        .unwrap_or_else(|_| panic!("{name} did not become so"));
    }

    /// Waits until the feed stands where the journal stands.
    pub async fn until_ready(&self) {
        timeout(PATIENCE, async {
            while self.get_ops("/readyz").await.0 != 200 {
                look_again().await;
            }
        })
        .await
        .expect("the engine becomes ready");
    }

    /// The status and body of a GET.
    pub async fn get(&self, path: &str, token: Option<&str>) -> (u16, String) {
        let headers = token
            .map(|token| format!("Authorization: Bearer {token}\r\n"))
            .unwrap_or_default();
        self.request(&format!(
            "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{headers}\r\n"
        ))
        .await
    }

    /// The status and body of a GET at the address of the operators.
    pub async fn get_ops(&self, path: &str) -> (u16, String) {
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        let ops = self.engine.ops_address().unwrap();
        Self::parsed(exchange(ops, request.as_bytes()).await)
    }

    /// The status and body that a request as it goes over the wire gets.
    pub async fn request(&self, request: &str) -> (u16, String) {
        Self::parsed(self.exchange(request.as_bytes()).await)
    }

    fn parsed(answer: Vec<u8>) -> (u16, String) {
        let answer = String::from_utf8(answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        (status, body.to_owned())
    }

    /// Sends these bytes, and what comes until the socket closes.
    pub async fn exchange(&self, request: &[u8]) -> Vec<u8> {
        exchange(self.engine.address(), request).await
    }

    /// Waits until notifications reach the engine.
    pub async fn until_listening(&self) {
        timeout(PATIENCE, async {
            while !self.get_ops("/readyz").await.1.contains("listening") {
                look_again().await;
            }
        })
        .await
        .expect("the engine listens");
    }

    /// The same as [`App::get`] with the app's token, parsed.
    pub async fn get_json(&self, path: &str) -> Value {
        let (_, body) = self.get(path, Some(&self.token)).await;
        serde_json::from_str(&body).unwrap_or_else(|_| panic!("not JSON: {body}"))
    }

    /// A panel of a store, after its `connected`.
    pub async fn panel(&self, store: &str, after: Option<&str>) -> Panel {
        self.try_panel(store, after, &self.token).await.expect("a socket")
    }

    /// A live panel, or the code with which it was closed at once.
    pub async fn panel_or_close(&self, store: &str) -> Result<Panel, u16> {
        self.try_panel_or_close(store, &self.token).await
    }

    /// The same with another token.
    pub async fn try_panel_or_close(&self, store: &str, token: &str) -> Result<Panel, u16> {
        let bearer = format!("Bearer {token}");
        let socket = self.raw_panel(store, &[("authorization", &bearer)]).await.unwrap();
        let mut panel = Panel {
            socket,
            cursor: String::new(),
            before_live: Vec::new(),
        };
        panel.message().await.map(|_| panel)
    }

    /// A panel with this token, or why there is none.
    pub async fn try_panel(&self, store: &str, after: Option<&str>, token: &str) -> Result<Panel, Error> {
        let after = after.map(|after| format!("?after={after}")).unwrap_or_default();
        let bearer = format!("Bearer {token}");
        let socket = self
            .raw_panel(&format!("{store}{after}"), &[("authorization", &bearer)])
            .await?;
        let mut panel = Panel {
            socket,
            cursor: String::new(),
            before_live: Vec::new(),
        };
        let connected = panel.message().await.expect("connected");
        assert_eq!(connected["type"], "connected");
        panel.cursor = connected["cursor"].as_str().unwrap().to_owned();
        Ok(panel)
    }
}

/// Sends these bytes to a server, and what comes until the socket closes.
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

/// A WebSocket's client end.
pub type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

impl App {
    /// A socket of a store with these headers, or why there is none.
    pub async fn raw_panel(&self, store: &str, headers: &[(&'static str, &str)]) -> Result<Socket, Error> {
        self.raw_socket(&format!("/api/partner/ws/partner/{store}"), headers)
            .await
    }

    /// A stream of several stores, after its `connected`; or why there is none. `query` is the rest of its address.
    pub async fn stream(&self, query: &str, token: &str) -> Result<Panel, Error> {
        let bearer = format!("Bearer {token}");
        let path = format!("/api/partner/stream{query}");
        let socket = self.raw_socket(&path, &[("authorization", &bearer)]).await?;
        let mut panel = Panel {
            socket,
            cursor: String::new(),
            before_live: Vec::new(),
        };
        let connected = panel.message().await.map_err(|_| Error::ConnectionClosed)?;
        assert_eq!(
            (&connected["type"], connected.get("store_id")),
            (&json!("connected"), None)
        );
        Ok(panel)
    }

    /// A socket at an address with these headers, or why there is none.
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
        let connector = self.trusted.clone().map(|trusted| {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(trusted).unwrap();
            let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
            let config = rustls::ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
            Connector::Rustls(std::sync::Arc::new(config))
        });
        let (socket, _) = connect_async_tls_with_config(request, None, true, connector).await?;
        Ok(socket)
    }
}

/// A client of a store.
pub struct Panel {
    pub socket: Socket,
    /// The newest cursor it was given.
    pub cursor: String,
    /// What came before `live`.
    pub before_live: Vec<Value>,
}

impl Panel {
    /// A panel of a plain server, after its `connected`.
    pub async fn connect(server: SocketAddr, store: &str, after: Option<&str>, token: &str) -> Result<Self, Error> {
        let after = after.map(|after| format!("?after={after}")).unwrap_or_default();
        let url = format!("ws://{server}/api/partner/ws/partner/{store}{after}");
        let mut request = url.into_client_request()?;
        let bearer = format!("Bearer {token}").parse().unwrap();
        request.headers_mut().insert("authorization", bearer);
        let (socket, _) = connect_async_tls_with_config(request, None, true, None).await?;
        let mut panel = Self {
            socket,
            cursor: String::new(),
            before_live: Vec::new(),
        };
        match panel.message().await {
            Ok(_) => Ok(panel),
            Err(_) => Err(Error::ConnectionClosed),
        }
    }

    /// The next message, or the close code.
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

    /// Waits for `live`; what came before it is kept.
    pub async fn live(mut self) -> Self {
        loop {
            let message = self.message().await.expect("live");
            if message["type"] == "live" {
                return self;
            }
            self.before_live.push(message);
        }
    }

    /// The next event.
    pub async fn event(&mut self) -> Value {
        loop {
            let message = self.message().await.expect("an event");
            if message.get("data").is_some() {
                return message;
            }
        }
    }

    /// Says something.
    pub async fn say(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    /// Says that an event has been seen.
    pub async fn acknowledge(&mut self, id: &str) {
        self.say(&json!({"type": "ack", "id": id}).to_string()).await;
    }
}

impl Database {
    /// A new token, with which everything may be done.
    pub async fn token(&self, stores: Stores) -> String {
        self.token_of(stores, Scope::Operator).await
    }

    /// A new token of this scope.
    pub async fn token_of(&self, stores: Stores, scope: Scope) -> String {
        let new = New {
            scope,
            ..New::of(&stores)
        };
        let token = token::create(&self.client().await, &new).await.unwrap();
        token.reveal().to_owned()
    }
}
