//! Two stores whose chats get a message about each order. The test checks that these messages arrive.

use tokio::time::timeout;

use crate::oracle::Trial;
use crate::support::app::PATIENCE;
use crate::support::db::Database;
use crate::support::look_again;
use crate::support::telegram::{Fault, On, Taken, Telegram, Times};

/// The stores, and the chat of each store. No other writer writes orders of these stores.
const CHATS: [(i64, i64); 2] = [(4, 904), (5, 905)];
/// The number of orders that each store gets during a failure of Telegram.
const ORDERS_IN_FAILURE: usize = 2;
/// The number of orders that each store gets after the last fault. The chat must get exactly one message about each.
const ORDERS_AT_END: usize = 2;
/// Gives the stores a day to answer an order. Nobody answers, and a reminder would be a second message about the order.
const NO_REMINDERS: &str = "update vestnik.vst_store set answer_seconds = 86400";

/// A committed order that is still unanswered.
struct Order {
    id: i64,
    tag: String,
    store: i64,
    chat: i64,
    /// Whether the order was written after the last fault.
    is_last: bool,
}

/// The fake Bot API, and the orders about which it must get messages.
pub struct Told {
    pub telegram: Telegram,
    orders: Vec<Order>,
    written: usize,
    /// The number of times that the database lost commits.
    losses: usize,
}

impl Told {
    pub async fn begin(database: &Database) -> Self {
        let telegram = Telegram::start().await;
        for (store, chat) in CHATS {
            telegram.add_private(chat, "Anna");
            telegram.link(database, &store.to_string(), chat, "mirror").await;
        }
        database.client().await.batch_execute(NO_REMINDERS).await.unwrap();
        Self {
            telegram,
            orders: Vec::new(),
            written: 0,
            losses: 0,
        }
    }

    /// Writes `count` orders of each store.
    pub async fn write(&mut self, trial: &Trial, count: usize) {
        for (store, chat) in CHATS.into_iter().cycle().take(count * CHATS.len()) {
            self.written += 1;
            let tag = format!("told-{store}-{}", self.written);
            // Without an id, the outcome of the commit is unknown. The bot may send a message about this order, but
            // need not.
            if let Some(id) = trial.order(store, &tag).await {
                let is_last = false;
                self.orders.push(Order {
                    id,
                    tag,
                    store,
                    chat,
                    is_last,
                });
            }
        }
    }

    /// Forgets the orders that the database has lost.
    pub fn forget_lost(&mut self, trial: &Trial) {
        self.losses += 1;
        self.orders.retain(|order| trial.is_kept(&order.tag));
    }

    /// Lets Telegram fail in a random way while orders are written, until the nodes have noticed the failure.
    pub async fn fail(&mut self, trial: &Trial, random: &mut fastrand::Rng) {
        let (_, chat) = CHATS[random.usize(..CHATS.len())];
        let (on, fault, times) = match random.u8(..4) {
            0 => (On::Everything, Fault::bad_gateway(), Times::Always),
            1 => (On::Everything, Fault::Hang(Taken::No), Times::Always),
            2 => (On::Chat(chat), Fault::too_many(2), Times::Some(1)),
            _ => (On::Chat(chat), Fault::Reset(Taken::Yes), Times::Some(1)),
        };
        let before = self.telegram.calls().len();
        self.telegram.fault(on, fault, times);
        self.write(trial, ORDERS_IN_FAILURE).await;
        let failed = |calls: &[crate::support::telegram::Call]| calls[before..].iter().any(|call| call.said != "ok");
        self.telegram.until_calls("a request that fails", failed).await;
        self.telegram.heal();
    }

    /// Writes the last orders, and waits until each order is in the chat of its store. Returns a summary.
    pub async fn judge(mut self, trial: &Trial, faults: usize) -> String {
        let before = self.orders.len();
        self.write(trial, ORDERS_AT_END).await;
        assert_eq!(
            self.orders.len() - before,
            ORDERS_AT_END * CHATS.len(),
            "no fault is left"
        );
        self.orders[before..].iter_mut().for_each(|order| order.is_last = true);
        let waited = timeout(PATIENCE * 2, async {
            while !self.orders.iter().all(|order| self.copies(order) > 0) {
                look_again().await;
            }
        });
        if waited.await.is_err() {
            let missing = self.orders.iter().filter(|order| self.copies(order) == 0);
            panic!("never told: {:?}", missing.map(|order| &order.tag).collect::<Vec<_>>());
        }
        // The time of a chat's last message is in the database. If the database has lost it, the next message may come
        // too early.
        let violations = self.telegram.take_violations();
        assert!(violations.len() <= self.losses * CHATS.len(), "{violations:#?}");
        let repeats: usize = self.orders.iter().map(|order| self.copies(order) - 1).sum();
        for order in &self.orders {
            let copies = self.copies(order);
            assert!(copies == 1 || !order.is_last, "{} came {copies} times", order.tag);
            for (_, chat) in CHATS.into_iter().filter(|(store, _)| *store != order.store) {
                for (_, message) in self.telegram.messages(chat) {
                    let is_here = message.text.contains(&order.tag);
                    assert!(!is_here, "{} in the chat of another store: {}", order.tag, message.text);
                }
            }
        }
        // If a node could not save the result of a send, the send is repeated. One fault can interrupt one send to each
        // chat.
        let most = faults * CHATS.len();
        assert!(repeats <= most, "{repeats} repeated messages in {faults} faults");
        format!(
            "{} orders told in their chats, {repeats} of them again",
            self.orders.len()
        )
    }

    /// The number of messages that name an order in its store's chat.
    fn copies(&self, order: &Order) -> usize {
        let messages = self.telegram.messages(order.chat);
        messages
            .iter()
            .filter(|(_, message)| announces(&message.text, order))
            .count()
    }
}

/// Whether a text announces the order. A message about one order contains the order's tag. A list contains only ids.
/// After a loss of commits, another order may have the same id, so a message with only the id does not count.
fn announces(text: &str, order: &Order) -> bool {
    let has = |words: &str| {
        text.match_indices(words)
            .any(|(at, _)| !text[at + words.len()..].starts_with(|next: char| next.is_ascii_digit()))
    };
    has(&order.tag) || has(&format!("- new order #{}", order.id))
}
