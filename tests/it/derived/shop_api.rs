//! The engine sends an answer as a signed request to the shop's own API.

use std::process::Command;

use secrecy::SecretString;
use serde_json::{Value, json};
use vestnik::infra::config::Config;

use super::answers::{ORDER, STATUS, TICKET, shown};
use super::shop::{Shop, mapping};
use crate::doctor::{doctor, line};
use crate::escalation_webhook::is_signed;
use crate::support::app::App;
use crate::support::db::Database;
use crate::support::hook::{Answer, Hook};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OLD_SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// Makes a node sign its requests, and permits a shop API on this machine.
fn beside(config: &mut Config) {
    config.webhook.allow_private = true;
    config.answers.secrets = vec![SecretString::from(SECRET), SecretString::from(OLD_SECRET)];
}

/// The mapping of a shop system, changed so that the engine posts answers to `url`.
fn asking(system: &str, url: &str) -> String {
    let mapping = mapping(system);
    let before = mapping.split("[answer]").next().unwrap();
    format!("{before}\n[answer]\nurl = \"{url}\"\n")
}

/// Starts the shop system Spree with one order, and a shop API that gives these responses in order.
async fn spree(answers: &[Answer]) -> (Shop, Hook) {
    let hook = Hook::start(answers).await;
    let mut shop = Shop::open_as("spree", "read committed", &asking("spree", &hook.url()), beside).await;
    shop.live(ORDER).await;
    (shop, hook)
}

async fn press(shop: &Shop) -> crate::support::http::Answer {
    shop.app
        .post(STATUS, &json!({"status": "preparing", "minutes": 25, "by": "Кухня"}))
        .await
}

#[tokio::test]
async fn the_shops_api_gets_a_signed_request_and_its_acceptance_is_the_answer() {
    let (mut shop, mut hook) = spree(&[]).await;
    let answer = press(&shop).await;
    assert_eq!(
        (answer.status, &answer.json()["previous_status"]),
        (200, &json!("pending"))
    );
    let post = hook.until(1).await.remove(0);
    assert!(is_signed(&post, SECRET) && is_signed(&post, OLD_SECRET), "{post:?}");
    let body: Value = serde_json::from_str(&post.body).unwrap();
    assert_eq!(
        (&body["type"], &body["order_id"], &body["store_id"], &body["source"]),
        (&json!("order_answered"), &json!("1"), &json!("1"), &json!("spree"))
    );
    assert_eq!(
        (&body["status"], &body["previous_status"], &body["minutes"], &body["by"]),
        (&json!("preparing"), &json!("pending"), &json!(25), &json!("Кухня"))
    );
    // The shop's table has no columns for the person's name and the promised time, so the engine keeps both.
    let event = shop.event("1").await;
    assert_eq!(
        (
            &event["data"]["status"],
            &event["data"]["by"],
            &event["data"]["promised_minutes"]
        ),
        (&json!("preparing"), &json!("Кухня"), &json!(25))
    );
    assert_eq!(shown(&shop).await["answer"]["by"], "Кухня");
    let promise = json!({"status": "preparing", "from": "preparing", "minutes": 40});
    assert_eq!(shop.app.post(STATUS, &promise).await.status, 200);
    assert_eq!(shop.event("1").await["data"]["promised_minutes"], 40);
    let again = hook.until(2).await.remove(1);
    assert!(again.body.contains("40") && again.id != post.id, "{again:?}");
}

#[tokio::test]
async fn what_the_shops_api_writes_is_one_event_that_says_who_answered() {
    let mut shop = Shop::open_as(
        "pretix",
        "read committed",
        &asking("pretix", "http://127.0.0.1:1/"),
        beside,
    )
    .await;
    let writer = shop.app.database.client().await;
    let hook = Hook::that_writes(&[], writer, "update pretixbase_order set require_approval = false").await;
    shop.app.database.attach(&asking("pretix", &hook.url())).await;
    shop.live(TICKET).await;
    assert_eq!(press(&shop).await.status, 200);
    let event = shop.event("1").await;
    assert_eq!(
        (&event["type"], &event["data"]["status"], &event["data"]["by"]),
        (&json!("order_status_changed"), &json!("preparing"), &json!("Кухня"))
    );
    shop.write("update pretixbase_order set comment = 'x'").await;
    shop.settle().await;
    assert_eq!(shown(&shop).await["answer"]["by"], "Кухня");
    let kept = "select count(*) filter (where answered_over is not null), count(*) from vestnik.vst_projection_3";
    let row = shop.writer.query_one(kept, &[]).await.unwrap();
    assert_eq!(
        (row.get::<_, i64>(0), row.get::<_, i64>(1)),
        (0, 1),
        "the engine keeps no answer of its own"
    );
    let told = "select count(*) from vestnik.vst_event where answer is not null";
    assert_eq!(shop.writer.query_one(told, &[]).await.unwrap().get::<_, i64>(0), 1);
}

#[tokio::test]
async fn a_refusal_of_the_shops_api_reaches_the_person_in_its_own_words() {
    let refusals = [
        Answer::Says(422, r#"{"message": "Sold out since 18:00"}"#),
        Answer::Says(409, "Paid by somebody else"),
        Answer::Says(403, "<html>Forbidden</html>"),
    ];
    let (shop, hook) = spree(&refusals).await;
    for words in [
        json!("Sold out since 18:00"),
        json!("Paid by somebody else"),
        Value::Null,
    ] {
        let refused = press(&shop).await;
        assert_eq!((refused.status, refused.code()), (422, "status_refused".into()));
        assert_eq!(refused.json()["error"]["shop_message"], words);
        assert_eq!(shown(&shop).await["status"], "pending");
    }
    assert_eq!(press(&shop).await.status, 200);
    let ids: std::collections::HashSet<String> = hook.posts().into_iter().map(|post| post.id).collect();
    assert_eq!(
        ids.len(),
        4,
        "the shop has decided each request, so the next one gets a new id"
    );
}

#[tokio::test]
async fn a_request_to_a_shop_that_is_down_is_repeated_and_then_the_person_gets_an_error() {
    let down = [Answer::Status(503), Answer::Status(429), Answer::Status(500)];
    let (mut shop, hook) = spree(&down).await;
    let failed = press(&shop).await;
    assert_eq!((failed.status, failed.code()), (504, "shop_unavailable".into()));
    assert_eq!(hook.posts().len(), 3);
    assert_eq!(
        shown(&shop).await["status"],
        "pending",
        "the order still waits for an answer"
    );
    // The shop may have executed an earlier request, so each repeated request has the same id. A request for a
    // different answer has a different id.
    assert_eq!(press(&shop).await.status, 200);
    assert_eq!(shop.event("1").await["data"]["status"], "preparing");
    let ids: std::collections::HashSet<String> = hook.posts().into_iter().map(|post| post.id).collect();
    assert_eq!((hook.posts().len(), ids.len()), (4, 1));
    assert_eq!(shop.app.post(STATUS, &json!({"status": "ready"})).await.status, 200);
    assert_ne!(hook.posts()[4].id, hook.posts()[0].id);
    let kept = "select count(*) from vestnik.vst_answer_request";
    assert_eq!(shop.writer.query_one(kept, &[]).await.unwrap().get::<_, i64>(0), 0);
}

#[tokio::test]
async fn a_shop_that_is_silent_is_not_waited_for_for_ever_and_keeps_no_other_press_waiting() {
    let (shop, mut hook) = spree(&[Answer::Silence, Answer::Silence]).await;
    let other = async {
        hook.until(1).await;
        let late = shop.app.post(STATUS, &json!({"status": "rejected"})).await;
        assert_eq!(
            (late.status, late.code()),
            (409, "status_conflict".into()),
            "one request is sent for an order"
        );
    };
    let (failed, ()) = tokio::join!(press(&shop), other);
    assert_eq!((failed.status, failed.code()), (504, "shop_unavailable".into()));
    assert_eq!(shown(&shop).await["status"], "pending");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_answer_at_once_one_asks_the_shop() {
    let (shop, hook) = spree(&[]).await;
    let presses: Vec<Value> = ["preparing", "rejected"]
        .repeat(4)
        .into_iter()
        .map(|to| json!({"status": to, "from": "pending"}))
        .collect();
    let answers = futures::future::join_all(presses.iter().map(|press| shop.app.post(STATUS, press))).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);
    assert_eq!(hook.posts().len(), 1);
}

#[tokio::test]
async fn nothing_is_posted_without_a_secret_or_to_a_private_address() {
    let hook = Hook::start(&[]).await;
    for change in [
        |config: &mut Config| config.webhook.allow_private = true,
        |config: &mut Config| config.answers.secrets = vec![SecretString::from(SECRET)],
    ] {
        let mut shop = Shop::open_as("spree", "read committed", &asking("spree", &hook.url()), change).await;
        shop.live(ORDER).await;
        let refused = press(&shop).await;
        assert_eq!((refused.status, refused.code()), (422, "status_not_possible".into()));
    }
    assert_eq!(hook.posts().len(), 0);
}

#[tokio::test]
async fn doctor_says_that_the_secret_is_missing_that_signs_the_requests() {
    let hook = Hook::start(&[]).await;
    let shop = Shop::open_as("spree", "read committed", &asking("spree", &hook.url()), beside).await;
    let (said, _) = doctor(&shop.app.database, &[]).await;
    let about = line(&said, "answers");
    assert!(about.starts_with("FAIL"), "{said}");
    assert!(
        about.contains("of spree:") && about.contains("set answers.secret"),
        "{said}"
    );
    let (said, _) = doctor(&shop.app.database, &["--set", &format!("answers.secret={SECRET}")]).await;
    assert!(!said.contains(" answers "), "{said}");
}

#[tokio::test]
async fn the_shops_api_answers_for_the_orders_of_one_table_too() {
    let database = Database::fresh().await;
    let write = "update orders set status = 'preparing' where id = 1";
    let hook = Hook::that_writes(&[], database.client().await, write).await;
    let mapping = format!(
        "table = 'public.orders'\nkind = 'order'\nkey = 'id'\nstore = 'store_id'\n\
         status = {{ column = 'status', pending = ['pending'] }}\nanswer = {{ url = '{}' }}",
        hook.url()
    );
    database.attach(&mapping).await;
    let app = App::start_on(database, beside).await;
    let mut panel = app.panel("7", None).await.live().await;
    app.write("insert into orders (id, store_id) values (1, 7)").await;
    assert_eq!(
        panel.event().await["data"]["next"],
        json!(["preparing", "rejected"]),
        "the mapping needs no words for statuses"
    );
    let path = "/api/partner/stores/7/orders/1/status";
    let answer = app.post(path, &json!({"status": "preparing", "by": "Anna"})).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let row = app
        .database
        .client()
        .await
        .query_one("select status from orders", &[])
        .await
        .unwrap();
    assert_eq!(row.get::<_, &str>(0), "preparing");
}

#[tokio::test(flavor = "multi_thread")]
async fn source_check_reports_settings_that_keep_the_shops_api_from_being_called() {
    let database = Database::fresh().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("orders.toml");
    let check = async |answer: &str, variables: &[(&str, &str)]| {
        let status = "[status]\ncolumn = 'status'\npending = ['pending']\n";
        let toml = format!(
            "table = 'public.orders'\nkind = 'order'\nkey = 'id'\nstore = 'store_id'\n{status}[answer]\n{answer}\n"
        );
        std::fs::write(&file, toml).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_vestnik"));
        command
            .args(["source", "check"])
            .arg(&file)
            .env("DATABASE_URL", database.url());
        command.envs(variables.iter().copied()).current_dir(directory.path());
        let output = tokio::task::spawn_blocking(move || command.output().unwrap())
            .await
            .unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code(), said)
    };
    let secret = ("VESTNIK_ANSWERS_SECRET", SECRET);
    let public = "url = 'https://shop.example/answers'";
    let (code, said) = check(public, &[]).await;
    assert!(code == Some(0) && said.contains("VESTNIK_ANSWERS_SECRET"), "{said}");
    let (code, said) = check(public, &[secret]).await;
    assert!(
        code == Some(0) && !said.contains("answer.url") && !said.contains(SECRET),
        "{said}"
    );
    for wrong in [
        "url = 'http://shop.example/answers'",
        "url = 'https://127.0.0.1/answers'",
        "url = 'https://me:word@shop.example/'",
        "url = 'shop.example'",
        "url = 'https://shop.example/'\nfunction = 'app.answer'",
        "url = 'https://shop.example/'\nupdated_at = 'updated_at'",
    ] {
        let (code, said) = check(wrong, &[secret]).await;
        assert!(code == Some(2) && said.contains("answer.url"), "{wrong}: {said}");
    }
    let (code, said) = check(
        "url = 'http://10.0.0.7/'",
        &[secret, ("VESTNIK_WEBHOOK_ALLOW_PRIVATE", "true")],
    )
    .await;
    assert_eq!(code, Some(0), "{said}");
}
