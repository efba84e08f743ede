//! Deals with what people wrote and pressed: of one chat one after the other, of different chats side by side, so that
//! nobody waits for another shop's row, or for Telegram's answer to somebody else.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use teloxide::types::{ChatMemberUpdated, Message, Update, UpdateKind};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::callback_query;
use super::command::Commands;
use super::update_poller::Bot;
use crate::delivery::shared_bot;
use crate::delivery::{chat_state, migrate};
use crate::infra::backoff::Backoff;
use crate::infra::db::QueryError;

/// Attempts to deal with an update. One that cannot be dealt with must not keep those behind it for ever.
const ATTEMPTS: u32 = 3;
/// Chats whose updates are dealt with at once: each takes a connection of the pool now and then.
const CHATS_AT_ONCE: usize = 16;
/// Updates that may wait in this node; then it polls no more until some are through.
const MOST_WAITING: usize = 1000;

/// Those that wait, by chat. A chat is there while a task of its own deals with its updates.
#[derive(Default)]
struct Waiting {
    chats: HashMap<i64, VecDeque<shared_bot::Update>>,
    /// All that wait or are being dealt with.
    ids: HashSet<i64>,
}

/// Deals with updates.
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

    /// Whether as many wait as may.
    pub fn is_full(&self) -> bool {
        self.waiting().ids.len() >= MOST_WAITING
    }

    /// Updates that are stored: they are dealt with, and removed.
    pub fn deal_with(&self, updates: Vec<shared_bot::Update>) {
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

    /// Waits for what is being dealt with; what waits behind it is left to the next node.
    pub async fn stop(&self) {
        self.waiting().chats.values_mut().for_each(VecDeque::clear);
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Deals with all that waits for a chat.
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

    /// Deals with one, or gives it up. Where it cannot be removed afterwards, it is dealt with again some day: every one may
    /// be repeated.
    async fn update(&self, stored: &shared_bot::Update) {
        // Telegram sends new kinds of things every few months.
        let update: Option<Update> = serde_json::from_str(&stored.body).ok();
        if let Some(update) = &update {
            self.with_patience(update).await;
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

    async fn with_patience(&self, update: &Update) {
        let mut backoff = Backoff::new();
        let mut tries = 0;
        loop {
            let Err(error) = self.hear(update).await else { return };
            tries += 1;
            if error.is_transient() && tries < ATTEMPTS {
                tokio::time::sleep(backoff.next_pause()).await;
                continue;
            }
            metrics::counter!("vestnik_telegram_updates_given_up_total").increment(1);
            tracing::error!(%error, update = update.id.0, tries, "what somebody wrote or pressed was given up");
            if let UpdateKind::CallbackQuery(query) = &update.kind {
                callback_query::failed(&self.bot, query);
            }
            return;
        }
    }

    async fn hear(&self, update: &Update) -> Result<(), QueryError> {
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
        if let Some(to) = message.migrate_to_chat_id() {
            migrate::migrated(&bot.pool, chat, to.0).await?;
        }
        if let Some(from) = message.migrate_from_chat_id() {
            migrate::migrated(&bot.pool, from.0, chat).await?;
        }
        // Whoever writes has not blocked the bot; and a topic that is opened again says so.
        self.heard_from(chat).await?;
        let reason = message.text().filter(|text| !text.starts_with('/'));
        if let (Some(there), Some(from), Some(reason)) = (message.reply_to_message(), &message.from, reason)
            && let Some(said) = callback_query::reason(bot, chat, there.id.0, from, reason).await?
        {
            return Commands { bot }.say(message, &said, None).await;
        }
        Commands { bot }.obey(message).await
    }

    async fn heard_from(&self, chat: i64) -> Result<(), QueryError> {
        if chat_state::hear(&self.bot.pool, &self.bot.sources, chat)
            .await?
            .is_any()
        {
            self.bot.planned.notify_one();
        }
        Ok(())
    }

    /// The bot was thrown out or blocked, or is let in again, or has other rights.
    async fn membership(&self, change: &ChatMemberUpdated) -> Result<(), QueryError> {
        const OUT: &str = "the bot was blocked, or removed from the chat";
        let chat = change.chat.id.0;
        if change.new_chat_member.kind.is_present() {
            self.heard_from(chat).await?;
            if !change.old_chat_member.kind.is_present() {
                let bot = &*self.bot;
                let language = change.from.language_code.as_deref();
                Commands { bot }.greet(&change.chat, language).await?;
            }
            return Ok(());
        }
        if chat_state::disable(&self.bot.pool, chat, OUT).await?.is_any() {
            self.bot.planned.notify_one();
        }
        Ok(())
    }
}

/// The chat that an update comes from; 0 where it comes from none.
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
