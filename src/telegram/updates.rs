//! Handles the updates of Telegram: texts, presses of buttons, and changes of a chat. Updates of one chat are handled
//! one after another, updates of different chats in parallel. So a chat does not wait for another chat whose shop has
//! locked a row, or for which Telegram responds slowly.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use teloxide::types::{ChatMemberUpdated, Message, Update, UpdateKind};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::bot::Bot;
use super::callback_query;
use super::chat::author;
use super::command::Commands;
use crate::delivery::shared_bot;
use crate::delivery::{chat_state, supergroup};
use crate::infra::backoff::Backoff;
use crate::infra::db::QueryError;

/// The most attempts to handle an update. After the last attempt the update is dropped, so that it does not block later
/// updates.
const ATTEMPTS: u32 = 3;
/// The most chats whose updates are handled at the same time. Each of these chats may need a database connection of the
/// pool.
const CHATS_AT_ONCE: usize = 16;
/// The most updates that this node keeps in its queue, including those that it handles now. While there are so many,
/// this node does not poll.
const MOST_WAITING: usize = 1000;

/// The queued updates, by the chat's id at Telegram. A chat has an entry exactly while a task handles its updates.
#[derive(Default)]
struct Waiting {
    chats: HashMap<i64, VecDeque<shared_bot::Update>>,
    /// The ids of all updates that are queued, or that a task handles now.
    ids: HashSet<i64>,
}

/// The queue of updates of this node, and the tasks that handle them.
#[derive(Clone)]
pub(super) struct Updates {
    bot: Arc<Bot>,
    waiting: Arc<Mutex<Waiting>>,
    at_once: Arc<Semaphore>,
    tasks: TaskTracker,
}

impl Updates {
    pub fn new(bot: Arc<Bot>) -> Self {
        Self {
            bot,
            waiting: Arc::default(),
            at_once: Arc::new(Semaphore::new(CHATS_AT_ONCE)),
            tasks: TaskTracker::new(),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this node already has `MOST_WAITING` updates. If so, it must not poll for more.
    pub fn is_full(&self) -> bool {
        self.waiting().ids.len() >= MOST_WAITING
    }

    /// Queues these updates, and starts tasks that handle them. The caller has saved the updates in Postgres. A task
    /// deletes each update from Postgres after it was handled.
    pub fn handle_all(&self, updates: Vec<shared_bot::Update>) {
        for update in updates {
            let chat = chat_of(&update.body);
            let mut waiting = self.waiting();
            if !waiting.ids.insert(update.id) {
                continue;
            }
            if let Some(queue) = waiting.chats.get_mut(&chat) {
                queue.push_back(update);
                continue;
            }
            waiting.chats.insert(chat, VecDeque::from([update]));
            self.tasks.spawn(self.clone().chat(chat));
        }
    }

    /// Empties the queue, and waits until the running tasks have handled their current updates. The updates of the
    /// queue stay in Postgres, so another node handles them.
    pub async fn stop(&self) {
        self.waiting().chats.values_mut().for_each(VecDeque::clear);
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Handles the queued updates of a chat, until none is left.
    async fn chat(self, chat: i64) {
        loop {
            let next = {
                let mut waiting = self.waiting();
                let next = waiting.chats.get_mut(&chat).and_then(VecDeque::pop_front);
                if next.is_none() {
                    waiting.chats.remove(&chat);
                }
                next
            };
            let Some(update) = next else { return };
            if let Ok(_one) = self.at_once.acquire().await {
                self.update(&update).await;
            }
            self.waiting().ids.remove(&update.id);
        }
    }

    /// Handles an update, with at most `ATTEMPTS` attempts, and deletes it from Postgres. If the update cannot be
    /// deleted, it is handled again later.
    async fn update(&self, stored: &shared_bot::Update) {
        // Ignore an update that teloxide cannot parse, because Telegram often adds new kinds of updates.
        let update: Option<Update> = serde_json::from_str(&stored.body).ok();
        if let Some(update) = &update {
            self.with_retries(update).await;
        }
        let mut backoff = Backoff::new();
        for _ in 0..ATTEMPTS {
            match shared_bot::dealt_with(&self.bot.pool, stored.id).await {
                Ok(()) => return,
                Err(error) => {
                    tracing::debug!(%error, update = stored.id, "an update was not removed yet");
                    tokio::time::sleep(backoff.next_pause()).await;
                }
            }
        }
    }

    async fn with_retries(&self, update: &Update) {
        let mut backoff = Backoff::new();
        let mut tries = 0;
        loop {
            let Err(error) = self.handle(update).await else { return };
            tries += 1;
            if error.is_transient() && tries < ATTEMPTS {
                tokio::time::sleep(backoff.next_pause()).await;
                continue;
            }
            metrics::counter!("vestnik_telegram_updates_given_up_total").increment(1);
            tracing::error!(%error, update = update.id.0, tries, "an update was given up after its retries");
            if let UpdateKind::CallbackQuery(query) = &update.kind {
                callback_query::failed(&self.bot, query);
            }
            return;
        }
    }

    async fn handle(&self, update: &Update) -> Result<(), QueryError> {
        let bot = &*self.bot;
        match &update.kind {
            UpdateKind::Message(message) | UpdateKind::ChannelPost(message) => self.message(message).await,
            UpdateKind::CallbackQuery(query) => callback_query::press(bot, query).await,
            UpdateKind::MyChatMember(change) => self.membership(change).await,
            _ => Ok(()),
        }
    }

    async fn message(&self, message: &Message) -> Result<(), QueryError> {
        let bot = &*self.bot;
        let chat = message.chat.id.0;
        let to = message.migrate_to_chat_id();
        if let Some(to) = to {
            supergroup::migrated(&bot.pool, &bot.sources, chat, to.0).await?;
        }
        if let Some(from) = message.migrate_from_chat_id() {
            supergroup::migrated(&bot.pool, &bot.sources, from.0, chat).await?;
        }
        // If somebody writes in a chat, the chat takes messages again. The service message about a reopened topic also
        // arrives here.
        self.enable_chat(to.map_or(chat, |to| to.0)).await?;
        let reason = message.text().filter(|text| !text.starts_with('/'));
        if let (Some(there), Some(reason)) = (message.reply_to_message(), reason)
            && let Some(said) = callback_query::reason(bot, chat, there.id.0, &author(message), reason).await?
        {
            return Commands { bot }.reply(message, &said, None).await;
        }
        Commands { bot }.handle(message).await
    }

    async fn enable_chat(&self, chat: i64) -> Result<(), QueryError> {
        if chat_state::enable(&self.bot.pool, &self.bot.sources, chat)
            .await?
            .is_any()
        {
            self.bot.enqueued.notify_one();
        }
        Ok(())
    }

    /// Handles a change of the bot's membership in a chat: the bot was added, removed or blocked, or its rights
    /// changed.
    async fn membership(&self, change: &ChatMemberUpdated) -> Result<(), QueryError> {
        const OUT: &str = "the bot was blocked, or removed from the chat";
        let chat = change.chat.id.0;
        if change.new_chat_member.kind.is_present() {
            self.enable_chat(chat).await?;
            if !change.old_chat_member.kind.is_present() {
                let bot = &*self.bot;
                let language = change.from.language_code.as_deref();
                Commands { bot }.greet(&change.chat, language).await?;
            }
            return Ok(());
        }
        if chat_state::disable(&self.bot.pool, chat, OUT).await?.is_any() {
            self.bot.enqueued.notify_one();
        }
        Ok(())
    }
}

/// The id of the chat in an update. 0: the update has no chat.
fn chat_of(body: &str) -> i64 {
    #[derive(serde::Deserialize)]
    struct Chat {
        id: i64,
    }
    #[derive(serde::Deserialize)]
    struct InChat {
        chat: Option<Chat>,
    }
    #[derive(serde::Deserialize)]
    struct Query {
        message: Option<InChat>,
    }
    #[derive(serde::Deserialize)]
    struct Kinds {
        message: Option<InChat>,
        channel_post: Option<InChat>,
        my_chat_member: Option<InChat>,
        callback_query: Option<Query>,
    }
    let Ok(kinds) = serde_json::from_str::<Kinds>(body) else {
        return 0;
    };
    let pressed = kinds.callback_query.and_then(|query| query.message);
    let place = kinds
        .message
        .or(kinds.channel_post)
        .or(kinds.my_chat_member)
        .or(pressed);
    place.and_then(|place| place.chat).map_or(0, |chat| chat.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chat_of_an_update_is_found_in_each_kind_of_them() {
        for (body, chat) in [
            (
                r#"{"update_id":1,"message":{"chat":{"id":7,"type":"private"},"text":"x"}}"#,
                7,
            ),
            (r#"{"update_id":1,"channel_post":{"chat":{"id":-100}}}"#, -100),
            (r#"{"update_id":1,"my_chat_member":{"chat":{"id":-5}}}"#, -5),
            (
                r#"{"update_id":1,"callback_query":{"id":"1","message":{"chat":{"id":8}}}}"#,
                8,
            ),
            (r#"{"update_id":1,"callback_query":{"id":"1"}}"#, 0),
            (r#"{"update_id":1,"message":5}"#, 0),
            (r#"{"update_id":1,"brand_new":{}}"#, 0),
        ] {
            assert_eq!(chat_of(body), chat, "{body}");
        }
    }
}
