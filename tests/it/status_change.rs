//! A person presses a button, and the engine changes the status in the shop's own row. The change happens only once and
//! only from the expected status. It contains the person's name.

use std::time::Duration;

use futures::future::join_all;
use vestnik::domain::event::StoreId;
use vestnik::domain::status::{Status, SubjectKind};
use vestnik::infra::config::Config;
use vestnik::infra::db;
use vestnik::infra::db::Pool;
use vestnik::sources::Sources;
use vestnik::sources::status_change::{
    AnswerChannel, CurrentStatus, ShopApi, StatusChange, StatusChangeOutcome, change_status, current_status,
};

use crate::support::db::{Database, until};
use crate::support::{LOCK_LIMIT, in_rounds, within};

/// The status changes that a person may make: the earlier status, the new status, and the orders or bookings that may
/// have this change. `*`: orders with delivery. `-`: orders without delivery. `booking`: bookings. An empty text: all
/// orders and bookings, but no booking may become `ready`.
const ALLOWED: [(&str, &str, &str); 9] = [
    ("pending", "preparing", ""),
    ("pending", "rejected", ""),
    ("preparing", "ready", ""),
    ("preparing", "rejected", ""),
    ("ready", "delivering", "*"),
    ("ready", "completed", "-"),
    ("delivering", "completed", ""),
    ("preparing", "completed", "booking"),
    ("ready", "completed", "booking"),
];
const STATUSES: [&str; 7] = [
    "pending",
    "preparing",
    "ready",
    "delivering",
    "completed",
    "rejected",
    "cancelled",
];

/// A database, with the pool and the sources of a node.
pub struct Shop {
    pub database: Database,
    pool: Pool,
    sources: std::sync::Arc<Sources>,
}

impl Shop {
    async fn fresh() -> Self {
        Self::of(Database::fresh().await).await
    }

    pub async fn of(database: Database) -> Self {
        let pool = db::pool(&database.config().database).unwrap();
        let sources = database.sources().await.current();
        Self {
            database,
            pool,
            sources,
        }
    }

    pub async fn run(&self, sql: &str) {
        self.database.client().await.batch_execute(sql).await.unwrap();
    }

    pub async fn change(&self, change: &StatusChange<'_>) -> StatusChangeOutcome {
        change_status(&self.pool, &self.sources, &shop_api(), change, ())
            .await
            .unwrap()
    }
}

/// A client for the APIs of shops. No shop in these tests has an API.
fn shop_api() -> ShopApi {
    let config = Config::default();
    ShopApi::new(config.webhook, &config.answers).unwrap()
}

pub fn change<'a>(store: &'a StoreId, key: &'a str, to: &str, by: &'a str) -> StatusChange<'a> {
    StatusChange {
        request: None,
        store,
        kind: SubjectKind::Order,
        source: None,
        key,
        to: Status::from_name(to).unwrap(),
        from: None,
        minutes: None,
        reason: None,
        by,
        token: None,
        channel: AnswerChannel::Telegram,
        step_back: Duration::ZERO,
    }
}

pub fn current(source: &str, status: &str, by: Option<&str>) -> CurrentStatus {
    CurrentStatus {
        source: source.into(),
        status: Status::from_name(status).unwrap(),
        word: None,
        by: by.map(str::to_owned),
        is_delivered: false,
    }
}

pub fn done(source: &str, previous: &str) -> StatusChangeOutcome {
    StatusChangeOutcome::Done {
        source: source.into(),
        previous: Status::from_name(previous).unwrap(),
    }
}

fn is_allowed(kind: SubjectKind, from: &str, to: &str, delivered: bool) -> bool {
    ALLOWED.iter().any(|(a, b, when)| {
        let fits = match (*when, kind) {
            ("*", SubjectKind::Order) => delivered,
            ("-", SubjectKind::Order) => !delivered,
            ("booking", kind) => kind == SubjectKind::Booking,
            ("", SubjectKind::Booking) => *b != "ready",
            ("", SubjectKind::Order) => true,
            _ => false,
        };
        fits && (*a, *b) == (from, to)
    })
}

pub async fn text(database: &Database, sql: &str) -> String {
    database
        .client()
        .await
        .query_one(&format!("select coalesce(({sql})::text, '')"), &[])
        .await
        .unwrap()
        .get(0)
}

#[tokio::test]
async fn every_change_is_allowed_or_refused_by_where_the_order_stands() {
    let (shop, store) = (Shop::fresh().await, StoreId::new("7"));
    let client = shop.database.client().await;
    let mut seen = 0;
    for (kind, table, kinds) in [
        (SubjectKind::Order, "orders", &["delivery", "pickup", ""][..]),
        (SubjectKind::Booking, "bookings", &[""]),
    ] {
        for (order_type, from, to) in kinds
            .iter()
            .flat_map(|kind| STATUSES.map(|from| (kind, from)))
            .flat_map(|(kind, from)| STATUSES.map(|to| (kind, from, to)))
        {
            let delivered = *order_type == "delivery";
            let is_impossible = |status| status == "delivering" && !delivered;
            if is_impossible(from) {
                continue;
            }
            let insert = match kind {
                SubjectKind::Order => format!(
                    "insert into orders (store_id, status, order_type) values (7, '{from}', nullif('{order_type}', '')) returning id::text"
                ),
                SubjectKind::Booking => {
                    format!("insert into bookings (store_id, status) values (7, '{from}') returning id::text")
                }
            };
            let key: String = client.query_one(&insert, &[]).await.unwrap().get(0);
            let wanted = StatusChange {
                kind,
                ..change(&store, &key, to, "Anna")
            };
            let changed = shop.change(&wanted).await;
            let current = CurrentStatus {
                is_delivered: delivered,
                ..current(table, from, None)
            };
            let (expected, left) = if from == to {
                (StatusChangeOutcome::Already(current), from)
            } else if is_allowed(kind, from, to, delivered) {
                (done(table, from), to)
            } else {
                (StatusChangeOutcome::NotAllowed(current), from)
            };
            let what = format!("{table} {order_type:?} {from} -> {to}");
            assert_eq!(changed, expected, "{what}");
            let there = text(&shop.database, &format!("select status from {table} where id = {key}")).await;
            assert_eq!(there, left, "{what}");
            let noted = text(
                &shop.database,
                &format!(
                    "select count(*) from vestnik.vst_status_change c join vestnik.vst_source s on s.id = c.source \
                     where key = '{key}' and kind = '{}'",
                    kind.as_str()
                ),
            )
            .await;
            assert_eq!(
                noted == "1",
                matches!(changed, StatusChangeOutcome::Done { .. }),
                "{what}"
            );
            seen += 1;
        }
    }
    assert_eq!(seen, 49 + 42 + 42 + 42);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_at_once_exactly_one_is_first_and_the_others_learn_who() {
    let (shop, store) = (Shop::fresh().await, StoreId::new("7"));
    let (client, watcher) = (shop.database.client().await, shop.database.client().await);
    for (round, to) in ["preparing", "rejected"].into_iter().cycle().take(6).enumerate() {
        let names = ["Anna", "Boris", "Vera", "Gleb"];
        let (key, outcomes) = in_rounds(async || {
            let insert = "insert into orders (store_id) values (7) returning id::text";
            let key: String = client.query_one(insert, &[]).await.unwrap().get(0);
            // The shop holds a lock on the row until all four changes wait for this lock.
            client
                .batch_execute(&format!("begin; select from orders where id = {key} for update"))
                .await
                .unwrap();
            let outcomes = within(LOCK_LIMIT, async {
                let presses = names.map(|by| {
                    let (pool, sources, store, key) =
                        (shop.pool.clone(), shop.sources.clone(), store.clone(), key.clone());
                    tokio::spawn(async move {
                        change_status(&pool, &sources, &shop_api(), &change(&store, &key, to, by), ())
                            .await
                            .unwrap()
                    })
                });
                let waiting = "select count(*) >= 4 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
                until(&watcher, waiting).await;
                client.batch_execute("commit").await.unwrap();
                join_all(presses).await
            });
            let outcomes = outcomes.await;
            // A round that took too long has not ended the transaction.
            client.batch_execute("commit").await.unwrap();
            Some((key, outcomes?))
        })
        .await;
        let mut first = Vec::new();
        let mut told = Vec::new();
        for (by, outcome) in names.iter().zip(outcomes) {
            match outcome.unwrap() {
                outcome @ StatusChangeOutcome::Done { .. } => {
                    assert_eq!(outcome, done("orders", "pending"));
                    first.push((*by).to_owned());
                }
                StatusChangeOutcome::Already(current) => told.push((current.status, current.by.unwrap())),
                other => panic!("round {round}: {other:?}"),
            }
        }
        assert_eq!(first.len(), 1, "round {round}: {first:?}");
        let is_told = |(status, by): &(Status, String)| status.as_str() == to && *by == first[0];
        assert!(told.iter().all(is_told), "{told:?}");
        let late = shop.change(&change(&store, &key, "ready", "Dina")).await;
        if to == "rejected" {
            let current = current("orders", "rejected", Some(&first[0]));
            assert_eq!(late, StatusChangeOutcome::NotAllowed(current));
        }
    }
}

#[tokio::test]
async fn a_row_that_the_shop_holds_is_not_waited_for_for_ever() {
    let (shop, store) = (Shop::fresh().await, StoreId::new("7"));
    let client = shop.database.client().await;
    client
        .batch_execute("insert into orders (id, store_id) values (1, 7)")
        .await
        .unwrap();
    client
        .batch_execute("begin; select from orders where id = 1 for update")
        .await
        .unwrap();
    assert_eq!(
        shop.change(&change(&store, "1", "preparing", "Anna")).await,
        StatusChangeOutcome::Locked,
        "the person is told at once, without a retry"
    );
    client.batch_execute("commit").await.unwrap();
    assert_eq!(
        shop.change(&change(&store, "1", "preparing", "Anna")).await,
        done("orders", "pending")
    );
}

#[tokio::test]
async fn an_answer_is_written_in_the_shops_own_words_types_and_time_zone() {
    let database = Database::fresh().await;
    database
        .client()
        .await
        .batch_execute(
            "create type stage as enum ('ОЖИДАЕТ', 'ГОТОВИТСЯ', 'ОТКАЗ'); \
             create domain minutes as smallint check (value < 100); \
             create table \"Shop Tickets\" (\"No\" uuid primary key, \"Place\" text, \"State\" stage, why varchar(30), \
                 seen timestamp, \"acceptedAt\" timestamptz, eta minutes)",
        )
        .await
        .unwrap();
    database
        .attach(
            r#"
            table = 'public."Shop Tickets"'
            kind = "order"
            name = "tickets"
            key = "No"
            store = "Place"
            status = { column = "State", pending = ["ОЖИДАЕТ"], preparing = ["ГОТОВИТСЯ"], rejected = ["ОТКАЗ"] }
            answer = { updated_at = "seen", accepted_at = "acceptedAt", reason = "why", minutes = "eta", zone = "Asia/Tokyo" }
            "#,
        )
        .await;
    let shop = Shop::of(database).await;
    let (one, other) = (
        "0b3c4b7e-6f0e-4a77-9a55-0d4f7a0c1111",
        "0b3c4b7e-6f0e-4a77-9a55-0d4f7a0c2222",
    );
    shop.run(&format!(
        "insert into \"Shop Tickets\" (\"No\", \"Place\", \"State\") values ('{one}', 'Пекарня', 'ОЖИДАЕТ'), ('{other}', 'Пекарня', 'ОЖИДАЕТ')"
    ))
    .await;
    let bakery = StoreId::new("Пекарня");
    let rejected = StatusChange {
        reason: Some("долго"),
        ..change(&bakery, one, "rejected", "Анна")
    };
    assert_eq!(shop.change(&rejected).await, done("tickets", "pending"));
    let row =
        "select \"State\" || ' ' || why || ' ' || (\"acceptedAt\" is null) from \"Shop Tickets\" where why is not null";
    assert_eq!(text(&shop.database, row).await, "ОТКАЗ долго true");
    let answer = "select by_whom || ' ' || channel || ' ' || previous || ' ' || status from vestnik.vst_status_change";
    assert_eq!(text(&shop.database, answer).await, "Анна telegram pending rejected");

    let accepted = StatusChange {
        minutes: Some(25),
        ..change(&bakery, other, "preparing", "Анна")
    };
    assert_eq!(shop.change(&accepted).await, done("tickets", "pending"));
    let row = "select eta || ' ' || (now() - \"acceptedAt\" between '-1 min' and '1 min') \
         || ' ' || (now() at time zone 'Asia/Tokyo' - seen between '-1 min' and '1 min') from \"Shop Tickets\" where eta is not null";
    assert_eq!(text(&shop.database, row).await, "25 true true");
    // A new promised time changes the shop's column for the promised time, and leaves the column for the time of
    // acceptance unchanged.
    shop.run("update \"Shop Tickets\" set \"acceptedAt\" = '2020-01-01' where eta is not null")
        .await;
    let later = StatusChange {
        minutes: Some(40),
        from: Some(Status::Preparing),
        ..accepted
    };
    assert_eq!(shop.change(&later).await, done("tickets", "preparing"));
    let row = "select eta || ' ' || extract(year from \"acceptedAt\") from \"Shop Tickets\" where eta is not null";
    assert_eq!(text(&shop.database, row).await, "40 2020");
    // The mapping has no word for this status.
    let current = StatusChangeOutcome::NoWord(current("tickets", "preparing", Some("Анна")));
    assert_eq!(shop.change(&change(&bakery, other, "ready", "Анна")).await, current);
}

#[tokio::test]
async fn an_answer_may_be_a_function_of_the_shops() {
    let shop = Shop::fresh().await;
    shop.run(
        "create schema app; create table app.calls (said text); \
         create function app.answer(key text, status text, reason text, minutes integer, \"by\" text) returns boolean language plpgsql as $$ begin \
             if reason = 'never' then raise exception 'Кухня закрыта до утра'; end if; \
             insert into app.calls values (concat_ws('|', key, status, reason, minutes, \"by\")); \
             update orders o set status = $2 where o.id = $1::bigint; \
             return found; \
         end $$; \
         insert into orders (id, store_id) values (1, 7), (2, 7)",
    )
    .await;
    let mapping: String = text(
        &shop.database,
        "select mapping from vestnik.vst_source where name = 'orders'",
    )
    .await;
    let (head, _) = mapping.split_once("[answer]").unwrap();
    shop.database
        .attach(&format!("{head}\n[answer]\nfunction = 'app.answer'\n"))
        .await;
    let shop = Shop::of(shop.database).await;
    let store = StoreId::new("7");
    let accepted = StatusChange {
        minutes: Some(20),
        ..change(&store, "1", "preparing", "Анна")
    };
    assert_eq!(shop.change(&accepted).await, done("orders", "pending"));
    assert_eq!(
        text(&shop.database, "select said from app.calls").await,
        "1|preparing|20|Анна"
    );
    let refused = StatusChange {
        reason: Some("never"),
        ..change(&store, "2", "rejected", "Анна")
    };
    let expected = StatusChangeOutcome::Refused {
        current: current("orders", "pending", None),
        message: Some("Кухня закрыта до утра".into()),
        rule: None,
    };
    assert_eq!(shop.change(&refused).await, expected);
    // The event contains the promised time in minutes.
    let event = "select answer ->> 'by' || ' ' || (answer ->> 'minutes') from vestnik.vst_event where type = 'update'";
    assert_eq!(text(&shop.database, event).await, "Анна 20");
}

#[tokio::test]
async fn what_was_pressed_by_mistake_is_taken_back_within_its_time() {
    let (shop, store) = (Shop::fresh().await, StoreId::new("7"));
    shop.run("insert into orders (id, store_id, order_type) values (1, 7, 'delivery')")
        .await;
    let within = Duration::from_secs(600);
    let press = async |to: &str, step_back: Duration| {
        let wanted = StatusChange {
            step_back,
            ..change(&store, "1", to, "Anna")
        };
        shop.change(&wanted).await
    };
    let mut status = "pending";
    for (to, back) in [
        ("preparing", Some("pending")),
        ("rejected", Some("pending")),
        ("preparing", None),
        ("rejected", Some("preparing")),
        ("ready", Some("preparing")),
        ("ready", None),
        ("delivering", Some("ready")),
        ("delivering", None),
        ("completed", Some("delivering")),
    ] {
        assert_eq!(press(to, within).await, done("orders", status), "{status} to {to}");
        status = to;
        if let Some(back) = back {
            let late = press(back, Duration::ZERO).await;
            assert!(
                matches!(late, StatusChangeOutcome::NotAllowed(_)),
                "its time is over: {late:?}"
            );
            let elsewhere = press("pending", within).await;
            let is_there = back == "pending";
            assert_eq!(
                matches!(elsewhere, StatusChangeOutcome::Done { .. }),
                is_there,
                "{to} to pending"
            );
            if !is_there {
                assert_eq!(press(back, within).await, done("orders", to), "{to} to {back}");
            }
            status = back;
        }
    }
    // The order was taken back to `delivering`. A person cannot take it back any further.
    assert_eq!(status, "delivering");
    assert!(matches!(
        press("ready", within).await,
        StatusChangeOutcome::NotAllowed(_)
    ));
    // A person cannot undo the customer's cancellation.
    shop.run("update orders set status = 'cancelled'").await;
    assert!(matches!(
        press("delivering", within).await,
        StatusChangeOutcome::NotAllowed(_)
    ));
}

#[tokio::test]
async fn of_two_sources_with_the_same_key_one_is_meant_or_neither() {
    let database = Database::fresh().await;
    database
        .client()
        .await
        .batch_execute("create table pickups (like orders including all); insert into orders (id, store_id) values (1, 7); insert into pickups (id, store_id) values (1, 7)")
        .await
        .unwrap();
    database
        .attach("table = 'public.pickups'\nkind = 'order'\nkey = 'id'\nstore = 'store_id'\nstatus = { column = 'status', pending = ['pending'], preparing = ['preparing'] }")
        .await;
    let (shop, store) = (Shop::of(database).await, StoreId::new("7"));
    let both = StatusChangeOutcome::Ambiguous(vec!["orders".into(), "pickups".into()]);
    assert_eq!(shop.change(&change(&store, "1", "preparing", "Anna")).await, both);
    let meant = StatusChange {
        source: Some("pickups"),
        ..change(&store, "1", "preparing", "Anna")
    };
    assert_eq!(shop.change(&meant).await, done("pickups", "pending"));
    let rows = "select (select status from orders) || ' ' || (select status from pickups)";
    assert_eq!(text(&shop.database, rows).await, "pending preparing");
}

#[tokio::test]
async fn a_key_that_cannot_be_one_and_another_stores_order_are_unknown() {
    let shop = Shop::fresh().await;
    shop.run("insert into orders (id, store_id) values (1, 7), (2, 8)")
        .await;
    let (seven, eight) = (StoreId::new("7"), StoreId::new("eight"));
    for key in [
        "",
        "abc",
        "1.5",
        "99999999999999999999999",
        "1; drop table orders",
        "-1",
        "2",
        "3",
    ] {
        let changed = shop.change(&change(&seven, key, "preparing", "Anna")).await;
        assert_eq!(changed, StatusChangeOutcome::Unknown, "{key:?}");
        let stands = current_status(&shop.pool, &shop.sources, &seven, SubjectKind::Order, None, key).await;
        assert_eq!(stands.unwrap(), None, "{key:?}");
    }
    let changed = shop.change(&change(&eight, "2", "preparing", "Anna")).await;
    assert_eq!(changed, StatusChangeOutcome::Unknown);
    let booking = StatusChange {
        kind: SubjectKind::Booking,
        ..change(&seven, "1", "preparing", "Anna")
    };
    assert_eq!(
        shop.change(&booking).await,
        StatusChangeOutcome::Unknown,
        "the row is not a booking"
    );
    let database = &shop.database;
    assert_eq!(
        text(database, "select string_agg(distinct status, ',') from orders").await,
        "pending"
    );
    assert_eq!(
        text(database, "select count(*) from vestnik.vst_status_change").await,
        "0"
    );
}

#[tokio::test]
async fn a_refusal_of_the_shops_own_table_has_an_error_of_its_own_and_changes_nothing() {
    let (shop, store) = (Shop::fresh().await, StoreId::new("7"));
    shop.run(
        "alter table orders add constraint kitchen_is_slow check (status <> 'ready'); \
         create function refuse() returns trigger language plpgsql as $$ begin \
             if new.status = 'delivering' then return null; end if; \
             raise exception 'Сегодня не получится'; end $$; \
         create trigger refuse before update on orders for each row when (new.status in ('rejected', 'delivering')) execute function refuse(); \
         insert into orders (id, store_id, status) values (1, 7, 'preparing')",
    )
    .await;
    let check = "a check of its table forbids the new values";
    for (to, message, rule) in [
        ("ready", None, Some(check)),
        ("rejected", Some("Сегодня не получится"), None),
    ] {
        let expected = StatusChangeOutcome::Refused {
            current: current("orders", "preparing", None),
            message: message.map(str::to_owned),
            rule,
        };
        assert_eq!(shop.change(&change(&store, "1", to, "Anna")).await, expected, "{to}");
    }
    // A trigger of the shop returns null, so the update changes no row and raises no error. The engine must not report
    // success.
    shop.run(
        "insert into orders (id, store_id, status, order_type) values (2, 7, 'pending', 'delivery'); \
              alter table orders drop constraint kitchen_is_slow; update orders set status = 'ready' where id = 2",
    )
    .await;
    let silent = shop.change(&change(&store, "2", "delivering", "Anna")).await;
    assert!(
        matches!(silent, StatusChangeOutcome::Refused { message: None, .. }),
        "{silent:?}"
    );
    let database = &shop.database;
    assert_eq!(
        text(database, "select string_agg(status, ',' order by id) from orders").await,
        "preparing,ready"
    );
    assert_eq!(
        text(database, "select count(*) from vestnik.vst_status_change").await,
        "0",
        "no change was saved"
    );
}
