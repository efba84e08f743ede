//! Reads facts about the chat in which a message was written: the chat's name, topic, language and stores, and the
//! pauses of these stores. A link connects a chat with a store.

use teloxide::types::{Chat, Message};

use crate::delivery::chat_links::ChatLink;
use crate::text::catalog::{self, Catalog};
use crate::text::html::render_template;
use crate::text::value::moment;

/// Maximum length of a person's name when it is saved, characters. A longer name is cut.
pub(super) const NAME_CHARACTERS: usize = 60;

/// The id of the forum topic in which a message was written. `None`: no topic.
pub(super) fn topic(message: &Message) -> Option<i32> {
    let topic = message.thread_id.map(|topic| topic.0.0);
    // In a chat that is no forum, a thread id only means a chain of replies.
    topic.filter(|_| message.is_topic_message)
}

/// The catalog of texts for a chat, in the language of the chat's first store. If the chat has no store, the language
/// is `language_code`, which is the language of the person's Telegram app.
pub(super) fn words_of(links: &[ChatLink], language_code: Option<&str>) -> &'static Catalog {
    match links.first() {
        Some(link) => catalog::of_store(&link.language, &link.store),
        None => catalog::of(catalog::known(language_code)),
    }
}

/// Selects the links to stores that count for a message in this topic: the links of the same topic. If the topic has no
/// link, selects all links of the chat.
pub(super) fn of_topic(links: &[ChatLink], topic: Option<i32>) -> Vec<ChatLink> {
    let here: Vec<ChatLink> = links.iter().filter(|link| link.topic == topic).cloned().collect();
    if here.is_empty() { links.to_vec() } else { here }
}

/// The title of a group, or the name of the person in a private chat, or the chat's user name. `None`: the chat has
/// none of these.
pub(super) fn name(chat: &Chat) -> Option<String> {
    let person = [chat.first_name(), chat.last_name()];
    let person: Vec<&str> = person.into_iter().flatten().collect();
    let person = (!person.is_empty()).then(|| person.join(" "));
    let title = chat.title().map(str::to_owned);
    title
        .or(person)
        .or_else(|| chat.username().map(|name| format!("@{name}")))
}

/// The name of the person who wrote a message. For a post in a channel: the author's signature, or the channel's title
/// if the post is not signed.
pub(super) fn author(message: &Message) -> String {
    let person = message.from.as_ref().map(|from| from.full_name());
    let signature = message.author_signature().map(str::to_owned);
    person.or(signature).or_else(|| name(&message.chat)).unwrap_or_default()
}

/// Returns a line that says until when the link's store is paused. `None`: the store is not paused.
pub(super) fn pause_of(words: &Catalog, link: &ChatLink) -> Option<String> {
    let time = moment(link.paused_until?, &link.time_zone, words);
    let store = link.store_name.as_deref().unwrap_or(&link.store);
    Some(render_template(
        words.get("pause.current"),
        &[("store", store), ("time", &time)],
    ))
}
