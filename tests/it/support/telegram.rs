//! A fake Bot API over real HTTP on loopback, which enforces Telegram's rules. Messages must be valid HTML within the
//! length limits, and must not arrive more often than Telegram allows. If the engine breaks a rate limit, the test
//! fails, at the latest when [`Telegram`] is dropped.

mod budgets;
mod entities;
mod fault;
mod rules;
mod updates;
mod wire;

pub use fault::{Fault, On, Taken, Times};
pub use rules::ChatMessage;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;
use vestnik::infra::config;

use super::app::PATIENCE;
use super::db::Database;
use rules::{Reply, State};

/// The bot's user id.
pub const BOT_ID: i64 = 4_242;
/// A token that the fake accepts from the beginning.
pub const TOKEN: &str = "4242:a-token-that-no-log-may-show";
/// The secret part of [`TOKEN`].
pub const SECRET: &str = "a-token-that-no-log-may-show";

/// A button: its text, and its callback data.
pub type Button = (String, String);

#[derive(Debug, Clone)]
pub struct Chat {
    pub kind: Kind,
    pub title: String,
    pub administrators: Vec<i64>,
    /// The chat id of the supergroup that has replaced this group.
    pub moved_to: Option<i64>,
    /// Whether the bot was blocked or removed.
    pub bot_is_out: bool,
    /// Whether the chat's owner has deleted the chat.
    pub is_deleted: bool,
    /// Whether members may write. The bot is an ordinary member, so `false` stops the bot as well.
    pub may_write: bool,
    /// The topics of a forum, by number. The general topic has the number [`GENERAL`].
    pub topics: BTreeMap<i32, Topic>,
}

/// The number of a forum's general topic. A message that names no topic appears in the general topic.
pub const GENERAL: i32 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    Open,
    Closed,
    Deleted,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Private,
    Group,
    Channel,
}

impl Chat {
    fn json(&self, id: i64) -> Value {
        match self.kind {
            Kind::Private => json!({"id": id, "type": "private", "first_name": self.title}),
            Kind::Channel => json!({"id": id, "type": "channel", "title": self.title}),
            Kind::Group if !self.topics.is_empty() => {
                json!({"id": id, "type": "supergroup", "title": self.title, "is_forum": true})
            }
            Kind::Group if id < -1_000_000_000_000 => json!({"id": id, "type": "supergroup", "title": self.title}),
            Kind::Group => json!({"id": id, "type": "group", "title": self.title}),
        }
    }
}

/// A request to the Bot API, and its result. Requests of the long poll are not recorded.
#[derive(Debug, Clone)]
pub struct Call {
    /// The name of the method as Telegram writes it: `sendMessage`.
    pub method: String,
    /// The chat id, or 0 if the request names no chat.
    pub chat: i64,
    /// The text that people see in the chat, with entities such as `&lt;` decoded.
    pub text: String,
    pub buttons: Vec<Vec<Button>>,
    /// Whether the message is sent without a sound (`disable_notification`).
    pub silent: bool,
    /// The topic that the request names.
    pub topic: Option<i32>,
    /// The number of the message that the sent message replies to.
    pub reply_to: Option<i32>,
    /// Whether the text is sent as HTML.
    pub is_html: bool,
    /// The number of the message that the request sent or edited.
    pub message: Option<i32>,
    /// `ok`, the error text, or the name of the fault.
    pub said: String,
    pub body: Value,
    /// The label of the address that got the request: `front`, or the name that [`Telegram::door`] was called with.
    /// Tests give each node a different address, and so learn which node has sent the request.
    pub door: &'static str,
}

impl Call {
    fn new(door: &'static str, method: String, body: Value) -> Self {
        Self {
            method,
            chat: body["chat_id"].as_i64().unwrap_or_default(),
            text: String::new(),
            buttons: Vec::new(),
            silent: body["disable_notification"].as_bool().unwrap_or(false),
            topic: body["message_thread_id"]
                .as_i64()
                .and_then(|topic| i32::try_from(topic).ok()),
            reply_to: body["reply_parameters"]["message_id"]
                .as_i64()
                .and_then(|message| i32::try_from(message).ok()),
            is_html: body["parse_mode"] == "HTML",
            message: None,
            said: String::new(),
            body,
            door,
        }
    }

    /// Whether the request sends or edits a message in this chat.
    pub fn is_message_to(&self, chat: i64) -> bool {
        self.chat == chat && ["sendMessage", "editMessageText"].contains(&self.method.as_str())
    }

    /// Whether the request sends a new message to this chat.
    pub fn is_new_to(&self, chat: i64) -> bool {
        self.chat == chat && self.method == "sendMessage"
    }

    /// Whether the request edits a message's text or only its buttons.
    pub fn is_edit(&self) -> bool {
        self.method.starts_with("editMessage")
    }
}

/// The state of the fake, and a channel that signals each change of the state.
struct Shared {
    state: Mutex<State>,
    changed: watch::Sender<u64>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn call(&self, token: &str, call: Call) -> Reply {
        let reply = self.state().call(token, call);
        self.tell();
        reply
    }

    fn begin_poll(&self) -> (u64, watch::Receiver<u64>) {
        let changed = self.changed.subscribe();
        let turn = {
            let mut state = self.state();
            state.poll_turn += 1;
            state.poll_turn
        };
        self.tell();
        (turn, changed)
    }

    fn look_for_updates(&self, token: &str, turn: u64, body: &Value) -> Option<Reply> {
        self.state().updates_for(token, turn, body)
    }

    fn tell(&self) {
        self.changed.send_modify(|count| *count += 1);
    }
}

/// A running fake of the Bot API.
pub struct Telegram {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Telegram {
    /// Starts a fake Bot API and a new database, and links a private chat to store 7. In the mode `mirror`, the chat
    /// gets every message.
    pub async fn with_chat(chat: i64) -> (Self, Database) {
        let (telegram, database) = (Self::start().await, Database::fresh().await);
        telegram.add_private(chat, "Anna");
        telegram.link(&database, "7", chat, "mirror").await;
        (telegram, database)
    }

    /// Starts a fake Bot API without chats that accepts [`TOKEN`].
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Mutex::new(State::default());
        state.lock().unwrap().tokens.insert(TOKEN.into());
        let shared = Arc::new(Shared {
            state,
            changed: watch::channel(0).0,
        });
        tokio::spawn(wire::serve(listener, Arc::clone(&shared), "front"));
        Self { address, shared }
    }

    /// Opens another address of the same fake. [`Call::door`] of requests to this address is `name`.
    pub async fn door(&self, name: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(wire::serve(listener, Arc::clone(&self.shared), name));
        format!("http://{address}")
    }

    /// The address of the fake, for the setting `telegram.api_url`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The engine's settings for this fake, with the default times.
    pub fn settings(&self) -> config::Telegram {
        config::Telegram {
            token: TOKEN.into(),
            api_url: self.url(),
            proxy: None,
            texts: None,
            digest_after: Duration::from_secs(30 * 60),
            digest_threshold: 30,
            deadline: Duration::from_secs(10),
            lease: Duration::from_secs(30),
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.shared.state());
        self.shared.tell();
        changed
    }

    fn add(&self, id: i64, kind: Kind, title: &str, administrators: &[i64]) {
        let administrators = administrators.to_vec();
        let title = title.to_owned();
        let chat = Chat {
            kind,
            title,
            administrators,
            moved_to: None,
            bot_is_out: false,
            is_deleted: false,
            may_write: true,
            topics: BTreeMap::new(),
        };
        self.change(|state| state.chats.insert(id, chat));
    }

    /// Adds a private chat. The user id of its person equals the chat id.
    pub fn add_private(&self, id: i64, name: &str) {
        assert!(id > 0);
        self.add(id, Kind::Private, name, &[]);
    }

    /// Adds a group, whose id must be negative. Every person who is not in `administrators` is an ordinary member.
    pub fn add_group(&self, id: i64, title: &str, administrators: &[i64]) {
        assert!(id < 0);
        self.add(id, Kind::Group, title, administrators);
    }

    /// Links a chat to a store in the database, as the bot's command `/link CODE` does. Returns the id of the chat's
    /// row.
    pub async fn link(&self, database: &Database, store: &str, chat: i64, mode: &str) -> i64 {
        const LINK: &str = "with store as (insert into vestnik.vst_store (id) values ($1) on conflict do nothing), \
                 chat as (insert into vestnik.vst_chat (telegram_id, title) values ($2, $3) \
                     on conflict (telegram_id) do update set title = excluded.title returning id) \
             insert into vestnik.vst_chat_link (chat_id, store_id, mode, language, linked_by, linked_at) \
             select id, $1, $4, 'en', 1, '-infinity' from chat returning chat_id";
        let title = self.shared.state().chats[&chat].title.clone();
        let client = database.client().await;
        client
            .query_one(LINK, &[&store, &chat, &title, &mode])
            .await
            .unwrap()
            .get(0)
    }

    /// Turns a group into a supergroup with the chat id `new`. After this call, a request with the chat id `old` gets
    /// Telegram's error, which contains `new`.
    pub fn migrate(&self, old: i64, new: i64) {
        self.change(|state| {
            let mut chat = state.chats[&old].clone();
            state.chats.get_mut(&old).unwrap().moved_to = Some(new);
            chat.moved_to = None;
            state.chats.insert(new, chat);
        });
    }

    /// Adds a forum with these topics and the general topic. `id` must be the id of a supergroup: below -10^12.
    pub fn add_forum(&self, id: i64, title: &str, administrators: &[i64], topics: &[i32]) {
        self.add(id, Kind::Group, title, administrators);
        self.change(|state| {
            let all = topics.iter().chain([&GENERAL]).map(|topic| (*topic, Topic::Open));
            state.chats.get_mut(&id).unwrap().topics = all.collect();
        });
    }

    /// Adds a channel in which the bot is an administrator.
    pub fn add_channel(&self, id: i64, title: &str) {
        assert!(id < -1_000_000_000_000);
        self.add(id, Kind::Channel, title, &[]);
    }

    /// Closes, opens or deletes a topic. The bot gets no update, and learns of the change only from a failed send.
    pub fn set_topic(&self, chat: i64, topic: i32, state: Topic) {
        self.change(|all| all.chats.get_mut(&chat).unwrap().topics.insert(topic, state));
    }

    /// Sets whether members may write, as a group's night mode does. The bot gets no update, and learns of the change
    /// only from a failed send.
    pub fn let_write(&self, chat: i64, may: bool) {
        self.change(|state| state.chats.get_mut(&chat).unwrap().may_write = may);
    }

    /// Deletes the group, as its owner would.
    pub fn delete(&self, chat: i64) {
        self.change(|state| state.chats.get_mut(&chat).unwrap().is_deleted = true);
    }

    /// Adds the bot to the chat again.
    pub fn take_back(&self, chat: i64) {
        self.change(|state| state.chats.get_mut(&chat).unwrap().bot_is_out = false);
    }

    /// Blocks or removes the bot: requests to the chat get 403. The bot gets no update, and learns of the change only
    /// from a failed send.
    pub fn throw_out(&self, chat: i64) {
        self.change(|state| state.chats.get_mut(&chat).unwrap().bot_is_out = true);
    }

    /// Sets a webhook for the bot, as another program with the same token would. Telegram then refuses the long poll.
    pub fn set_webhook(&self, url: &str) {
        self.change(|state| state.webhook = url.into());
    }

    /// Makes the fake accept a token.
    pub fn let_in(&self, token: &str) {
        self.change(|state| state.tokens.insert(token.into()));
    }

    /// Makes the fake refuse a token: every method answers 401.
    pub fn shut_out(&self, token: &str) {
        self.change(|state| state.tokens.remove(token));
    }

    /// Adds a fault, which affects the next `times` requests that match `on`.
    pub fn fault(&self, on: On, fault: Fault, times: Times) {
        self.change(|state| state.faults.push(fault::Scripted { on, fault, times }));
    }

    /// Ends the wait that a response 429 has imposed on sends to this chat.
    pub fn let_speak(&self, chat: i64) {
        self.change(|state| state.quiet.retain(|(of, _), _| *of != chat));
    }

    /// Removes all faults, so that later requests succeed.
    pub fn heal(&self) {
        self.change(|state| state.faults.clear());
    }

    /// The requests that have arrived, in order.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.state().calls.clone()
    }

    /// The messages in a chat with their numbers, in order.
    pub fn messages(&self, chat: i64) -> Vec<(i32, ChatMessage)> {
        let state = self.shared.state();
        let there = state.messages.range((chat, 0)..=(chat, i32::MAX));
        there.map(|((_, number), message)| (*number, message.clone())).collect()
    }

    /// Waits until `is_so` returns true for the list of requests. `what` describes the condition if the wait fails.
    pub async fn until_calls(&self, what: &str, is_so: impl Fn(&[Call]) -> bool) {
        self.until_calls_within(PATIENCE, what, is_so).await;
    }

    /// Like [`Telegram::until_calls`], but waits for at most `patience`.
    pub async fn until_calls_within(&self, patience: Duration, what: &str, is_so: impl Fn(&[Call]) -> bool) {
        let mut changed = self.shared.changed.subscribe();
        let waited = timeout(patience, async {
            loop {
                changed.borrow_and_update();
                if is_so(&self.shared.state().calls) {
                    return;
                }
                changed.changed().await.unwrap();
            }
        });
        if waited.await.is_err() {
            let came: Vec<String> = self
                .calls()
                .iter()
                .map(|call| format!("{} {} {:?} {}", call.method, call.chat, call.text, call.said))
                .collect();
            panic!(
                "not within {patience:?}: {what}; the requests that arrived:\n{}",
                came.join("\n")
            );
        }
    }

    /// Waits for a request for which `is_so` returns true, and returns the first such request.
    pub async fn until_call(&self, what: &str, is_so: impl Fn(&Call) -> bool) -> Call {
        self.until_calls(what, |calls| calls.iter().any(&is_so)).await;
        self.calls().into_iter().find(is_so).unwrap()
    }

    /// Waits until at least `count` requests with the result `ok` have sent or edited a message in the chat. Returns
    /// all of these requests.
    pub async fn until_messages(&self, chat: i64, count: usize) -> Vec<Call> {
        let is_one = |call: &&Call| call.is_message_to(chat) && call.said == "ok";
        self.until_calls(&format!("{count} messages to {chat}"), |calls| {
            calls.iter().filter(is_one).count() >= count
        })
        .await;
        self.calls().into_iter().filter(|call| is_one(&call)).collect()
    }

    /// Removes and returns the violations of Telegram's limits so far.
    pub fn take_violations(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.state().violations)
    }

    /// Asserts that the engine has broken no limit of Telegram.
    pub fn assert_no_violation(&self) {
        let state = self.shared.state();
        assert!(
            state.violations.is_empty(),
            "Telegram's limits were broken: {:#?}",
            state.violations
        );
    }
}

impl Drop for Telegram {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.assert_no_violation();
        }
    }
}
