//! The stop list of a store: who may stop the sale of an item, who is notified, and when the item is on sale again.

use serde_json::{Value, json};
use time::Duration;
use vestnik::token::{Scope, Stores};

use crate::pause::{ask, moment};
use crate::support::app::App;

const PATH: &str = "/api/partner/stores/7/stop-list";

fn put_back(item: &str) -> String {
    format!("{PATH}?panel=kitchen&item={}", item.replace(' ', "%20"))
}

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().unwrap();
    items.iter().map(|one| one["item"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn every_panel_and_the_shops_application_learn_of_an_item_that_is_out_of_stock() {
    let app = App::start().await;
    let mut panel = app.panel("7", None).await.live().await;
    let mut other = app.panel("8", None).await.live().await;
    assert_eq!(
        ask(&app, "GET", PATH, &app.token, None).await.json(),
        json!({"items": []})
    );
    let wish = json!({"item": " Green Tea ", "minutes": 60, "by": "Anna"});
    let list = ask(&app, "PUT", PATH, &app.token, Some(wish)).await;
    assert_eq!(list.status, 200, "{}", list.text());
    let list = list.json();
    let stopped = &list["items"][0];
    assert_eq!(
        (&stopped["item"], &stopped["by"]),
        (&json!("Green Tea"), &json!("Anna"))
    );
    let lasts = moment(&stopped["until"]) - moment(&stopped["since"]);
    assert_eq!(lasts.whole_minutes(), 60);
    assert_eq!(ask(&app, "GET", PATH, &app.token, None).await.json(), list);
    let told = panel.event().await;
    assert_eq!((&told["type"], &told["data"]), (&json!("item_out_of_stock"), stopped));
    // The shop's application can read the stop list in its own database.
    app.database
        .until("select until > now() and stopped_by = 'Anna' from vestnik.vst_out_of_stock_now where store_id = '7' and item = 'Green Tea'")
        .await;

    // A second PUT for the item changes the existing stop. Without an end, the stop lasts until somebody removes it.
    let list = ask(&app, "PUT", PATH, &app.token, Some(json!({"item": "Green Tea"})))
        .await
        .json();
    assert_eq!(names(&list), ["Green Tea"]);
    assert_eq!(list["items"][0]["since"], told["data"]["since"]);
    assert!(list["items"][0].get("until").is_none(), "{list}");
    assert_eq!(panel.event().await["data"], list["items"][0]);

    let back = put_back("Green Tea");
    assert_eq!(
        ask(&app, "DELETE", &back, &app.token, None).await.json(),
        json!({"items": []})
    );
    let told = panel.event().await;
    assert_eq!(
        (&told["type"], &told["data"]),
        (&json!("item_in_stock"), &json!({"item": "Green Tea", "by": "kitchen"}))
    );
    // Removing an item that is not on the list succeeds and creates no event.
    assert_eq!(ask(&app, "DELETE", &back, &app.token, None).await.status, 200);
    app.write("insert into orders (store_id) values (7), (8)").await;
    assert_eq!(
        panel.event().await["type"],
        "new_order",
        "the removal of an absent item creates no event"
    );
    assert_eq!(
        other.event().await["type"],
        "new_order",
        "another store has its own list"
    );
    app.engine.shut_down().await;
}

#[tokio::test]
async fn an_item_whose_time_is_over_is_back_and_that_is_said_once_with_two_nodes() {
    let app = App::start().await;
    let mut config = app.database.config();
    config.http.listen = ([127, 0, 0, 1], 0).into();
    let other = vestnik::engine::Engine::start(&config).await.unwrap();
    let mut panel = app.panel("7", None).await.live().await;
    for wish in [json!({"item": "Borsch", "until": "tomorrow"}), json!({"item": "Tea"})] {
        let list = ask(&app, "PUT", PATH, &app.token, Some(wish)).await;
        assert_eq!(list.status, 200, "{}", list.text());
        assert_eq!(panel.event().await["type"], "item_out_of_stock");
    }
    app.write("update vestnik.vst_out_of_stock set until = clock_timestamp() where item = 'Borsch'")
        .await;
    assert_eq!(names(&ask(&app, "GET", PATH, &app.token, None).await.json()), ["Tea"]);
    let told = panel.event().await;
    assert_eq!(
        (&told["type"], &told["data"]),
        (&json!("item_in_stock"), &json!({"item": "Borsch"}))
    );
    app.database
        .until("select count(*) = 1 from vestnik.vst_event where type = 'item_in_stock'")
        .await;
    app.database
        .until("select string_agg(item, ',') = 'Tea' from vestnik.vst_out_of_stock")
        .await;
    other.shut_down().await;
    app.engine.shut_down().await;
}

#[tokio::test]
async fn a_space_may_be_a_plus_and_a_whole_number_may_have_a_point_as_clients_write_them() {
    let app = App::start().await;
    let item = "Quattro Formaggi + Bacon";
    let body = json!({"item": item, "minutes": 30.0});
    let stopped = ask(&app, "PUT", PATH, &app.token, Some(body)).await;
    assert_eq!(names(&stopped.json()), [item], "{}", stopped.text());
    let half = json!({"item": item, "minutes": 30.5});
    assert_eq!(ask(&app, "PUT", PATH, &app.token, Some(half)).await.status, 400);
    let back = format!("{PATH}?panel=The+kitchen&item=Quattro+Formaggi+%2B+Bacon");
    let list = ask(&app, "DELETE", &back, &app.token, None).await;
    assert_eq!(list.json(), json!({"items": []}));
    // In a URL, the `+` of a time's offset may be written as it is or encoded.
    for offset in ["+03:00", "%2B03:00"] {
        let span = format!("from=2026-01-01T00:00:00{offset}&to=2026-01-02T00:00:00{offset}");
        let summary = ask(
            &app,
            "GET",
            &format!("/api/partner/stores/7/summary?{span}"),
            &app.database.token_of(Stores::All, Scope::Manager).await,
            None,
        )
        .await;
        assert_eq!(summary.status, 200, "{}", summary.text());
    }
}

#[tokio::test]
async fn a_stop_wants_a_name_an_end_within_a_week_and_a_token_of_a_panel() {
    let app = App::start().await;
    for wrong in [
        json!({}),
        json!({"item": "  "}),
        json!({"item": "x".repeat(201)}),
        json!({"item": "a\u{202e}b"}),
        json!({"item": "Tea", "minutes": 0}),
        json!({"item": "Tea", "minutes": 7 * 24 * 60 + 1}),
        json!({"item": "Tea", "until": "yesterday"}),
        json!({"item": "Tea", "until": "2020-01-01T00:00:00Z"}),
        json!({"item": "Tea", "minutes": 5, "until": "tomorrow"}),
        json!({"item": "Tea", "by": "\u{7}"}),
        json!({"item": "Tea", "for": "tomorrow"}),
    ] {
        let answer = ask(&app, "PUT", PATH, &app.token, Some(wrong.clone())).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "bad_body"), "{wrong}");
    }
    let nameless = ask(&app, "DELETE", PATH, &app.token, None).await;
    assert_eq!((nameless.status, nameless.code().as_str()), (400, "bad_parameter"));
    let reads = app.database.token_of(Stores::All, Scope::Read).await;
    let back = put_back("Tea");
    for (method, path, expected) in [("GET", PATH, 200), ("PUT", PATH, 403), ("DELETE", &back, 403)] {
        let body = (method == "PUT").then(|| json!({"item": "Tea"}));
        assert_eq!(ask(&app, method, path, &reads, body).await.status, expected, "{method}");
    }
    // The list has a limit of 500 items. When the list is full, a person can still change its items.
    app.write(
        "insert into vestnik.vst_out_of_stock (store_id, item) select '7', 'Dish ' || n from generate_series(1, 500) n",
    )
    .await;
    let one_more = ask(&app, "PUT", PATH, &app.token, Some(json!({"item": "Tea"}))).await;
    assert_eq!((one_more.status, one_more.code().as_str()), (400, "bad_body"));
    let known = json!({"item": "Dish 7", "minutes": 60});
    let list = ask(&app, "PUT", PATH, &app.token, Some(known)).await.json();
    assert_eq!(names(&list).len(), 500);
    let dish = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["item"] == "Dish 7");
    let until = moment(&dish.unwrap()["until"]);
    assert!(until > time::OffsetDateTime::now_utc() + Duration::minutes(58));
    app.engine.shut_down().await;
}
