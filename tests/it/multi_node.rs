//! Several nodes, as processes, on one database. The tests kill, stop or disconnect nodes. No message to a chat may be
//! lost, and the nodes together may break no limit of Telegram.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::oracle::seed;
use crate::support::app::PATIENCE;
use crate::support::db::{Database, until, until_within};
use crate::support::http::call;
use crate::support::node::{CUSTOMER, Node};
use crate::support::proxy::Proxy;
use crate::support::telegram::{Call, Fault, On, Telegram, Times};

const CHAT: i64 = 701;
/// A short lease of a send: other nodes soon send the messages that a killed node had begun to send. The deadline is
/// long enough for a busy machine.
const SHORT: [(&str, &str); 2] = [("TELEGRAM_DEADLINE_SECONDS", "10"), ("TELEGRAM_LEASE_SECONDS", "12")];

/// The longest wait until a node has sent all messages after the other node was killed. The wait includes a lease.
const ALL_SENT_WITHIN: Duration = Duration::from_secs(120);

/// Makes each message wait a minute less. A message that has waited for long, for example for the end of the lease of a
/// killed node, would come after newer messages.
const STAY_FRESH: &str = "create function stay_fresh() returns trigger language plpgsql as $$ begin \
         new.waits_since := new.waits_since + interval '1 minute'; return new; end $$; \
     create trigger stay_fresh before insert on vestnik.vst_delivery for each row execute function stay_fresh()";

/// The order numbers in the messages of a chat, in the order in which the messages arrived.
fn orders(calls: &[Call], chat: i64) -> Vec<usize> {
    let told = |call: &Call| {
        let (_, rest) = call.text.split_once("New order #")?;
        rest.lines().next()?.parse().ok()
    };
    let stands = |call: &&Call| call.is_message_to(chat) && call.message.is_some();
    calls.iter().filter(stands).filter_map(told).collect()
}

/// Starts `kills` nodes one after the other. Each node is killed at its first send, either before or shortly after
/// Telegram's response. Returns the number of messages that arrived twice.
async fn kill_nodes(kills: usize, random: &mut fastrand::Rng) -> usize {
    let (telegram, database) = Telegram::with_chat(CHAT).await;
    let client = database.client().await;
    let victim: Arc<Mutex<Option<Pid>>> = Arc::default();
    for number in 1..=kills {
        let insert = "insert into orders (store_id, customer_name) values (7, $1)";
        client.execute(insert, &[&CUSTOMER]).await.unwrap();
        let pid = Arc::clone(&victim);
        let runtime = tokio::runtime::Handle::current();
        let yields = random.usize(0..200);
        let after_the_answer = random.bool();
        let kill = move || {
            let pid = pid.lock().unwrap().take().expect("a node");
            if after_the_answer {
                runtime.spawn(async move {
                    for _ in 0..yields {
                        tokio::task::yield_now().await;
                    }
                    let _ = kill_process(pid, Signal::KILL);
                });
            } else {
                let _ = kill_process(pid, Signal::KILL);
            }
        };
        telegram.fault(On::Messages, Fault::Run(Arc::new(kill)), Times::Some(1));
        // The lock makes the fault wait until the test knows the node's process.
        let mut node = {
            let mut victim = victim.lock().unwrap();
            let node = Node::start(database.url(), &telegram.url(), &SHORT);
            *victim = Some(node.pid());
            node
        };
        telegram
            .until_calls("a send", |calls| {
                calls.iter().filter(|call| call.said == "ran").count() >= number
            })
            .await;
        assert!(!node.ended().await.success());
        // End the lease of the killed node at once. Telegram's limits still apply in real time.
        let over = "update vestnik.vst_chat set leased_until = clock_timestamp() where leased_until > '-infinity'";
        client.batch_execute(over).await.unwrap();
    }
    let _node = Node::start(database.url(), &telegram.url(), &SHORT);
    until(&client, "select bool_and(state = 'sent') from vestnik.vst_delivery").await;
    let told = orders(&telegram.calls(), CHAT);
    for number in 1..=kills {
        assert!(told.contains(&number), "order {number} is lost: {told:?}");
    }
    told.len() - kills
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nodes_are_killed_fifty_times_between_send_and_settlement_and_nothing_is_lost() {
    const LANES: u64 = 5;
    const KILLS: usize = 10;
    let seed = seed();
    let lanes = (0..LANES).map(|lane| async move {
        let mut random = fastrand::Rng::with_seed(seed.wrapping_add(lane));
        kill_nodes(KILLS, &mut random).await
    });
    let mut repeats = 0;
    for repeated in futures::future::join_all(lanes).await {
        assert!(repeated <= KILLS, "{repeated} repeats in {KILLS} kills");
        repeats += repeated;
    }
    assert!(
        repeats > 0,
        "no kill fell between a send and its completion, so this run proves nothing"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_keep_the_limits_together_and_one_may_be_killed() {
    const CHATS: i64 = 40;
    const ORDERS: usize = 3;
    let (telegram, database) = (Telegram::start().await, Database::fresh().await);
    for chat in 1..=CHATS {
        telegram.add_private(chat, "Anna");
        telegram.link(&database, &chat.to_string(), chat, "mirror").await;
    }
    let (one, other) = (telegram.door("one").await, telegram.door("other").await);
    let mut first = Node::serving(&database, &one, &SHORT).await;
    let second = Node::serving(&database, &other, &SHORT).await;
    let client = database.client().await;
    client.batch_execute(STAY_FRESH).await.unwrap();
    for _ in 0..ORDERS {
        let insert =
            format!("insert into orders (store_id, customer_name) select s, $1 from generate_series(1, {CHATS}) s");
        client.execute(&insert, &[&CUSTOMER]).await.unwrap();
    }
    let half = CHATS as usize * ORDERS / 2;
    let sent = |calls: &[Call], door: &str| {
        let sent = |call: &&Call| call.message.is_some() && call.door == door;
        calls.iter().filter(sent).count()
    };
    telegram
        .until_calls("half of them, from both nodes", |calls| {
            let (one, other) = (sent(calls, "one"), sent(calls, "other"));
            one > 5 && other > 5 && one + other >= half
        })
        .await;
    first.kill();
    until_within(
        &client,
        ALL_SENT_WITHIN,
        &format!("select count(*) = {CHATS} * {ORDERS} and bool_and(state = 'sent') from vestnik.vst_delivery"),
    )
    .await;
    let calls = telegram.calls();
    for chat in 1..=CHATS {
        let mut told = orders(&calls, chat);
        assert!(
            told.len() <= ORDERS + 1,
            "only what was on its way may come twice: {told:?}"
        );
        assert!(told.is_sorted(), "the order of a chat holds: {told:?}");
        told.dedup();
        assert_eq!(told.len(), ORDERS, "chat {chat}: {told:?}");
    }
    telegram.assert_no_violation();
    second.signal(Signal::TERM);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_stopped_for_longer_than_its_lease_sends_nothing_any_more() {
    let (telegram, database) = Telegram::with_chat(CHAT).await;
    let client = database.client().await;
    let (proxy, url) = Proxy::before(&database).await;
    let (stopped_door, other_door) = (telegram.door("stopped").await, telegram.door("other").await);
    let stopped = Node::start(&url, &stopped_door, &SHORT);
    stopped.until_said("serving").await;
    // The node takes the lease of the chat in a transaction. The test stops the node before the node receives the
    // result of the COMMIT.
    proxy.hold_next("set state = 'sending', attempts", "COMMIT");
    let insert = "insert into orders (store_id, customer_name) values (7, $1)";
    client.execute(insert, &[&CUSTOMER]).await.unwrap();
    proxy.until_held().await;
    stopped.stop().await;
    proxy.let_go();
    until(&client, "select leased_until > '-infinity' from vestnik.vst_chat").await;
    let other = Node::serving(&database, &other_door, &SHORT).await;
    let call = telegram.until_call("the send", |call| call.is_message_to(CHAT)).await;
    assert_eq!(call.door, "other");
    stopped.signal(Signal::CONT);
    // After it continues, the node either learns that its lease has ended, or gives up the wait for its COMMIT.
    tokio::select! {
        _ = stopped.until_said("a send outlived its lease") => {}
        _ = stopped.until_said("nothing can be claimed for sending") => {}
    }
    client.execute(insert, &[&CUSTOMER]).await.unwrap();
    until(
        &client,
        "select count(*) = 2 and bool_and(state = 'sent') from vestnik.vst_delivery",
    )
    .await;
    assert_eq!(orders(&telegram.calls(), CHAT), [1, 2]);
    drop((other, stopped));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_falls_silent_within_a_transaction_holds_up_no_other() {
    // The node's connection to Postgres stops passing data at one of three steps. In these steps, the node enqueues a
    // message, takes the lease of a chat, and records the end of a send.
    for words in [
        "update vestnik.vst_delivery_cursor",
        "set state = 'sending', attempts",
        "completed_at = case",
    ] {
        let (telegram, database) = Telegram::with_chat(CHAT).await;
        let client = database.client().await;
        let (proxy, url) = Proxy::before(&database).await;
        let silent = Node::start(&url, &telegram.door("silent").await, &SHORT);
        silent.until_said("serving").await;
        proxy.silence_next(words);
        let insert = "insert into orders (store_id, customer_name) values (7, $1)";
        client.execute(insert, &[&CUSTOMER]).await.unwrap();
        proxy.until_silenced().await;
        silent.stop().await;
        let other = Node::serving(&database, &telegram.door("other").await, &SHORT).await;
        until(
            &client,
            "select count(*) = 1 and bool_and(state = 'sent') from vestnik.vst_delivery",
        )
        .await;
        assert!(
            telegram
                .calls()
                .iter()
                .any(|call| call.door == "other" && call.is_message_to(CHAT)),
            "{words}"
        );
        drop((other, silent));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_not_let_in_stops_the_bot_which_is_an_alarm_and_a_good_one_starts_it() {
    let (telegram, database) = Telegram::with_chat(CHAT).await;
    let client = database.client().await;
    let mut node = Node::serving(&database, &telegram.url(), &[]).await;
    node.until_metric("vestnik_telegram_stopped", |stopped| stopped == 0.0)
        .await;
    telegram.shut_out(crate::support::telegram::TOKEN);
    let insert = "insert into orders (store_id, customer_name) values (7, $1)";
    client.execute(insert, &[&CUSTOMER]).await.unwrap();
    let line = node.until_said("the bot is stopped").await;
    assert!(line.contains("ERROR"), "{line}");
    node.until_metric("vestnik_telegram_stopped", |stopped| stopped == 1.0)
        .await;
    node.until_metric("vestnik_telegram_oldest_delivery_age_seconds", |age| age > 0.0)
        .await;
    until(
        &client,
        "select state in ('pending', 'retrying') from vestnik.vst_delivery",
    )
    .await;
    let tries = telegram.calls().iter().filter(|call| call.is_message_to(CHAT)).count();
    assert!(tries <= 1, "{tries} tries");
    // While the bot's token is invalid, new orders are enqueued and wait.
    client.execute(insert, &[&CUSTOMER]).await.unwrap();
    until(&client, "select count(*) = 2 from vestnik.vst_delivery").await;
    node.kill();

    let good = format!("{}-2", crate::support::telegram::TOKEN);
    telegram.let_in(&good);
    let node = Node::serving(&database, &telegram.url(), &[("TELEGRAM_TOKEN", &good)]).await;
    until(&client, "select bool_and(state = 'sent') from vestnik.vst_delivery").await;
    node.until_metric("vestnik_telegram_stopped", |stopped| stopped == 0.0)
        .await;
    // The bot may send the newest order before the order that has waited.
    let mut sent = orders(&telegram.calls(), CHAT);
    sent.sort_unstable();
    assert_eq!(sent, [1, 2]);
}

/// Each [`Node`] searches its log for secrets when it is dropped. This test causes every error whose log line could
/// contain a secret.
#[tokio::test(flavor = "multi_thread")]
async fn no_log_line_shows_a_token_or_a_customer() {
    use crate::support::telegram::{TOKEN, Taken};
    let (telegram, database) = Telegram::with_chat(CHAT).await;
    let client = database.client().await;
    let token = database.token(vestnik::token::Stores::All).await;
    let settings = [
        ("TELEGRAM_DEADLINE_SECONDS", "1"),
        ("LOG_FILTER", "info,vestnik=trace,teloxide=trace"),
    ];
    let node = Node::serving(&database, &telegram.url(), &settings).await;
    let refused = format!("Bad Request: can't parse entities: Unsupported start tag \"{CUSTOMER}\"");
    let faults = [
        Fault::refused(&refused),
        Fault::too_many(1),
        Fault::Hang(Taken::No),
        Fault::Reset(Taken::No),
        Fault::BrokenJson(Taken::No),
        Fault::bad_gateway(),
    ];
    let insert = "insert into orders (store_id, customer_name, items) values (7, $1, jsonb_build_array($1::text))";
    // After its third refusal, a message is dead-lettered.
    let mut broken = 0;
    for (fault, times) in faults.into_iter().zip([3, 1, 1, 1, 1, 1]) {
        telegram.fault(On::Chat(CHAT), fault, Times::Some(times));
        client.execute(insert, &[&CUSTOMER]).await.unwrap();
        for _ in 0..times {
            broken += 1;
            telegram
                .until_calls("a send that breaks", |calls| {
                    calls.iter().filter(|call| call.is_message_to(CHAT)).count() >= broken
                })
                .await;
            until(&client, "select leased_until = '-infinity' from vestnik.vst_chat").await;
            crate::telegram_outcomes::hurry(&client).await;
        }
    }
    let address = node.address().await;
    let panel = crate::support::app::Panel::connect(address, "7", None, &token).await;
    drop(panel.unwrap());
    let wrong = format!("{token}x");
    assert!(
        crate::support::app::Panel::connect(address, "7", None, &wrong)
            .await
            .is_err()
    );
    telegram.write(CHAT, 1, &format!("/link {CUSTOMER}"));
    telegram
        .until_call("the answer", |call| call.text.contains("code is not valid"))
        .await;
    let message = telegram.messages(CHAT)[0].0;
    telegram.push_press(CHAT, 1, message, "s:1:preparing");
    telegram
        .until_call("the answer to a press", |call| call.method == "answerCallbackQuery")
        .await;
    telegram.fault(On::Method("getUpdates"), Fault::bad_gateway(), Times::Some(1));
    telegram.fault(On::Method("getUpdates"), Fault::conflict(), Times::Some(1));
    telegram.write(CHAT, 1, "/help");
    node.until_said("409 from Telegram").await;
    telegram.change_membership(CHAT, 1, "kicked");
    until(&client, "select disabled_at is not null from vestnik.vst_chat").await;
    telegram.shut_out(TOKEN);
    client.execute(insert, &[&CUSTOMER]).await.unwrap();
    node.until_said("the bot is stopped").await;
    for words in [
        "refuses a message, also as plain text",
        "429 from Telegram",
        "was not sent yet",
    ] {
        node.until_said(words).await;
    }
    // Dropping the node searches its whole log for secrets.
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_show_the_state_of_the_sends() {
    let (telegram, database) = Telegram::with_chat(CHAT).await;
    telegram.add_private(702, "Boris");
    telegram.link(&database, "7", 702, "mirror").await;
    telegram.fault(On::Chat(702), Fault::too_many(3600), Times::Some(1));
    let client = database.client().await;
    client
        .batch_execute("update vestnik.vst_store set answer_seconds = 5")
        .await
        .unwrap();
    let node = Node::serving(&database, &telegram.url(), &[]).await;
    client
        .batch_execute("insert into orders (store_id) values (7)")
        .await
        .unwrap();
    telegram.until_messages(CHAT, 1).await;
    for (name, least) in [
        ("vestnik_telegram_deliveries{state=\"retrying\"}", 1.0),
        ("vestnik_telegram_oldest_delivery_age_seconds", 0.001),
        ("vestnik_telegram_deliveries_completed_total{state=\"sent\"}", 1.0),
        ("vestnik_telegram_sends_total{outcome=\"sent\"}", 1.0),
        ("vestnik_telegram_sends_total{outcome=\"throttled\"}", 1.0),
        ("vestnik_orders_first_seen_total{channel=\"telegram\"}", 1.0),
        ("vestnik_escalations_total{step=\"panels\"}", 1.0),
    ] {
        node.until_metric(name, |value| value >= least).await;
    }
    node.until_metric("vestnik_telegram_deliveries{state=\"pending\"}", |value| value == 0.0)
        .await;

    let token = database.token(vestnik::token::Stores::All).await;
    let panel = crate::support::app::Panel::connect(node.address().await, "7", None, &token).await;
    let mut panel = panel.unwrap().live().await;
    client
        .batch_execute("insert into orders (store_id) values (7)")
        .await
        .unwrap();
    let event = panel.event().await;
    panel.acknowledge(event["id"].as_str().unwrap()).await;
    node.until_metric("vestnik_order_acknowledgement_seconds_count", |count| count == 1.0)
        .await;
    let le = "vestnik_order_acknowledgement_seconds_bucket{le=\"60\"}";
    node.until_metric(le, |count| count == 1.0).await;
    // Either the panel or the chat may be the first to show an order.
    let seen =
        ["websocket", "telegram"].map(|channel| format!("vestnik_orders_first_seen_total{{channel=\"{channel}\"}}"));
    let counted = tokio::time::timeout(PATIENCE, async {
        while node.metric(&seen[0]).await.unwrap_or(0.0) + node.metric(&seen[1]).await.unwrap_or(0.0) < 2.0 {}
    });
    counted.await.expect("each of two orders was seen first by one channel");
    let metrics = node.metrics().await;
    for name in [
        "vestnik_telegram_stopped",
        "vestnik_telegram_chats_disabled",
        "vestnik_order_acknowledgement_seconds",
    ] {
        assert!(metrics.contains(&format!("# HELP {name} ")), "{name} is described");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_shuts_down_completes_its_sends_first() {
    let (telegram, database) = Telegram::with_chat(CHAT).await;
    let client = database.client().await;
    let mut node = Node::serving(&database, &telegram.url(), &[]).await;
    let pid = node.pid();
    let ask = move || kill_process(pid, Signal::TERM).unwrap();
    telegram.fault(On::Messages, Fault::Run(Arc::new(ask)), Times::Some(1));
    let insert = "insert into orders (store_id, customer_name) values (7, $1)";
    client.execute(insert, &[&CUSTOMER]).await.unwrap();
    assert!(node.ended().await.success());
    let state: String = client
        .query_one("select state from vestnik.vst_delivery", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(state, "sent");
}

/// The longest wait for a change of the gauge `vestnik_listening`. The node samples its other gauges only every 15 s. A
/// change within this shorter time proves that the listener sets the gauge itself.
const BEFORE_A_SAMPLE: Duration = Duration::from_secs(8);

#[tokio::test(flavor = "multi_thread")]
async fn the_gauge_of_listening_changes_with_the_listener() {
    let database = Database::fresh().await;
    let node = Node::serving(&database, "http://127.0.0.1:9", &[]).await;
    let ops = node.ops_address().await;
    let listening = async {
        while !call(ops, "GET", "/readyz", &[], None)
            .await
            .text()
            .contains("listening")
        {}
    };
    tokio::time::timeout(PATIENCE, listening).await.expect("it listens");
    let said = async { while node.metric("vestnik_listening").await != Some(1.0) {} };
    tokio::time::timeout(BEFORE_A_SAMPLE, said)
        .await
        .expect("the gauge says so");
}
