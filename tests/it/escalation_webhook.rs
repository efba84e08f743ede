//! The webhook of a store. The engine signs each POST as Standard Webhooks defines, and sends POSTs only to permitted
//! addresses.

use std::process::{Command, Output};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac as _};
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use vestnik::delivery::escalation_webhook;
use vestnik::infra::config::Webhook;
use vestnik::infra::db::{self, Pool};

use crate::support::db::{Database, until};
use crate::support::hook::{Answer, Hook, Post};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OTHER: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// Checks a signature as the libraries for Standard Webhooks do. The key is the base64 text after the prefix of the
/// secret. One valid signature in the list is enough. The timestamp must be recent.
pub fn is_signed(post: &Post, secret: &str) -> bool {
    let key = match secret.strip_prefix("whsec_") {
        Some(key) => STANDARD.decode(key).unwrap(),
        None => secret.as_bytes().to_vec(),
    };
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&key).unwrap();
    mac.update(format!("{}.{}.{}", post.id, post.timestamp, post.body).as_bytes());
    let expected = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
    let age = time::OffsetDateTime::now_utc().unix_timestamp() - post.timestamp.parse::<i64>().unwrap();
    post.signature.split(' ').any(|signature| signature == expected) && (-60..60).contains(&age)
}

pub async fn vestnik(database: &Database, arguments: &[&str], settings: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vestnik"));
    command
        .args(arguments)
        .current_dir(std::env::temp_dir())
        .env("DATABASE_URL", database.url());
    for (name, value) in settings {
        command.env(name, value);
    }
    tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Starts a task that posts the webhooks of a database until the returned token is cancelled. `allow_private` permits
/// receivers on this machine.
pub fn start_posting(pool: &Pool, allow_private: bool) -> (CancellationToken, JoinHandle<()>) {
    let (pool, stop) = (pool.clone(), CancellationToken::new());
    let stopped = stop.clone();
    let running =
        tokio::spawn(async move { escalation_webhook::run(&pool, &Webhook { allow_private }, &stopped).await });
    (stop, running)
}

/// The setting that permits receivers on this machine.
pub const ANYWHERE: (&str, &str) = ("VESTNIK_WEBHOOK_ALLOW_PRIVATE", "true");

#[tokio::test(flavor = "multi_thread")]
async fn a_test_is_posted_and_two_secrets_sign_while_they_change() {
    let (database, mut hook) = (Database::fresh().await, Hook::start(&[]).await);
    let url = hook.url();
    let set = ["store", "set", "--store", "7", "--webhook", &url];
    let done = vestnik(&database, &set, &[ANYWHERE, ("VESTNIK_WEBHOOK_SECRET", SECRET)]).await;
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert!(
        !text(&done.stdout).contains("whsec_"),
        "a secret that the operator gave is not printed"
    );
    let tested = vestnik(&database, &["webhook", "test", "--store", "7"], &[ANYWHERE]).await;
    assert!(
        text(&tested.stdout).contains("answered 204"),
        "{}",
        text(&tested.stderr)
    );
    let post = hook.until(1).await.remove(0);
    assert!(is_signed(&post, SECRET) && !is_signed(&post, OTHER), "{post:?}");
    let body: Value = serde_json::from_str(&post.body).unwrap();
    assert_eq!((&body["type"], &body["store_id"]), (&"test".into(), &"7".into()));

    let rotate = ["webhook", "rotate", "--store", "7"];
    let done = vestnik(&database, &rotate, &[("VESTNIK_WEBHOOK_SECRET", OTHER)]).await;
    assert!(done.status.success(), "{}", text(&done.stderr));
    vestnik(&database, &["webhook", "test", "--store", "7"], &[ANYWHERE]).await;
    let post = hook.until(2).await.remove(1);
    assert!(is_signed(&post, SECRET) && is_signed(&post, OTHER), "{post:?}");

    let finish = [&rotate[..], &["--finish"]].concat();
    assert!(vestnik(&database, &finish, &[]).await.status.success());
    assert_eq!(
        vestnik(&database, &finish, &[]).await.status.code(),
        Some(1),
        "it is over"
    );
    vestnik(&database, &["webhook", "test", "--store", "7"], &[ANYWHERE]).await;
    let post = hook.until(3).await.remove(2);
    assert!(!is_signed(&post, SECRET) && is_signed(&post, OTHER), "{post:?}");
    let ids: std::collections::HashSet<String> = hook.posts().into_iter().map(|post| post.id).collect();
    assert_eq!(ids.len(), 3, "each test is a message of its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_made_where_none_is_given_and_kept_when_the_address_changes() {
    let (database, mut hook) = (Database::fresh().await, Hook::start(&[]).await);
    let set = |url: &str| ["store", "set", "--store", "7", "--webhook", url].map(str::to_owned);
    let run = async |arguments: &[String]| {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        vestnik(&database, &arguments, &[ANYWHERE]).await
    };
    let made = text(&run(&set("http://127.0.0.1:1/elsewhere")).await.stdout);
    let secret = made
        .split_whitespace()
        .find(|word| word.starts_with("whsec_"))
        .expect("the secret is printed")
        .to_owned();
    let moved = text(&run(&set(&hook.url())).await.stdout);
    assert!(!moved.contains("whsec_"), "{moved}");
    vestnik(&database, &["webhook", "test", "--store", "7"], &[ANYWHERE]).await;
    let post = hook.until(1).await.remove(0);
    assert!(is_signed(&post, &secret), "{post:?}");
    assert!(
        vestnik(&database, &["webhook", "rotate", "--store", "7"], &[])
            .await
            .status
            .success()
    );
    assert!(run(&set("none")).await.status.success());
    let gone = vestnik(&database, &["webhook", "test", "--store", "7"], &[ANYWHERE]).await;
    assert!(text(&gone.stderr).contains("has no webhook"), "{}", text(&gone.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_receiver_answers_to_a_test_is_said() {
    let answers = [Answer::Status(500), Answer::Status(302)];
    let (database, hook) = (Database::fresh().await, Hook::start(&answers).await);
    let url = hook.url();
    vestnik(
        &database,
        &["store", "set", "--store", "7", "--webhook", &url],
        &[ANYWHERE],
    )
    .await;
    for said in ["answered 500", "answered 302"] {
        let tested = vestnik(&database, &["webhook", "test", "--store", "7"], &[ANYWHERE]).await;
        assert_eq!(tested.status.code(), Some(1));
        assert!(text(&tested.stderr).contains(said), "{}", text(&tested.stderr));
    }
    database
        .client()
        .await
        .batch_execute("update vestnik.vst_store set webhook_url = 'http://127.0.0.1:1/'")
        .await
        .unwrap();
    let tested = vestnik(&database, &["webhook", "test", "--store", "7"], &[ANYWHERE]).await;
    assert!(
        text(&tested.stderr).contains("Connection refused"),
        "{}",
        text(&tested.stderr)
    );
    assert!(
        !text(&tested.stderr).contains("127.0.0.1:1"),
        "the address is not printed, because it may contain a secret"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_a_password_and_a_private_address_are_refused_and_not_called() {
    let (database, hook) = (Database::fresh().await, Hook::start(&[]).await);
    for (url, why) in [
        ("http://example.com/hook", "https://"),
        ("http://169.254.169.254/latest/meta-data", "https://"),
        ("https://169.254.169.254/latest/meta-data", "allow_private"),
        ("https://[::1]:8443/hook", "allow_private"),
        ("https://localhost/hook", "allow_private"),
        ("https://user:pw@example.com/hook", "no user and password"),
        ("https://x y", "looks like https://example.com/hook"),
        ("example.com/hook", "looks like https://example.com/hook"),
    ] {
        let refused = vestnik(&database, &["store", "set", "--store", "7", "--webhook", url], &[]).await;
        let said = text(&refused.stderr);
        assert!(refused.status.code() == Some(2) && said.contains(why), "{url}: {said}");
    }
    let short = [("VESTNIK_WEBHOOK_SECRET", "too short")];
    let set = ["store", "set", "--store", "7", "--webhook", "https://example.com/hook"];
    assert_eq!(vestnik(&database, &set, &short).await.status.code(), Some(2));
    // The program does not post to a private address, even if the address is already saved, or a host name resolves to
    // it.
    let (client, pool) = (database.client().await, db::pool(&database.config().database).unwrap());
    let port = hook
        .url()
        .rsplit_once(':')
        .unwrap()
        .1
        .split_once('/')
        .unwrap()
        .0
        .to_owned();
    client
        .batch_execute(&format!(
            "insert into vestnik.vst_store (id, webhook_url, webhook_secret) values \
                 ('7', '{}', '{SECRET}'), ('8', 'https://127.0.0.1:{port}/', '{SECRET}'), ('9', 'https://inside.localhost:{port}/', '{SECRET}'); \
             insert into orders (store_id) values (7), (8), (9); \
             insert into vestnik.vst_webhook (event_id, store_id) select id, store_id from vestnik.vst_event",
            hook.url()
        ))
        .await
        .unwrap();
    let (stop, running) = start_posting(&pool, false);
    let refused =
        "select count(*) = 3 from vestnik.vst_webhook where state = 'retrying' and reason like '%allow_private%'";
    until(&client, refused).await;
    assert!(hook.posts().is_empty());
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_gone_for_good_is_left_alone() {
    let (database, mut hook) = (Database::fresh().await, Hook::start(&[Answer::Status(410)]).await);
    let (client, pool) = (database.client().await, db::pool(&database.config().database).unwrap());
    client
        .batch_execute(&format!(
            "insert into vestnik.vst_store (id, webhook_url, webhook_secret) values ('7', '{}', '{SECRET}'); \
             insert into orders (store_id) values (7); \
             insert into vestnik.vst_webhook (event_id, store_id) select id, store_id from vestnik.vst_event",
            hook.url()
        ))
        .await
        .unwrap();
    let (stop, running) = start_posting(&pool, true);
    until(
        &client,
        "select state = 'dead' and reason like 'answered 410%' from vestnik.vst_webhook",
    )
    .await;
    let post = hook.until(1).await.remove(0);
    assert_eq!(post.id, "evt_1");
    stop.cancel();
    running.await.unwrap();
}
