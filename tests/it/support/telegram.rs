//! A Bot API of our own, over real HTTP on loopback, that keeps Telegram's rules by itself: what it is sent must be
//! good HTML within the limits, and may not come more often than Telegram allows. A test whose engine breaks a limit
//! fails, at the latest when this is dropped.

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

/// The bot's own number.
pub const BOT_ID: i64 = 4_242;
/// A token that is let in from the beginning.
pub const TOKEN: &str = "4242:a-token-that-no-log-may-show";
/// The part of it that is secret.
pub const SECRET: &str = "a-token-that-no-log-may-show";

/// A button: what it says, and what its press sends back.
pub type Button = (String, String);

/// A chat.
#[derive(Debug, Clone)]
pub struct Chat {
    pub kind: Kind,
    pub title: String,
    pub administrators: Vec<i64>,
    /// A group that has become a supergroup, which has this number.
    pub moved_to: Option<i64>,
    /// Blocked, or thrown out.
    pub bot_is_out: bool,
    /// Its owner deleted it.
    pub is_deleted: bool,
    /// Members may write, and the bot is no more than one.
    pub may_write: bool,
    /// Of a forum: its topics, the general one under [`GENERAL`].
    pub topics: BTreeMap<i32, Topic>,
}

/// The number of a forum's general topic, which a message that names no topic goes to.
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

/// A request that came, and what became of it. The long poll is not among them.
#[derive(Debug, Clone)]
pub struct Call {
    /// Telegram's name: `sendMessage`.
    pub method: String,
    /// 0 where it has none.
    pub chat: i64,
    /// What a message shows, after its entities.
    pub text: String,
    pub buttons: Vec<Vec<Button>>,
    /// Whether it makes no sound.
    pub silent: bool,
    /// The topic that it names.
    pub topic: Option<i32>,
    /// The message that it answers.
    pub reply_to: Option<i32>,
    /// Whether its text is sent with markup.
    pub is_html: bool,
    /// The message that stands there because of it.
    pub message: Option<i32>,
    /// `ok`, or what it was refused or broken with.
    pub said: String,
    pub body: Value,
    /// Through which address it came.
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

    /// Whether it is a message, sent or edited, to this chat.
    pub fn is_message_to(&self, chat: i64) -> bool {
        self.chat == chat && ["sendMessage", "editMessageText"].contains(&self.method.as_str())
    }

    /// Whether it is a new message to this chat.
    pub fn is_new_to(&self, chat: i64) -> bool {
        self.chat == chat && self.method == "sendMessage"
    }

    /// Whether it changes a message, or its buttons.
    pub fn is_edit(&self) -> bool {
        self.method.starts_with("editMessage")
    }
}

/// The state, and a signal that something has changed in it.
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

/// A running Bot API.
pub struct Telegram {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Telegram {
    /// With a database, whose store 7 has this private chat for everything.
    pub async fn with_chat(chat: i64) -> (Self, Database) {
        let (telegram, database) = (Self::start().await, Database::fresh().await);
        telegram.add_private(chat, "Anna");
        telegram.link(&database, "7", chat, "mirror").await;
        (telegram, database)
    }

    /// Knows no chat yet, and lets [`TOKEN`] in.
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

    /// Another address of the same Bot API: what comes through it is marked with this name.
    pub async fn door(&self, name: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(wire::serve(listener, Arc::clone(&self.shared), name));
        format!("http://{address}")
    }

    /// Its address, for `telegram.api_url`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Settings for an engine that uses it, with the program's own times.
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

    /// A private chat; its number is its person's.
    pub fn add_private(&self, id: i64, name: &str) {
        assert!(id > 0);
        self.add(id, Kind::Private, name, &[]);
    }

    /// A group; its number is negative. Everybody who is no administrator is a member.
    pub fn add_group(&self, id: i64, title: &str, administrators: &[i64]) {
        assert!(id < 0);
        self.add(id, Kind::Group, title, administrators);
    }

    /// Ties a chat to a store in the database, as a code does; the chat's row.
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

    /// The group becomes a supergroup. The old number answers so for ever.
    pub fn migrate(&self, old: i64, new: i64) {
        self.change(|state| {
            let mut chat = state.chats[&old].clone();
            state.chats.get_mut(&old).unwrap().moved_to = Some(new);
            chat.moved_to = None;
            state.chats.insert(new, chat);
        });
    }

    /// A forum with these topics beside the general one; its number is a supergroup's.
    pub fn add_forum(&self, id: i64, title: &str, administrators: &[i64], topics: &[i32]) {
        self.add(id, Kind::Group, title, administrators);
        self.change(|state| {
            let all = topics.iter().chain([&GENERAL]).map(|topic| (*topic, Topic::Open));
            state.chats.get_mut(&id).unwrap().topics = all.collect();
        });
    }

    /// A channel that the bot administers.
    pub fn add_channel(&self, id: i64, title: &str) {
        assert!(id < -1_000_000_000_000);
        self.add(id, Kind::Channel, title, &[]);
    }

    /// A topic is closed, opened again or deleted. Nobody is told but who sends.
    pub fn set_topic(&self, chat: i64, topic: i32, state: Topic) {
        self.change(|all| all.chats.get_mut(&chat).unwrap().topics.insert(topic, state));
    }

    /// Whether members may write, as the night mode of a group says. Nobody is told but who sends.
    pub fn let_write(&self, chat: i64, may: bool) {
        self.change(|state| state.chats.get_mut(&chat).unwrap().may_write = may);
    }

    /// The group is deleted by its owner.
    pub fn delete(&self, chat: i64) {
        self.change(|state| state.chats.get_mut(&chat).unwrap().is_deleted = true);
    }

    /// The bot is in the chat again.
    pub fn take_back(&self, chat: i64) {
        self.change(|state| state.chats.get_mut(&chat).unwrap().bot_is_out = false);
    }

    /// The bot is blocked, or thrown out: 403 from now on. Nobody is told but who sends.
    pub fn throw_out(&self, chat: i64) {
        self.change(|state| state.chats.get_mut(&chat).unwrap().bot_is_out = true);
    }

    /// Another program has the updates posted there.
    pub fn set_webhook(&self, url: &str) {
        self.change(|state| state.webhook = url.into());
    }

    /// A token is good from now on.
    pub fn let_in(&self, token: &str) {
        self.change(|state| state.tokens.insert(token.into()));
    }

    /// A token is not good any more: 401 for every method.
    pub fn shut_out(&self, token: &str) {
        self.change(|state| state.tokens.remove(token));
    }

    /// From now on, so often.
    pub fn fault(&self, on: On, fault: Fault, times: Times) {
        self.change(|state| state.faults.push(fault::Scripted { on, fault, times }));
    }

    /// The time is over for which a chat was to be left alone.
    pub fn let_speak(&self, chat: i64) {
        self.change(|state| state.quiet.retain(|(of, _), _| *of != chat));
    }

    /// What was to go wrong, and has not yet, does not.
    pub fn heal(&self) {
        self.change(|state| state.faults.clear());
    }

    /// What came so far, in order.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.state().calls.clone()
    }

    /// The messages that stand in a chat, in order.
    pub fn messages(&self, chat: i64) -> Vec<(i32, ChatMessage)> {
        let state = self.shared.state();
        let there = state.messages.range((chat, 0)..=(chat, i32::MAX));
        there.map(|((_, number), message)| (*number, message.clone())).collect()
    }

    /// Waits until what came is so.
    pub async fn until_calls(&self, what: &str, is_so: impl Fn(&[Call]) -> bool) {
        self.until_calls_within(PATIENCE, what, is_so).await;
    }

    /// The same with another patience.
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
            panic!("not within {patience:?}: {what}; what came:\n{}", came.join("\n"));
        }
    }

    /// Waits for a call that is so; the first one.
    pub async fn until_call(&self, what: &str, is_so: impl Fn(&Call) -> bool) -> Call {
        self.until_calls(what, |calls| calls.iter().any(&is_so)).await;
        self.calls().into_iter().find(is_so).unwrap()
    }

    /// Waits until so many messages have been sent to a chat or edited there, and were answered `ok`.
    pub async fn until_messages(&self, chat: i64, count: usize) -> Vec<Call> {
        let is_one = |call: &&Call| call.is_message_to(chat) && call.said == "ok";
        self.until_calls(&format!("{count} messages to {chat}"), |calls| {
            calls.iter().filter(is_one).count() >= count
        })
        .await;
        self.calls().into_iter().filter(|call| is_one(&call)).collect()
    }

    /// No limit was broken.
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
