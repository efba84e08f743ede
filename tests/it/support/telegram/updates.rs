//! Actions of people and chats. Each function adds the update of one action, and returns the update's number. The bot
//! gets the update at its next poll.

use serde_json::{Value, json};

use super::{BOT_ID, Telegram};

impl Telegram {
    /// Adds an update, and returns its number.
    pub fn push(&self, mut update: Value) -> i64 {
        self.change(|state| {
            state.update_count += 1;
            update["update_id"] = state.update_count.into();
            state.updates.push_back(update);
            state.update_count
        })
    }

    /// A person writes a message in a chat.
    pub fn write(&self, chat: i64, person: i64, text: &str) -> i64 {
        let there = self.shared.state().chats[&chat].json(chat);
        self.push(
            json!({"message": {"message_id": 900_000 + person, "date": 1_790_000_000, "chat": there,
            "from": someone(person), "text": text}}),
        )
    }

    /// A person replies to an existing message in a chat.
    pub fn reply(&self, chat: i64, person: i64, message: i32, text: &str) -> i64 {
        let (there, replied) = {
            let state = self.shared.state();
            (state.chats[&chat].json(chat), state.message_json(chat, message))
        };
        self.push(
            json!({"message": {"message_id": 900_000 + person, "date": 1_790_000_000, "chat": there,
            "from": someone(person), "reply_to_message": replied, "text": text}}),
        )
    }

    /// A person writes a message in a topic of a forum.
    pub fn write_in(&self, chat: i64, topic: i32, person: i64, text: &str) -> i64 {
        let there = self.shared.state().chats[&chat].json(chat);
        self.push(
            json!({"message": {"message_id": 900_000 + person, "date": 1_790_000_000, "chat": there, "from": someone(person),
            "message_thread_id": topic, "is_topic_message": true, "text": text}}),
        )
    }

    /// A message is posted in a channel. The update names no author except the channel.
    pub fn post(&self, channel: i64, text: &str) -> i64 {
        let there = self.shared.state().chats[&channel].json(channel);
        self.push(
            json!({"channel_post": {"message_id": 900_000, "date": 1_790_000_000, "chat": there, "sender_chat": there, "text": text}}),
        )
    }

    /// A post in a channel replies to an existing message there.
    pub fn post_reply(&self, channel: i64, message: i32, text: &str) -> i64 {
        let (there, replied) = self.change(|state| {
            (
                state.chats[&channel].json(channel),
                state.message_json(channel, message),
            )
        });
        self.push(
            json!({"channel_post": {"message_id": 900_000, "date": 1_790_000_000, "chat": there, "sender_chat": there,
            "author_signature": "Clara", "reply_to_message": replied, "text": text}}),
        )
    }

    /// The bot is added to a chat that it was not in.
    pub fn join(&self, chat: i64, person: i64) -> i64 {
        self.become_member(chat, person, "left", "member")
    }

    /// A person presses a button of an existing message. Returns the number of the update.
    pub fn push_press(&self, chat: i64, person: i64, message: i32, data: &str) -> i64 {
        let (there, name) = self.change(|state| {
            let name = format!("press-{}", state.update_count + 1);
            state.presses.insert(name.clone());
            (state.message_json(chat, message), name)
        });
        self.push(
            json!({"callback_query": {"id": name, "from": someone(person), "message": there,
            "chat_instance": "1", "data": data}}),
        )
    }

    /// The bot's membership of a chat changes. `status` is Telegram's word: `member`, `kicked` or `left`.
    pub fn change_membership(&self, chat: i64, person: i64, status: &str) -> i64 {
        self.become_member(chat, person, "member", status)
    }

    fn become_member(&self, chat: i64, person: i64, before: &str, status: &str) -> i64 {
        let there = self.shared.state().chats[&chat].json(chat);
        let bot = json!({"id": BOT_ID, "is_bot": true, "first_name": "Vestnik", "username": "vestnik_test_bot"});
        let mut new = json!({"status": status, "user": bot});
        if status == "kicked" {
            new["until_date"] = 0.into();
        }
        self.push(
            json!({"my_chat_member": {"chat": there, "from": someone(person), "date": 1_790_000_000,
            "old_chat_member": {"status": before, "user": bot}, "new_chat_member": new}}),
        )
    }
}

/// A person in the form of the Bot API. Tests search logs for `Person`, because a log must not contain names.
fn someone(person: i64) -> Value {
    json!({"id": person, "is_bot": false, "first_name": format!("Person{person}"), "language_code": "en"})
}
