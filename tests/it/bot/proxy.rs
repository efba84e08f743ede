//! The bot reaches Telegram only through a proxy.

use super::{ANNA, ask, people, run, text};
use crate::support::app::App;
use crate::support::db::Database;
use crate::support::forward::{Forward, Kind, USER};

/// The URL of a Bot API on a host that does not exist. Only the proxy of the test can connect to it.
const NOWHERE: &str = "http://bot-api.invalid:8081";

#[tokio::test(flavor = "multi_thread")]
async fn orders_and_commands_go_through_a_proxy_of_either_kind() {
    for (kind, scheme) in [(Kind::Http, "http"), (Kind::Socks, "socks5h")] {
        let telegram = people().await;
        let target = telegram.url().trim_start_matches("http://").parse().unwrap();
        let proxy = Forward::start(kind, target).await;
        let database = Database::fresh().await;
        telegram.link(&database, "7", ANNA, "mirror").await;
        let settings = vestnik::infra::config::Telegram {
            api_url: NOWHERE.into(),
            proxy: Some(format!("{scheme}://{USER}@{}", proxy.address).into()),
            ..telegram.settings()
        };
        let app = App::start_on(database, |config| config.telegram = Some(settings)).await;
        app.write("insert into orders (store_id) values (7)").await;
        telegram.until_messages(ANNA, 1).await;
        assert!(ask(&telegram, ANNA, ANNA, "/help").await.contains("/link"));
        let asked = proxy.asked();
        assert!(
            !asked.is_empty() && asked.iter().all(|host| host == "bot-api.invalid:8081"),
            "{asked:?}"
        );
        app.engine.shut_down().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proxy_gets_a_connect_for_the_real_address_and_an_invalid_proxy_is_refused_without_its_password() {
    let telegram = people().await;
    let database = Database::fresh().await;
    let proxy = Forward::start(Kind::Http, "127.0.0.1:1".parse().unwrap()).await;
    let through = format!("telegram.proxy=http://{USER}@{}", proxy.address);
    let real = "telegram.api_url=https://api.telegram.org";
    let link = ["telegram", "link", "--store", "7", "--set", &through, "--set", real];
    let output = run(&database, &telegram, &link).await;
    let said = text(&output.stderr);
    assert!(
        said.contains("Telegram cannot be reached") && !said.contains("secret"),
        "{said}"
    );
    assert_eq!(proxy.asked(), ["api.telegram.org:443"]);
    for wrong in [
        "telegram.proxy=cook:secret@host:1",
        "telegram.proxy=ftp://cook:secret@host:1",
    ] {
        let output = run(&database, &telegram, &["telegram", "status", "--set", wrong]).await;
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(
            said.contains("socks5h://host:1080") && !said.contains("secret"),
            "{said}"
        );
    }
}
