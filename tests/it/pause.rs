//! A store's pause, in which the shop takes no orders: who may begin it, who is notified, and when it ends.

use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};
use vestnik::token::{Scope, Stores};

use crate::support::app::App;
use crate::support::http::{Answer, call};

const PATH: &str = "/api/partner/stores/7/pause";

pub async fn ask(app: &App, method: &str, path: &str, token: &str, body: Option<Value>) -> Answer {
    let bearer = format!("Bearer {token}");
    let body = body.map(|body| body.to_string());
    call(
        app.engine.address(),
        method,
        path,
        &[("Authorization", bearer.as_str())],
        body.as_deref(),
    )
    .await
}

pub fn moment(value: &Value) -> OffsetDateTime {
    OffsetDateTime::parse(value.as_str().unwrap(), &Rfc3339).unwrap()
}

#[tokio::test]
async fn every_panel_and_the_shops_application_learn_of_a_pause() {
    let app = App::start().await;
    let mut panel = app.panel("7", None).await.live().await;
    assert_eq!(
        ask(&app, "GET", PATH, &app.token, None).await.json(),
        json!({"paused": false})
    );

    let wish = json!({"minutes": 30, "by": "Анна", "reason": "печь остыла"});
    let begun = ask(&app, "PUT", PATH, &app.token, Some(wish)).await;
    assert_eq!(begun.status, 200, "{}", begun.text());
    let pause = begun.json();
    assert_eq!(
        (&pause["paused"], &pause["by"], &pause["reason"]),
        (&json!(true), &json!("Анна"), &json!("печь остыла"))
    );
    assert_eq!((moment(&pause["until"]) - moment(&pause["since"])).whole_minutes(), 30);
    assert_eq!(ask(&app, "GET", PATH, &app.token, None).await.json(), pause);
    let card = app.get_json("/api/partner/stores/7/store").await;
    assert_eq!(card["pause"]["until"], pause["until"]);

    let told = panel.event().await;
    assert_eq!(told["type"], "store_paused");
    for member in ["since", "until", "by", "reason"] {
        assert_eq!(told["data"][member], pause[member], "{member}");
    }
    // The shop's application can read the pause in its own database.
    app.database
        .until("select until > now() and paused_by = 'Анна' from vestnik.vst_paused_now where store_id = '7'")
        .await;

    // A longer pause of the same store extends the current pause.
    let longer = ask(&app, "PUT", PATH, &app.token, Some(json!({"minutes": 60})))
        .await
        .json();
    assert_eq!(longer["since"], pause["since"]);
    assert!(moment(&longer["until"]) > moment(&pause["until"]));
    assert_eq!(panel.event().await["data"]["until"], longer["until"]);

    let path = format!("{PATH}?panel=kitchen");
    assert_eq!(
        ask(&app, "DELETE", &path, &app.token, None).await.json(),
        json!({"paused": false})
    );
    let told = panel.event().await;
    assert_eq!(
        (&told["type"], &told["data"]),
        (&json!("store_resumed"), &json!({"by": "kitchen"}))
    );
    assert!(app.get_json("/api/partner/stores/7/store").await.get("pause").is_none());
    // Ending a pause that has already ended succeeds.
    assert_eq!(ask(&app, "DELETE", PATH, &app.token, None).await.status, 200);
    app.write("insert into orders (store_id) values (7)").await;
    assert_eq!(
        panel.event().await["type"],
        "new_order",
        "ending an ended pause creates no event"
    );
    app.engine.shut_down().await;
}

#[tokio::test]
async fn a_pause_ends_by_itself_and_says_so_once_with_two_nodes() {
    let app = App::start().await;
    let mut config = app.database.config();
    config.http.listen = ([127, 0, 0, 1], 0).into();
    let other = vestnik::engine::Engine::start(&config).await.unwrap();
    let mut panel = app.panel("7", None).await.live().await;
    ask(&app, "PUT", PATH, &app.token, Some(json!({"minutes": 15}))).await;
    assert_eq!(panel.event().await["type"], "store_paused");
    app.write("update vestnik.vst_pause set until = clock_timestamp()")
        .await;
    assert_eq!(
        ask(&app, "GET", PATH, &app.token, None).await.json(),
        json!({"paused": false})
    );
    let told = panel.event().await;
    assert_eq!((&told["type"], &told["data"]), (&json!("store_resumed"), &json!({})));
    app.database
        .until("select not exists (select from vestnik.vst_pause) and count(*) = 1 from vestnik.vst_event where type = 'store_resumed'")
        .await;
    other.shut_down().await;
    app.engine.shut_down().await;
}

#[tokio::test]
async fn tomorrow_begins_at_five_by_the_stores_clock() {
    let app = App::start().await;
    app.write("insert into vestnik.vst_store (id, time_zone) values ('7', 'Asia/Vladivostok')")
        .await;
    let pause = ask(&app, "PUT", PATH, &app.token, Some(json!({"until": "tomorrow"})))
        .await
        .json();
    let until = moment(&pause["until"]);
    let local = until + Duration::hours(10);
    assert_eq!((local.hour(), local.minute()), (5, 0), "{pause}");
    let ahead = until - moment(&pause["since"]);
    assert!(ahead > Duration::ZERO && ahead <= Duration::days(1), "{pause}");
    app.engine.shut_down().await;
}

#[tokio::test]
async fn a_pause_wants_an_end_within_a_week_and_a_token_of_a_panel() {
    let app = App::start().await;
    let in_days = |days| {
        (OffsetDateTime::now_utc() + Duration::days(days))
            .format(&Rfc3339)
            .unwrap()
    };
    for wrong in [
        json!({}),
        json!({"minutes": 0}),
        json!({"minutes": -5}),
        json!({"minutes": 7 * 24 * 60 + 1}),
        json!({"until": "yesterday"}),
        json!({"until": in_days(-1)}),
        json!({"until": in_days(8)}),
        json!({"minutes": 5, "until": "tomorrow"}),
        json!({"minutes": 5, "by": "\u{202e}"}),
        json!({"minutes": 5, "reason": "x".repeat(501)}),
    ] {
        let answer = ask(&app, "PUT", PATH, &app.token, Some(wrong.clone())).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "bad_body"), "{wrong}");
    }
    assert_eq!(
        ask(&app, "PUT", PATH, &app.token, Some(json!({"until": in_days(2)})))
            .await
            .status,
        200
    );
    let reads = app.database.token_of(Stores::All, Scope::Read).await;
    for (method, expected) in [("GET", 200), ("PUT", 403), ("DELETE", 403)] {
        let body = (method == "PUT").then(|| json!({"minutes": 15}));
        assert_eq!(ask(&app, method, PATH, &reads, body).await.status, expected, "{method}");
    }
    assert_eq!(ask(&app, "GET", PATH, &reads, None).await.json()["paused"], true);
    app.engine.shut_down().await;
}
