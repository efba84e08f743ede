//! Webhooks that an operator has added: which events the engine posts to them, in which order, and what happens when a
//! webhook does not accept a POST.

use std::process::Output;

use serde_json::{Value, json};
use vestnik::infra::config::Webhook;

use crate::databases::served;
use crate::escalation_webhook::{ANYWHERE, is_signed, text, vestnik};
use crate::support::app::App;
use crate::support::db::{Database, until};
use crate::support::hook::{Answer, Hook, Post};
use crate::support::node::{CUSTOMER, Node};

/// An address at which no Bot API listens.
const NOWHERE: &str = "http://127.0.0.1:1";
/// Settings for a node without a bot. The node may post to addresses on this machine.
const WITHOUT_BOT: [(&str, &str); 2] = [("TELEGRAM_TOKEN", ""), ("WEBHOOK_ALLOW_PRIVATE", "true")];

/// Starts an app without a bot. The app may post to addresses on this machine.
async fn app(database: Database) -> App {
    App::start_on(database, |config| config.webhook = Webhook { allow_private: true }).await
}

/// Runs `vestnik webhook` with a setting that permits addresses on this machine.
async fn webhook(database: &Database, arguments: &[&str]) -> Output {
    vestnik(database, &[&["webhook"], arguments].concat(), &[ANYWHERE]).await
}

/// Adds a webhook with `vestnik webhook add`, and returns its secret.
async fn add(database: &Database, hook: &Hook, of: &[&str]) -> String {
    let url = hook.url();
    let added = webhook(database, &[&["add", "--url", &url], of].concat()).await;
    assert!(added.status.success(), "{}", text(&added.stderr));
    let said = text(&added.stdout);
    let secret = said.split_whitespace().find(|word| word.starts_with("whsec_"));
    secret.expect("the command prints the secret").to_owned()
}

fn body(post: &Post) -> Value {
    serde_json::from_str(&post.body).unwrap()
}

/// The store, the type and the order id of each POST.
fn told(posts: &[Post]) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let of = |post: &Post| {
        let body = body(post);
        (
            text(&body["store_id"]),
            text(&body["type"]),
            text(&body["data"]["order_id"]),
        )
    };
    posts.iter().map(of).collect()
}

fn orders(posts: &[Post]) -> Vec<String> {
    told(posts).into_iter().map(|(_, _, order)| order).collect()
}

/// Makes each failed POST wait until the next call of [`hurry`]. Otherwise, the engine would repeat the POST after five
/// seconds, and the test might not see the state before that.
async fn hold_failed(database: &Database) {
    let hold = "create function hold() returns trigger language plpgsql as $$ \
         begin new.due_at := 'infinity'; return new; end $$; \
         create trigger hold before update on vestnik.vst_webhook_endpoint for each row \
         when (new.due_at > clock_timestamp()) execute function hold()";
    database.client().await.batch_execute(hold).await.unwrap();
}

/// Makes every waiting POST due now.
async fn hurry(database: &Database) {
    let client = database.client().await;
    let hurry = "update vestnik.vst_webhook_endpoint set due_at = '-infinity'";
    client.batch_execute(hurry).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_chosen_stores_and_types_are_posted_signed_and_in_order_without_a_bot() {
    let (mut all, mut some) = (Hook::start(&[]).await, Hook::start(&[]).await);
    let database = Database::fresh().await;
    // Store 9 has no row of settings. The engine does not post events from before the webhook was added.
    let client = database.client().await;
    client
        .batch_execute("insert into orders (store_id) values (7)")
        .await
        .unwrap();
    let secret = add(&database, &all, &["--all-stores"]).await;
    let types = [
        "--store",
        "7",
        "--store",
        "8",
        "--type",
        "order_cancelled",
        "--type",
        "order_status_changed",
    ];
    add(&database, &some, &types).await;
    let app = app(database).await;
    for statement in [
        "insert into orders (store_id, customer_name) values (9, 'Anna')",
        "insert into orders (store_id) values (7)",
        "update orders set status = 'preparing' where store_id = 9",
        "update orders set status = 'preparing' where id = 3",
        "update orders set status = 'cancelled' where id = 3",
    ] {
        app.write(statement).await;
    }
    let posts = all.until(5).await;
    let expected = [
        ("9", "new_order", "2"),
        ("7", "new_order", "3"),
        ("9", "order_status_changed", "2"),
        ("7", "order_status_changed", "3"),
        ("7", "order_cancelled", "3"),
    ];
    let expected = expected.map(|(store, kind, order)| (store.to_owned(), kind.to_owned(), order.to_owned()));
    assert_eq!(told(&posts), expected);
    assert_eq!(told(&some.until(2).await), expected[3..]);
    assert!(posts.iter().all(|post| is_signed(post, &secret)), "{posts:?}");
    // The posted body equals the event of the HTTP API without the fields for the cursor and the replay.
    let mut whole = app.get_json("/api/partner/stores/9/events?limit=1").await["events"][0].clone();
    let whole = whole.as_object_mut().unwrap();
    whole.remove("cursor");
    whole.remove("replayed");
    assert_eq!(body(&posts[2]).as_object().unwrap(), whole);
    // Both endpoints have a receipt of the change that both wanted, and a receipt of a webhook counts as nobody's look.
    let receipts =
        "select (select count(*) from vestnik.vst_receipt where channel = 'webhook' and sent_at is not null) = 7";
    app.database.until(receipts).await;
    let path = "/api/partner/stores/7/receipts?order=3";
    let told = app.get_json(path).await;
    let channels = &told["events"][1]["channels"];
    assert_eq!(channels.as_array().unwrap().len(), 2, "{told}");
    assert_eq!(
        (&channels[0]["channel"], &channels[1]["recipient"]),
        (&json!("webhook"), &json!("2")),
        "{told}"
    );
    let said = text(&webhook(&app.database, &["list"]).await.stdout);
    assert!(
        said.contains("every store") && said.contains("5 posted") && said.contains("store 7, 8"),
        "{said}"
    );
    assert!(
        !said.contains("shop=7") && !said.contains("whsec_"),
        "a path may hold a secret: {said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_post_is_repeated_with_its_id_and_delays_no_other_address() {
    let answers = [Answer::Status(500), Answer::Status(302), Answer::Status(200)];
    let (mut failing, mut good, silent) = (
        Hook::start(&answers).await,
        Hook::start(&[]).await,
        Hook::start(&[Answer::Silence]).await,
    );
    let database = Database::fresh().await;
    for hook in [&silent, &failing, &good] {
        add(&database, hook, &["--store", "7"]).await;
    }
    hold_failed(&database).await;
    let app = app(database).await;
    app.write("insert into orders (store_id) values (7)").await;
    app.write("insert into orders (store_id) values (7)").await;
    assert_eq!(orders(&good.until(2).await), ["1", "2"]);
    for (posts, reason) in [(1, "answered 500"), (2, "answered 302")] {
        failing.until(posts).await;
        let waits =
            format!("select reason = '{reason}' and due_at > now() from vestnik.vst_webhook_endpoint where id = 2");
        app.database.until(&waits).await;
        let said = text(&vestnik(&app.database, &["doctor"], &[]).await.stdout);
        // The post to the silent address fails, too, after its deadline.
        let either = ["posts to 2 fail", "posts to 1, 2 fail"];
        assert!(either.iter().any(|line| said.contains(line)), "{said}");
        hurry(&app.database).await;
    }
    let posts = failing.until(4).await;
    assert_eq!(
        orders(&posts),
        ["1", "1", "1", "2"],
        "a redirect is not followed, and the order stays"
    );
    assert!(posts[0].id == posts[1].id && posts[1].id == posts[2].id && posts[2].id != posts[3].id);
    app.database
        .until("select reason is null and attempts = 0 and sent = 2 from vestnik.vst_webhook_endpoint where id = 2")
        .await;
    app.until_metric("vestnik_webhook_posts_total{outcome=\"failed\"}", |failed| {
        failed >= 2.0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_asks_for_a_pause_gets_it_and_never_one_of_days() {
    let answers = [Answer::RetryAfter(503, "900"), Answer::RetryAfter(429, "864000")];
    let mut hook = Hook::start(&answers).await;
    let database = Database::fresh().await;
    add(&database, &hook, &["--store", "7"]).await;
    let app = app(database).await;
    app.write("insert into orders (store_id) values (7)").await;
    for (posts, status, pause_s) in [(1, 503, 900), (2, 429, 3600)] {
        hook.until(posts).await;
        let waits = format!(
            "select reason = 'answered {status}' and due_at between now() + interval '{pause_s} s' - interval '60 s' \
                 and now() + interval '{pause_s} s' from vestnik.vst_webhook_endpoint"
        );
        app.database.until(&waits).await;
        hurry(&app.database).await;
    }
    assert_eq!(orders(&hook.until(3).await), ["1", "1", "1"]);
    app.engine.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_event_is_given_up_loudly_and_an_address_that_is_gone_or_down_for_days_is_stopped() {
    let refusals = [Answer::Status(422); 8];
    let (mut refusing, gone, mut down) = (
        Hook::start(&refusals).await,
        Hook::start(&[Answer::Status(410)]).await,
        Hook::start(&[Answer::Status(503)]).await,
    );
    let database = Database::fresh().await;
    for hook in [&refusing, &gone, &down] {
        add(&database, hook, &["--store", "7"]).await;
    }
    let client = database.client().await;
    // Simulate that the third webhook has failed for days.
    let long =
        "update vestnik.vst_webhook_endpoint set failing_since = now() - interval '73 h', attempts = 80 where id = 3";
    client.batch_execute(long).await.unwrap();
    hold_failed(&database).await;
    let app = app(database).await;
    app.write("insert into orders (store_id) values (7)").await;
    app.write("insert into orders (store_id) values (7)").await;
    for refused in 1..8 {
        refusing.until(refused).await;
        until(
            &client,
            &format!("select refusals = {refused} from vestnik.vst_webhook_endpoint where id = 1"),
        )
        .await;
        hurry(&app.database).await;
    }
    let posts = refusing.until(9).await;
    assert_eq!(orders(&posts)[7..], ["1", "2"]);
    until(
        &client,
        "select given_up = 1 and sent = 1 from vestnik.vst_webhook_endpoint where id = 1",
    )
    .await;
    until(
        &client,
        "select bool_and(stopped_at is not null) from vestnik.vst_webhook_endpoint where id > 1",
    )
    .await;
    app.until_metric("vestnik_webhook_endpoints_stopped", |stopped| stopped == 2.0)
        .await;
    let doctor = vestnik(&app.database, &["doctor"], &[]).await;
    assert!(
        text(&doctor.stdout).contains("nothing is posted to 2, 3"),
        "{}",
        text(&doctor.stdout)
    );
    let said = text(&webhook(&app.database, &["list"]).await.stdout);
    assert!(
        said.contains("1 given up") && said.contains("STOPPED") && said.contains("answered 410"),
        "{said}"
    );
    // After `vestnik webhook resume`, the engine posts the waiting events.
    assert_eq!(down.posts().len(), 1);
    assert!(webhook(&app.database, &["resume", "3"]).await.status.success());
    assert_eq!(orders(&down.until(3).await), ["1", "1", "2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_orders_whose_rows_alternate_each_is_posted_once_whatever_the_address_answers() {
    // The event of order 2 comes first. No cursor covers it without a row of order 1.
    const ALTERNATE: &str = "begin; insert into orders (store_id) values (7); insert into orders (store_id) values (7); \
        update orders set reason = 'late' where id = 1; commit";
    let fails = [Answer::Status(204), Answer::Status(500), Answer::Status(500)];
    let refuses = [Answer::Status(422); 8];
    for (answers, expected) in [(&fails[..], "2 1 1 1"), (&refuses[..], "2 2 2 2 2 2 2 2 1")] {
        let mut hook = Hook::start(answers).await;
        let database = Database::fresh().await;
        add(&database, &hook, &["--store", "7"]).await;
        let app = app(database).await;
        app.write(ALTERNATE).await;
        let expected: Vec<&str> = expected.split(' ').collect();
        for posts in 1..expected.len() {
            hook.until(posts).await;
            let is_saved =
                format!("select sent + attempts + 8 * given_up >= {posts} from vestnik.vst_webhook_endpoint");
            app.database.until(&is_saved).await;
            hurry(&app.database).await;
        }
        assert_eq!(orders(&hook.until(expected.len()).await), expected);
        app.database
            .until("select handled is null and attempts = 0 from vestnik.vst_webhook_endpoint")
            .await;
        app.write("insert into orders (store_id) values (7)").await;
        assert_eq!(orders(&hook.until(expected.len() + 1).await).last().unwrap(), "3");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_nodes_one_posts_each_event_and_when_it_is_killed_the_other_loses_none() {
    const ORDERS: usize = 60;
    let mut hook = Hook::start(&[]).await;
    let database = Database::fresh().await;
    add(&database, &hook, &["--all-stores"]).await;
    let mut first = Node::serving(&database, NOWHERE, &WITHOUT_BOT).await;
    let client = database.client().await;
    until(&client, "select leased_until > now() from vestnik.vst_webhook_endpoint").await;
    let second = Node::serving(&database, NOWHERE, &WITHOUT_BOT).await;
    let insert = "insert into orders (store_id, customer_name) values (7, $1)";
    for _ in 0..ORDERS / 2 {
        client.execute(insert, &[&CUSTOMER]).await.unwrap();
    }
    let before = hook.until(ORDERS / 2).await;
    let numbers = |range: std::ops::RangeInclusive<usize>| range.map(|number| number.to_string()).collect::<Vec<_>>();
    assert_eq!(orders(&before), numbers(1..=ORDERS / 2), "each event once, in order");
    for number in ORDERS / 2..ORDERS {
        client.execute(insert, &[&CUSTOMER]).await.unwrap();
        if number == ORDERS * 3 / 4 {
            first.kill();
            // End the killed node's lease at once instead of waiting for it.
            let over = "update vestnik.vst_webhook_endpoint set leased_until = '-infinity'";
            client.batch_execute(over).await.unwrap();
        }
    }
    let last = ORDERS.to_string();
    until(&client, "select sent >= 59 from vestnik.vst_webhook_endpoint").await;
    let mut posts = hook.until(ORDERS).await;
    while orders(&posts).last() != Some(&last) {
        posts = hook.until(posts.len() + 1).await;
    }
    let mut ids: Vec<&str> = posts.iter().map(|post| post.id.as_str()).collect();
    ids.dedup();
    assert!(
        posts.len() <= ORDERS + 1,
        "only the POST that was in progress may be repeated"
    );
    assert_eq!(ids.len(), ORDERS, "with the same id");
    let mut all = orders(&posts);
    all.dedup();
    assert_eq!(all, numbers(1..=ORDERS));
    drop(second);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_removed_address_or_of_an_erased_order_is_nowhere() {
    let (mut removed, mut kept) = (
        Hook::start(&[Answer::Status(500)]).await,
        Hook::start(&[Answer::Status(500)]).await,
    );
    let database = Database::fresh().await;
    add(&database, &removed, &["--store", "7"]).await;
    add(&database, &kept, &["--store", "7"]).await;
    hold_failed(&database).await;
    let app = app(database).await;
    app.write("insert into orders (store_id) values (7)").await;
    removed.until(1).await;
    kept.until(1).await;
    app.database
        .until("select bool_and(attempts = 1) from vestnik.vst_webhook_endpoint")
        .await;
    app.write("insert into orders (store_id, customer_name) values (7, 'Zacharias')")
        .await;
    assert!(webhook(&app.database, &["remove", "1"]).await.status.success());
    app.write("update orders set customer_name = null").await;
    let erased = vestnik(&app.database, &["erase", "--store", "7", "--order", "2"], &[]).await;
    assert!(erased.status.success(), "{}", text(&erased.stderr));
    hurry(&app.database).await;
    let posts = kept.until(3).await;
    assert_eq!(orders(&posts)[..3], ["1", "1", "2"]);
    assert!(posts.iter().all(|post| !post.body.contains("Zacharias")), "{posts:?}");
    assert_eq!(removed.posts().len(), 1);
    let gone = webhook(&app.database, &["test", "1"]).await;
    assert!(
        text(&gone.stderr).contains("there is no webhook 1"),
        "{}",
        text(&gone.stderr)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_too_large_goes_out_without_its_large_parts_and_a_canary_does_not() {
    let mut hook = Hook::start(&[]).await;
    let database = Database::fresh().await;
    add(&database, &hook, &["--all-stores"]).await;
    let app = App::start_on(database, |config| {
        config.webhook = Webhook { allow_private: true };
        config.ops.canary_interval = Some(std::time::Duration::from_millis(200));
        config.session.max_event_bytes = 2048;
    })
    .await;
    app.database
        .until("select exists (select from vestnik.vst_canary where outcome = 'back')")
        .await;
    app.write("insert into orders (store_id, items) select 7, jsonb_agg(jsonb_build_object('name', repeat('x', 100))) from generate_series(1, 100)")
        .await;
    let body = body(&hook.until(1).await[0]);
    assert_eq!(
        (&body["store_id"], &body["data"]["omitted"][0]),
        (&"7".into(), &"items".into())
    );
    assert_eq!(
        body["data"]["whole"],
        "/api/partner/stores/7/events/".to_owned() + body["id"].as_str().unwrap()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_the_journal_cannot_serve_any_more_is_told_so_first() {
    let mut hook = Hook::start(&[]).await;
    let database = Database::fresh().await;
    add(&database, &hook, &["--store", "7"]).await;
    let client = database.client().await;
    client
        .batch_execute(
            "insert into orders (store_id) values (7); \
             update vestnik.vst_retention set trimmed_through = (select max(xid::text::bigint) from vestnik.vst_event)::text::xid8; \
             delete from vestnik.vst_event",
        )
        .await
        .unwrap();
    // The journal cannot serve the new cursor while an older transaction of another test is open. Wait until no such
    // transaction is left.
    let is_over = "select pg_snapshot_xmin(pg_current_snapshot()) > trimmed_through from vestnik.vst_retention";
    until(&client, is_over).await;
    let app = app(database).await;
    let first = body(&hook.until(1).await[0]);
    assert_eq!(
        (&first["type"], &first["reason"]),
        (&"resync_required".into(), &"retention".into())
    );
    app.write("insert into orders (store_id) values (7)").await;
    assert_eq!(orders(&hook.until(2).await).last().unwrap(), "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_is_checked_tested_and_its_secret_rotated() {
    let (database, mut hook) = (Database::fresh().await, Hook::start(&[]).await);
    for (arguments, why) in [
        (
            &["--url", "https://127.0.0.1/hook", "--all-stores"][..],
            "allow_private",
        ),
        (&["--url", "http://example.com/hook", "--all-stores"][..], "https://"),
        (&["--url", "https://example.com/hook"][..], "--store"),
        (
            &[
                "--url",
                "https://example.com/hook",
                "--store",
                "7",
                "--type",
                "order_created",
            ][..],
            "new_order",
        ),
    ] {
        let refused = vestnik(&database, &[&["webhook", "add"], arguments].concat(), &[]).await;
        let said = text(&refused.stderr);
        assert!(
            refused.status.code() == Some(2) && said.contains(why),
            "{arguments:?}: {said}"
        );
    }
    let first = add(&database, &hook, &["--store", "7"]).await;
    let rotated = text(&webhook(&database, &["rotate", "1"]).await.stdout);
    let second = rotated
        .split_whitespace()
        .find(|word| word.starts_with("whsec_"))
        .unwrap()
        .to_owned();
    assert!(text(&webhook(&database, &["test", "1"]).await.stdout).contains("webhook 1 answered 204"));
    assert!(webhook(&database, &["rotate", "1", "--finish"]).await.status.success());
    webhook(&database, &["test", "1"]).await;
    let posts = hook.until(2).await;
    assert!(is_signed(&posts[0], &first) && is_signed(&posts[0], &second));
    assert!(!is_signed(&posts[1], &first) && is_signed(&posts[1], &second));
    assert_eq!(body(&posts[0])["type"], "test");
    // A node without the permission does not post to an address on this machine.
    let app = App::start_on(database, |_| ()).await;
    app.write("insert into orders (store_id) values (7)").await;
    app.database
        .until("select reason like '%https://%' from vestnik.vst_webhook_endpoint")
        .await;
    assert_eq!(hook.posts().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_commits_late_is_posted_late_and_what_is_rolled_back_never() {
    let mut hook = Hook::start(&[]).await;
    let database = Database::fresh().await;
    add(&database, &hook, &["--store", "7"]).await;
    let app = app(database).await;
    let (mut late, mut never) = (app.database.client().await, app.database.client().await);
    let (late, never) = (late.transaction().await.unwrap(), never.transaction().await.unwrap());
    for open in [&late, &never] {
        open.batch_execute("insert into orders (store_id) values (7)")
            .await
            .unwrap();
    }
    app.write("insert into orders (store_id) values (7)").await;
    assert_eq!(orders(&hook.until(1).await), ["3"]);
    late.commit().await.unwrap();
    never.rollback().await.unwrap();
    assert_eq!(orders(&hook.until(2).await), ["3", "1"]);
    app.write("insert into orders (store_id) values (7)").await;
    assert_eq!(orders(&hook.until(3).await), ["3", "1", "4"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_stopped_for_longer_than_its_lease_posts_nothing_any_more() {
    let mut hook = Hook::start(&[]).await;
    let database = Database::fresh().await;
    add(&database, &hook, &["--store", "7"]).await;
    let stopped = Node::serving(&database, NOWHERE, &WITHOUT_BOT).await;
    let client = database.client().await;
    let insert = "insert into orders (store_id, customer_name) values (7, $1)";
    client.execute(insert, &[&CUSTOMER]).await.unwrap();
    until(
        &client,
        "select fence = 1 and sent = 1 from vestnik.vst_webhook_endpoint",
    )
    .await;
    stopped.stop().await;
    let over = "update vestnik.vst_webhook_endpoint set leased_until = '-infinity'";
    client.batch_execute(over).await.unwrap();
    let other = Node::serving(&database, NOWHERE, &WITHOUT_BOT).await;
    until(&client, "select fence = 2 from vestnik.vst_webhook_endpoint").await;
    client.execute(insert, &[&CUSTOMER]).await.unwrap();
    hook.until(2).await;
    stopped.signal(rustix::process::Signal::CONT);
    stopped.until_said("the lease of a webhook is over").await;
    client.execute(insert, &[&CUSTOMER]).await.unwrap();
    assert_eq!(orders(&hook.until(3).await), ["1", "2", "3"]);
    until(&client, "select sent = 3 from vestnik.vst_webhook_endpoint").await;
    assert_eq!(hook.posts().len(), 3);
    drop((stopped, other));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_several_databases_posts_its_own_events_with_ids_of_its_own() {
    let mut hook = Hook::start(&[]).await;
    let (first, second) = (Database::fresh().await, Database::fresh().await);
    for database in [&first, &second] {
        add(database, &hook, &["--all-stores"]).await;
    }
    let served = vec![
        served("one", &first, Some(&["1"])),
        served("two", &second, Some(&["2"])),
    ];
    let app = App::start_on(first, |config| {
        config.webhook = Webhook { allow_private: true };
        config.databases = served;
    })
    .await;
    app.write("insert into orders (store_id) values (1)").await;
    let client = second.client().await;
    client
        .batch_execute("insert into orders (store_id) values (2)")
        .await
        .unwrap();
    let posts = hook.until(2).await;
    let mut stores: Vec<String> = told(&posts).into_iter().map(|(store, _, _)| store).collect();
    stores.sort();
    assert_eq!(stores, ["1", "2"]);
    assert_eq!(body(&posts[0])["id"], body(&posts[1])["id"], "both are the first event");
    assert_ne!(posts[0].id, posts[1].id);
}
