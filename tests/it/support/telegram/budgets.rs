//! Telegram's limits for a bot: 30 messages a second to all chats together, one message a second to one chat, and 20
//! messages a minute to one group.
//!
//! The fake counts messages in sliding windows, in the order in which it reads the requests. The fake counts the
//! messages of all nodes, and also messages that the fake refuses. New messages and edits count, even an edit of only
//! the buttons. Answers to button presses and requests that only read do not count.
//!
//! **The check has no tolerance**, and needs none. The engine measures its pauses from the *end* of a send, which is
//! later than the moment at which the fake counts the message. The engine also waits longer than the window. A slow
//! machine therefore only makes the intervals between messages longer.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

const A_SECOND: Duration = Duration::from_secs(1);
const A_MINUTE: Duration = Duration::from_secs(60);
const BOT_A_SECOND: usize = 30;
const CHAT_A_SECOND: usize = 1;
const GROUP_A_MINUTE: usize = 20;

/// The times of one bot's recent messages, for each limit.
#[derive(Debug, Default)]
pub struct Budgets {
    bot: VecDeque<Instant>,
    chats: HashMap<i64, VecDeque<Instant>>,
    groups: HashMap<i64, VecDeque<Instant>>,
}

impl Budgets {
    /// Counts a message to `chat`, and returns a description of each limit that the message breaks.
    pub fn arrive(&mut self, chat: i64, now: Instant) -> Vec<String> {
        let mut broken = Vec::new();
        let mut check = |arrivals: &mut VecDeque<Instant>, span: Duration, limit: usize, of: String| {
            while arrivals.front().is_some_and(|first| now.duration_since(*first) >= span) {
                arrivals.pop_front();
            }
            arrivals.push_back(now);
            if arrivals.len() > limit {
                broken.push(format!("{of}: {} messages within {} s", arrivals.len(), span.as_secs()));
            }
        };
        check(&mut self.bot, A_SECOND, BOT_A_SECOND, "the bot".into());
        let of_chat = self.chats.entry(chat).or_default();
        check(of_chat, A_SECOND, CHAT_A_SECOND, format!("chat {chat}"));
        if chat < 0 {
            let of_group = self.groups.entry(chat).or_default();
            check(of_group, A_MINUTE, GROUP_A_MINUTE, format!("group {chat}"));
        }
        broken
    }
}

#[test]
fn each_limit_is_noticed_when_it_is_broken_and_not_before() {
    let begin = Instant::now();
    let at = |milliseconds: u64| begin + Duration::from_millis(milliseconds);
    let mut budgets = Budgets::default();
    assert!(budgets.arrive(5, at(0)).is_empty());
    assert!(budgets.arrive(5, at(1000)).is_empty());
    assert_eq!(budgets.arrive(5, at(1999)), ["chat 5: 2 messages within 1 s"]);
    let mut budgets = Budgets::default();
    for number in 0..20 {
        assert!(budgets.arrive(-7, at(1000 * number)).is_empty());
    }
    assert_eq!(budgets.arrive(-7, at(59_999)), ["group -7: 21 messages within 60 s"]);
    let mut budgets = Budgets::default();
    for chat in 1..=30 {
        assert!(budgets.arrive(chat, at(chat.unsigned_abs())).is_empty());
    }
    assert_eq!(budgets.arrive(31, at(1000)), ["the bot: 31 messages within 1 s"]);
}
