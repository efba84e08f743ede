//! Measures how soon orders and button presses work again after an outage of Telegram. In an outage, Telegram refuses
//! connections or never answers. The bench also sends SIGKILL to the node that polls Telegram. Then this node
//! starts again, or another node takes over.
//!
//! `cargo bench --bench telegram_outage -- 120 420 30` runs two outages, one of each kind, for each of these lengths in
//! seconds. During the last outage, the bench moves all times in Postgres back by an hour, so Vestnik treats this
//! outage as an hour longer. The run takes about twenty minutes.

#[path = "support/bot_api.rs"]
mod bot_api;
#[path = "support/engine.rs"]
mod engine;
#[path = "support/shop.rs"]
mod shop;

use std::time::{Duration, Instant};

use bot_api::{BotApi, Line};
use engine::{serve, start, until_listening};
use shop::{Ended, Shop};
use vestnik::infra::db::Client;

const CHAT: i64 = 11;
/// Moves the times of deliveries, messages and attempts an hour into the past, as if an hour had passed.
const AN_HOUR_LATER: &str = "update vestnik.vst_event set at = at - interval '1 hour'; \
     update vestnik.vst_delivery set waits_since = waits_since - interval '1 hour', \
         due_at = case when isfinite(due_at) then due_at - interval '1 hour' else due_at end; \
     update vestnik.vst_chat set next_at = next_at - interval '1 hour', edit_next_at = edit_next_at - interval '1 hour'; \
     update vestnik.vst_bot set polled_at = polled_at - interval '1 hour', error_at = error_at - interval '1 hour'; \
     update vestnik.vst_escalation set due_at = due_at - interval '1 hour'";

fn main() {
    let outages: Vec<u64> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let outages = if outages.is_empty() { vec![10] } else { outages };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let shop = Shop::open().await;
        let client = vestnik::infra::db::connect_as(&shop.url, "bench")
            .await
            .expect("a connection");
        let link = "insert into vestnik.vst_store (id) values ('7'), ('8'); \
             insert into vestnik.vst_chat (telegram_id) values (11), (12); \
             insert into vestnik.vst_chat_link (chat_id, store_id, mode, language, linked_by) \
                 select id, case telegram_id when 11 then '7' else '8' end, 'mirror', 'en', 1 from vestnik.vst_chat";
        client.batch_execute(link).await.expect("linked");
        let api = BotApi::start().await;
        let mut number = 0;
        println!("outage of Telegram             first send    an order made 1 s after    a press 1 s after");
        for (index, seconds) in outages.iter().enumerate() {
            for line in [Line::Refuses, Line::Silent] {
                let is_last = index + 1 == outages.len();
                outage(
                    &shop,
                    &client,
                    &api,
                    line,
                    Duration::from_secs(*seconds),
                    is_last,
                    &mut number,
                )
                .await;
            }
        }
        kills(&shop, &client, &api, &mut number).await;
    });
}

fn settings(api: &BotApi) -> Vec<String> {
    let url = format!("telegram.api_url=http://{}", api.address);
    [
        "--set",
        "telegram.token=1:a-token-of-the-bench",
        "--set",
        &url,
        "--set",
        "log.filter=error",
    ]
    .map(str::to_owned)
    .to_vec()
}

async fn order(client: &Client, store: i64, number: &mut u32) -> (Instant, String) {
    *number += 1;
    let insert = format!("insert into orders (id, store_id) values ({number}, {store})");
    let at = Instant::now();
    client.batch_execute(&insert).await.expect("an order");
    (at, format!("order #{number}\n"))
}

async fn sent(api: &BotApi, since: Instant, words: &str) -> Duration {
    let is_it = |call: &bot_api::Call| {
        call.method == "sendMessage"
            && (call.body["text"].as_str().unwrap_or_default().replace("</b>", "") + "\n").contains(words)
    };
    api.until(since, words, is_it).await.at - since
}

async fn pressed(api: &BotApi, event: i64) -> Duration {
    let since = Instant::now();
    api.press(CHAT, &format!("b:{event}"));
    api.until(since, "an answer to a press", |call| {
        call.method == "answerCallbackQuery"
    })
    .await
    .at - since
}

async fn event(client: &Client) -> i64 {
    let event = "select max(id) from vestnik.vst_event where store_id = '7' and type = 'insert'";
    client.query_one(event, &[]).await.expect("an event").get(0)
}

async fn outage(
    shop: &Shop,
    client: &Client,
    api: &BotApi,
    line: Line,
    lasts: Duration,
    is_last: bool,
    number: &mut u32,
) {
    let settings = settings(api);
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let (engine, _) = serve(shop, &settings).await;
    let (at, words) = order(client, 7, number).await;
    sent(api, at, &words).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    api.set(line);
    let mut waiting = Vec::new();
    for store in [7, 8] {
        waiting.push(order(client, store, number).await.1);
    }
    tokio::time::sleep(lasts).await;
    let said = if is_last {
        client.batch_execute(AN_HOUR_LATER).await.expect("moved");
        format!("{:?}, {} s and an hour", line, lasts.as_secs())
    } else {
        format!("{:?}, {} s", line, lasts.as_secs())
    };
    api.set(Line::Up);
    let back = Instant::now();
    let first = sent(api, back, &waiting[0])
        .await
        .min(sent(api, back, &waiting[1]).await);
    tokio::time::sleep_until((back + Duration::from_secs(1)).into()).await;
    let (at, words) = order(client, 8, number).await;
    let after = sent(api, at, &words).await;
    let press = pressed(api, event(client).await).await;
    println!(
        "{said:<30} {:>8.2} s   {:>20.2} s   {:>18.2} s",
        first.as_secs_f64(),
        after.as_secs_f64(),
        press.as_secs_f64()
    );
    drop(engine);
}

async fn kills(shop: &Shop, client: &Client, api: &BotApi, number: &mut u32) {
    let settings = settings(api);
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let (first, _) = serve(shop, &settings).await;
    let (at, words) = order(client, 7, number).await;
    sent(api, at, &words).await;
    let event = event(client).await;
    pressed(api, event).await;
    // Kill the node with SIGKILL and start it again at once, as a service manager does.
    kill(first);
    let (again, address) = start(shop, &settings);
    let press = pressed(api, event).await;
    println!(
        "the node that polls is killed, and started again: a press is answered after {:.2} s",
        press.as_secs_f64()
    );
    until_listening(address).await;
    let (other, _) = serve(shop, &settings).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    kill(again);
    let press = pressed(api, event).await;
    println!(
        "the node that polls is killed beside another:      a press is answered after {:.2} s",
        press.as_secs_f64()
    );
    drop(other);
}

/// Kills a process with SIGKILL.
fn kill(mut node: Ended) {
    node.0.kill().expect("killed");
    node.0.wait().expect("gone");
}
