//! Several databases behind one address. Each store belongs to one database, and a node reads the store's orders there.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::json;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Error;
use vestnik::infra::config::{self, Config, ServedDatabase, Sources};
use vestnik::token::Stores;

use crate::support::app::{App, PATIENCE, Panel};
use crate::support::db::Database;
use crate::support::look_again;

/// An engine that serves two databases. Each database has its own token.
struct TwoDatabases {
    app: App,
    second: Database,
    second_token: String,
}

pub fn served(name: &str, database: &Database, stores: Option<&[&str]>) -> ServedDatabase {
    ServedDatabase {
        name: name.into(),
        database: database.config().database,
        stores: stores.map(|stores| stores.iter().map(|store| (*store).to_owned()).collect::<BTreeSet<_>>()),
        telegram: None,
    }
}

impl TwoDatabases {
    async fn start(first_has: Option<&[&str]>, second_has: Option<&[&str]>) -> Self {
        let (first, second) = (Database::fresh().await, Database::fresh().await);
        let databases = vec![served("one", &first, first_has), served("two", &second, second_has)];
        let second_token = second.token(Stores::All).await;
        let app = App::start_on(first, |config: &mut Config| config.databases = databases).await;
        app.engine.until_fresh().await;
        Self {
            app,
            second,
            second_token,
        }
    }

    async fn panel(&self, store: &str, after: Option<&str>, token: &str) -> Panel {
        self.app.try_panel(store, after, token).await.unwrap().live().await
    }
}

const ORDER: &str = "insert into orders (store_id, customer_name) values";

#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_served_from_the_database_that_the_settings_name() {
    let both = TwoDatabases::start(Some(&["1"]), Some(&["2"])).await;
    let mut one = both.panel("1", None, &both.app.token).await;
    let mut two = both.panel("2", None, &both.second_token).await;
    both.app.write(&format!("{ORDER} (1, 'first'), (2, 'elsewhere')")).await;
    let client = both.second.client().await;
    client
        .batch_execute(&format!("{ORDER} (1, 'elsewhere'), (2, 'second')"))
        .await
        .unwrap();
    assert_eq!(one.event().await["data"]["customer_name"], "first");
    assert_eq!(two.event().await["data"]["customer_name"], "second");
    // A token of one database is not valid for a store of the other database.
    let refused = both.app.try_panel("2", None, &both.app.token).await;
    assert!(matches!(refused, Err(Error::Http(answer)) if answer.status() == 403));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_of_one_database_is_refused_by_the_other() {
    let both = TwoDatabases::start(Some(&["1"]), Some(&["2"])).await;
    let one = both.panel("1", None, &both.app.token).await;
    let two = both.panel("2", Some(&one.cursor), &both.second_token).await;
    assert_eq!(two.before_live[0]["type"], "resync_required");
    assert_eq!(two.before_live[0]["reason"], "epoch");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_no_setting_names_is_found_by_asking() {
    let both = TwoDatabases::start(None, None).await;
    let unknown = both.app.get("/api/partner/session/7", Some(&both.app.token)).await;
    assert_eq!(unknown.0, 404, "{}", unknown.1);
    assert!(unknown.1.contains("unknown_store"), "{}", unknown.1);
    // A node learns of a store by the store's first order, or by a token that names the store.
    let client = both.second.client().await;
    client.batch_execute(&format!("{ORDER} (7, 'known')")).await.unwrap();
    let mut seven = both.panel("7", None, &both.second_token).await;
    client.batch_execute(&format!("{ORDER} (7, 'second')")).await.unwrap();
    // The feed may read the first order only after the panel has connected, so skip its event.
    while seven.event().await["data"]["customer_name"] != "second" {}
    let token = both.app.database.token(Stores::These(vec!["8".into()])).await;
    let mut eight = both.panel("8", None, &token).await;
    both.app.write(&format!("{ORDER} (8, 'first')")).await;
    assert_eq!(eight.event().await["data"]["customer_name"], "first");
    // If both databases have a store, no node serves the store until the settings assign it to one database.
    both.app.write(&format!("{ORDER} (9, 'twice')")).await;
    client.batch_execute(&format!("{ORDER} (9, 'twice')")).await.unwrap();
    let of_all = &both.app.token;
    assert_eq!(both.app.get("/api/partner/session/9", Some(of_all)).await.0, 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_takes_no_other_with_it() {
    let (first, gone) = (Database::fresh().await, Database::empty().await);
    let mut away = served("away", &gone, Some(&["2"]));
    away.database.url = Some("postgres://nobody@127.0.0.1:1/nowhere".to_owned().into());
    let databases = vec![served("here", &first, Some(&["1"])), away];
    let app = App::start_on(first, |config: &mut Config| config.databases = databases).await;
    app.until_listening().await;
    let served = timeout(PATIENCE, async {
        while app.readiness().await["databases"] != json!({"here": "listening", "away": "away"}) {
            look_again().await;
        }
    });
    served.await.expect("the node names the database that is away");
    app.until_ready().await;
    let mut one = app.panel("1", None).await.live().await;
    app.write(&format!("{ORDER} (1, 'here')")).await;
    assert_eq!(one.event().await["data"]["customer_name"], "here");
    assert_eq!(app.get("/api/partner/session/2", Some(&app.token)).await.0, 503);
}

fn read(databases: &str, more: &[(&str, &str)]) -> Result<Config, String> {
    let mut flags = vec![("databases".to_owned(), databases.to_owned())];
    flags.extend(
        more.iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
    );
    config::load(&Sources {
        flags,
        ..Sources::default()
    })
    .map_err(|problems| problems.to_string())
}

#[test]
fn several_databases_are_read_from_text_and_what_is_wrong_is_said_without_a_password() {
    let good = r#"[{ name = "a", url = "postgres://x:secret@a/x", stores = ["1"], telegram_token = "1:aaaaaaaaaaaa" },
        { name = "b", url = "postgres://x@b/x" }]"#;
    let config = read(good, &[("database.pool_size", "3")]).unwrap();
    let both = config.each_database();
    assert_eq!(both.len(), 2);
    assert!(
        both.iter()
            .all(|(config, _)| config.database.pool_size == 3 && config.databases.is_empty())
    );
    assert!(both[0].0.telegram.is_some() && both[1].0.telegram.is_none());
    assert_eq!(both[1].1.as_ref().unwrap().stores, None);
    for (wrong, more) in [
        (r#"[{ name = "a" }]"#, &[][..]),
        (r#"[{ url = "postgres://x@a/x" }]"#, &[]),
        (r#"[{ name = "a", url = "postgres://x@a/x", color = "red" }]"#, &[]),
        (r#"[{ name = "a", url = "postgres://x@a:secret/x" }]"#, &[]),
        (
            r#"[{ name = "a", url = "postgres://x@a/x", telegram_token = "secret" }]"#,
            &[],
        ),
        (
            r#"[{ name = "a", url = "postgres://x@a/x" }, { name = "a", url = "postgres://x@b/x" }]"#,
            &[],
        ),
        (
            r#"[{ name = "a", url = "postgres://x@a/x", stores = ["1"] }, { name = "b", url = "postgres://x@b/x", stores = ["1"] }]"#,
            &[],
        ),
        ("nonsense", &[]),
        (
            r#"[{ name = "a", url = "postgres://x@a/x" }]"#,
            &[("database.url", "postgres://x@c/x")],
        ),
        (
            r#"[{ name = "a", url = "postgres://x@a/x" }]"#,
            &[("telegram.token", "1:aaaaaaaaaaaa")],
        ),
    ] {
        let said = read(wrong, more).expect_err(wrong);
        assert!(!said.contains("secret"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_says_which_of_several_databases_it_is_for() {
    let (one, two) = (Database::empty().await, Database::empty().await);
    let databases = format!(
        r#"[{{ name = "one", url = "{}" }}, {{ name = "two", url = "{}" }}]"#,
        one.url(),
        two.url()
    );
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_vestnik"))
            .args(arguments)
            .env("VESTNIK_DATABASES", &databases)
            .env_remove("DATABASE_URL")
            .current_dir(std::env::temp_dir())
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (code, said, _) = run(&["migrate"]);
    assert_eq!(
        (code, said.matches("the database is up to date\n").count()),
        (Some(0), 2),
        "{said}"
    );
    let (code, _, said) = run(&["token", "list"]);
    assert_eq!(code, Some(2));
    assert!(said.contains("choose one with --database: one, two"), "{said}");
    let (code, _, said) = run(&["token", "list", "--database", "three"]);
    assert_eq!(code, Some(2));
    assert!(
        said.contains("there is no database three; choose one of: one, two"),
        "{said}"
    );
    assert_eq!(
        run(&["token", "create", "--store", "7", "--database", "two"]).0,
        Some(0)
    );
    let tokens = |client: vestnik::infra::db::Client| async move {
        let count = client
            .query_one("select count(*) from vestnik.vst_token", &[])
            .await
            .unwrap();
        count.get::<_, i64>(0)
    };
    assert_eq!(
        (tokens(one.client().await).await, tokens(two.client().await).await),
        (0, 1)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_made_up_token_learns_of_no_store_whether_it_is_there() {
    let both = TwoDatabases::start(None, None).await;
    let client = both.second.client().await;
    client.batch_execute(&format!("{ORDER} (7, 'known')")).await.unwrap();
    let wrong = "vst_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let app = &both.app;
    let ask = |store: &str, token| {
        let path = format!("/api/partner/session/{store}");
        async move { app.get(&path, token).await }
    };
    for token in [Some(wrong), None, Some("nonsense")] {
        assert_eq!(ask("7", token).await, ask("nosuch", token).await);
        assert_eq!(ask("7", token).await.0, 401);
    }
    // The holder of a token for one store cannot learn whether another store exists: both responses are equal.
    let narrow = both.app.database.token(Stores::These(vec!["5".into()])).await;
    assert_eq!(ask("7", Some(&narrow)).await, ask("nosuch", Some(&narrow)).await);
    assert_eq!(ask("7", Some(&narrow)).await.0, 403);
    // `app.token` is valid for every store of the first database. So its holder may learn that a store does not exist
    // (404). For store 7, which is in the second database, this token is refused (403).
    assert_eq!(ask("nosuch", Some(&app.token)).await.0, 404);
    assert_eq!(ask("7", Some(&app.token)).await.0, 403);
    assert_eq!(ask("7", Some(&both.second_token)).await.0, 200);
}
