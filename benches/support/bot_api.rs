//! A fake of Telegram's Bot API without request limits. The fake can become unavailable, like the real Bot API.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How the server treats requests. `Up`: the server answers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    Up,
    /// The server closes each connection immediately.
    Refuses,
    /// The server accepts requests, but never answers.
    Silent,
}

/// A request that the fake Bot API has answered.
#[derive(Debug, Clone)]
pub struct Call {
    pub at: Instant,
    pub method: String,
    pub body: Value,
}

struct State {
    line: Line,
    calls: Vec<Call>,
    updates: Vec<Value>,
    next_update: i64,
}

/// A running fake of the Bot API.
#[derive(Clone)]
pub struct BotApi {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
    changed: watch::Sender<u64>,
}

impl BotApi {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let api = Self {
            address: listener.local_addr().expect("its port"),
            state: Arc::new(Mutex::new(State {
                line: Line::Up,
                calls: Vec::new(),
                updates: Vec::new(),
                next_update: 1,
            })),
            changed: watch::Sender::new(0),
        };
        let serving = api.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let serving = serving.clone();
                tokio::spawn(async move { serving.serve(socket).await });
            }
        });
        api
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.state.lock().expect("no panic holds it"));
        self.changed.send_modify(|count| *count += 1);
        changed
    }

    pub fn set(&self, line: Line) {
        self.with(|state| state.line = line);
    }

    /// Simulates a press on a button of the first message in this chat.
    pub fn press(&self, chat: i64, data: &str) {
        self.with(|state| {
            let id = state.next_update;
            state.next_update += 1;
            let from = json!({"id": chat, "is_bot": false, "first_name": "Anna"});
            let message = json!({"message_id": 1, "date": 0, "chat": {"id": chat, "type": "private"}});
            let press =
                json!({"id": id.to_string(), "from": from, "message": message, "chat_instance": "1", "data": data});
            state.updates.push(json!({"update_id": id, "callback_query": press}));
        });
    }

    /// Waits for the first answered request after `since` for which `is_so` returns true. `what` describes this
    /// request if the wait fails.
    pub async fn until(&self, since: Instant, what: &str, is_so: impl Fn(&Call) -> bool) -> Call {
        let mut changed = self.changed.subscribe();
        let wait = async {
            loop {
                changed.borrow_and_update();
                let found = {
                    let state = self.state.lock().expect("no panic holds it");
                    state.calls.iter().find(|call| call.at > since && is_so(call)).cloned()
                };
                if let Some(call) = found {
                    return call;
                }
                changed.changed().await.expect("the API goes on");
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(600), wait).await;
        waited.unwrap_or_else(|_| panic!("never: {what}"))
    }

    async fn serve(self, mut socket: TcpStream) {
        let mut read = Vec::new();
        loop {
            let Some((method, body)) = request(&mut socket, &mut read).await else {
                return;
            };
            match self.with(|state| state.line) {
                Line::Up => {}
                Line::Refuses => return,
                Line::Silent => return std::future::pending().await,
            }
            let result = match method.as_str() {
                "getUpdates" => match self.poll(&body).await {
                    Some(updates) => updates,
                    None => return std::future::pending().await,
                },
                "getMe" => json!({"id": 1, "is_bot": true, "first_name": "bench", "username": "bench_bot"}),
                "sendMessage" | "editMessageText" => {
                    json!({"message_id": 1, "date": 0, "chat": {"id": body["chat_id"], "type": "private"}, "text": "x"})
                }
                _ => json!(true),
            };
            self.with(|state| {
                let at = Instant::now();
                state.calls.push(Call { at, method, body });
            });
            let answer = json!({"ok": true, "result": result}).to_string();
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                answer.len()
            );
            if socket.write_all((head + &answer).as_bytes()).await.is_err() {
                return;
            }
        }
    }

    /// Handles `getUpdates`: waits for updates, and returns them. Returns `None` if the fake becomes unavailable
    /// meanwhile.
    async fn poll(&self, body: &Value) -> Option<Value> {
        let mut changed = self.changed.subscribe();
        let until = tokio::time::Instant::now() + Duration::from_secs(body["timeout"].as_u64().unwrap_or(0));
        loop {
            changed.borrow_and_update();
            let offset = body["offset"].as_i64().unwrap_or(0);
            let (line, updates) = {
                let mut state = self.state.lock().expect("no panic holds it");
                state
                    .updates
                    .retain(|update| update["update_id"].as_i64().unwrap_or(0) >= offset);
                (state.line, state.updates.clone())
            };
            if line != Line::Up {
                return None;
            }
            if !updates.is_empty() {
                return Some(Value::Array(updates));
            }
            if tokio::time::timeout_at(until, changed.changed()).await.is_err() {
                return Some(json!([]));
            }
        }
    }
}

/// Reads the method and the body of the next request.
async fn request(socket: &mut TcpStream, read: &mut Vec<u8>) -> Option<(String, Value)> {
    loop {
        let text = String::from_utf8_lossy(read).into_owned();
        if let Some((head, _)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length")
                    .then(|| value.trim().parse::<usize>().ok())?
            });
            let (begin, end) = (head.len() + 4, head.len() + 4 + length.unwrap_or(0));
            if read.len() >= end {
                let method = head.split(' ').nth(1)?.rsplit('/').next()?.to_owned();
                let body = serde_json::from_slice(&read[begin..end]).unwrap_or(Value::Null);
                read.drain(..end);
                return Some((method, body));
            }
        }
        if socket.read_buf(read).await.ok()? == 0 {
            return None;
        }
    }
}
