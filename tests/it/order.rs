//! A button changes the shop's own row: once, from where it stands, and says who did it.

use vestnik::attachment::{self, Attach, Kind};
use vestnik::db::{self, Pool};
use vestnik::event::StoreId;
use vestnik::order::{self, Change, Changed, Status, Way};

use crate::support::db::{Database, until};

/// From each status, where a person may bring it: `*` only what is delivered, `-` only what is not.
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

fn pool(database: &Database) -> Pool {
    db::pool(&database.config().database).unwrap()
}

fn change<'a>(store: &'a StoreId, key: &'a str, to: &str, by: &'a str) -> Change<'a> {
    Change {
        store,
        kind: Kind::Order,
        key,
        to: Status::from_name(to).unwrap(),
        from: None,
        minutes: None,
        reason: None,
        by,
        way: Way::Telegram,
    }
}

fn is_allowed(kind: Kind, from: &str, to: &str, delivered: bool) -> bool {
    ALLOWED.iter().any(|(a, b, when)| {
        let fits = match (*when, kind) {
            ("*", Kind::Order) => delivered,
            ("-", Kind::Order) => !delivered,
            ("booking", kind) => kind == Kind::Booking,
            ("", Kind::Booking) => *b != "ready",
            ("", Kind::Order) => true,
            _ => false,
        };
        fits && (*a, *b) == (from, to)
    })
}

async fn text(database: &Database, sql: &str) -> String {
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
    let database = Database::fresh().await;
    let (pool, client, store) = (pool(&database), database.client().await, StoreId::new("7"));
    let mut seen = 0;
    for (kind, table, kinds) in [
        (Kind::Order, "orders", &["delivery", "pickup", ""][..]),
        (Kind::Booking, "bookings", &[""]),
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
                Kind::Order => format!(
                    "insert into orders (store_id, status, order_type) values (7, '{from}', nullif('{order_type}', '')) returning id::text"
                ),
                Kind::Booking => {
                    format!("insert into bookings (store_id, status) values (7, '{from}') returning id::text")
                }
            };
            let key: String = client.query_one(&insert, &[]).await.unwrap().get(0);
            let wanted = Change {
                kind,
                ..change(&store, &key, to, "Anna")
            };
            let changed = order::change_status(&pool, &wanted).await.unwrap();
            let (status, by) = (from.to_owned(), None);
            let (expected, left) = if from == to {
                (Changed::Already { status, by }, from)
            } else if is_allowed(kind, from, to, delivered) {
                (Changed::Done { previous: status }, to)
            } else {
                (Changed::NotAllowed { status, by }, from)
            };
            let what = format!("{table} {order_type:?} {from} -> {to}");
            assert_eq!(changed, expected, "{what}");
            let there = text(&database, &format!("select status from {table} where id = {key}")).await;
            assert_eq!(there, left, "{what}");
            let noted = text(
                &database,
                &format!(
                    "select count(*) from vestnik.answer where key = '{key}' and kind = '{}'",
                    kind.as_str()
                ),
            )
            .await;
            assert_eq!(noted == "1", matches!(changed, Changed::Done { .. }), "{what}");
            seen += 1;
        }
    }
    assert_eq!(seen, 49 + 42 + 42 + 42);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_at_once_exactly_one_is_first_and_the_others_are_told_who() {
    let database = Database::fresh().await;
    let (pool, shop, watcher) = (pool(&database), database.client().await, database.client().await);
    let store = StoreId::new("7");
    for (round, to) in ["preparing", "rejected"].into_iter().cycle().take(6).enumerate() {
        let insert = "insert into orders (store_id) values (7) returning id::text";
        let key: String = shop.query_one(insert, &[]).await.unwrap().get(0);
        // The shop holds the row until all of them wait for it.
        shop.batch_execute(&format!("begin; select from orders where id = {key} for update"))
            .await
            .unwrap();
        let names = ["Anna", "Boris", "Vera", "Gleb"];
        let presses = names.map(|by| {
            let (pool, store, key) = (pool.clone(), store.clone(), key.clone());
            tokio::spawn(async move {
                order::change_status(&pool, &change(&store, &key, to, by))
                    .await
                    .unwrap()
            })
        });
        let waiting = "select count(*) >= 4 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
        until(&watcher, waiting).await;
        shop.batch_execute("commit").await.unwrap();
        let mut first = Vec::new();
        let mut told = Vec::new();
        for (by, press) in names.iter().zip(presses) {
            match press.await.unwrap() {
                Changed::Done { previous } => {
                    assert_eq!(previous, "pending");
                    first.push((*by).to_owned());
                }
                Changed::Already { status, by } => told.push((status, by.unwrap())),
                other => panic!("round {round}: {other:?}"),
            }
        }
        assert_eq!(first.len(), 1, "round {round}: {first:?}");
        assert!(
            told.iter().all(|(status, by)| status == to && *by == first[0]),
            "{told:?}"
        );
        let late = order::change_status(&pool, &change(&store, &key, "ready", "Dina"))
            .await
            .unwrap();
        if to == "rejected" {
            let expected = Changed::NotAllowed {
                status: "rejected".into(),
                by: Some(first[0].clone()),
            };
            assert_eq!(late, expected);
        }
    }
}

#[tokio::test]
async fn a_row_that_the_shop_holds_is_not_waited_for_for_ever() {
    let database = Database::fresh().await;
    let (pool, shop, store) = (pool(&database), database.client().await, StoreId::new("7"));
    shop.batch_execute("insert into orders (id, store_id) values (1, 7)")
        .await
        .unwrap();
    shop.batch_execute("begin; select from orders where id = 1 for update")
        .await
        .unwrap();
    let error = order::change_status(&pool, &change(&store, "1", "preparing", "Anna"))
        .await
        .unwrap_err();
    assert!(!error.may_pass(), "it is said at once, not tried again: {error}");
    shop.batch_execute("commit").await.unwrap();
    let changed = order::change_status(&pool, &change(&store, "1", "preparing", "Anna"))
        .await
        .unwrap();
    assert!(matches!(changed, Changed::Done { .. }), "{changed:?}");
}

#[tokio::test]
async fn tables_with_other_keys_and_other_column_names_are_changed_as_well() {
    let database = Database::fresh().await;
    let (pool, client) = (pool(&database), database.client().await);
    client
        .batch_execute(
            "create type stage as enum ('pending', 'preparing', 'rejected'); \
             create table \"Shop Tickets\" (\"No\" uuid primary key, \"Place\" text, \"State\" stage, reason text); \
             create table slips (code text primary key, shop uuid, status varchar(20), updated_at timestamptz default '-infinity')",
        )
        .await
        .unwrap();
    for (table, columns) in [
        ("\"Shop Tickets\"", ["No", "Place", "State"]),
        ("slips", ["code", "shop", "status"]),
    ] {
        let attach = Attach {
            table: table.into(),
            kind: Kind::Order,
            id_column: columns[0].into(),
            store_column: columns[1].into(),
            status_column: columns[2].into(),
            deferred: false,
        };
        assert!(attachment::attach(&client, &attach).await.unwrap());
    }
    let (ticket, shop) = (
        "0b3c4b7e-6f0e-4a77-9a55-0d4f7a0c1111",
        "0b3c4b7e-6f0e-4a77-9a55-0d4f7a0c2222",
    );
    client
        .batch_execute(&format!(
            "insert into \"Shop Tickets\" values ('{ticket}', 'Пекарня', 'pending'); \
             insert into slips (code, shop, status) values ('A''1:x', '{shop}', 'pending')"
        ))
        .await
        .unwrap();

    let bakery = StoreId::new("Пекарня");
    let wanted = Change {
        reason: Some("долго"),
        ..change(&bakery, ticket, "rejected", "Анна")
    };
    let done = Changed::Done {
        previous: "pending".into(),
    };
    assert_eq!(order::change_status(&pool, &wanted).await.unwrap(), done);
    let row = "select \"State\" || ' ' || reason from \"Shop Tickets\"";
    assert_eq!(text(&database, row).await, "rejected долго");
    let event = "select data ->> 'previous_status' || ' ' || (data ->> 'status') from vestnik.event where type = 'order_status_changed'";
    assert_eq!(text(&database, event).await, "pending rejected");
    let answer = "select by_whom || ' ' || way || ' ' || previous || ' ' || status from vestnik.answer";
    assert_eq!(text(&database, answer).await, "Анна telegram pending rejected");

    let store = StoreId::new(shop);
    assert_eq!(
        order::change_status(&pool, &change(&store, "A'1:x", "preparing", "Анна"))
            .await
            .unwrap(),
        done
    );
    assert_eq!(
        text(&database, "select updated_at > now() - interval '1 hour' from slips").await,
        "true"
    );
    // The type of its status has no such value.
    let standing = Changed::Refused {
        status: "preparing".into(),
        by: None,
    };
    client
        .batch_execute(&format!(
            "update \"Shop Tickets\" set \"State\" = 'preparing' where \"No\" = '{ticket}'"
        ))
        .await
        .unwrap();
    assert_eq!(
        order::change_status(&pool, &change(&bakery, ticket, "ready", "Анна"))
            .await
            .unwrap(),
        standing
    );
}

#[tokio::test]
async fn a_key_that_cannot_be_one_and_another_stores_order_are_unknown() {
    let database = Database::fresh().await;
    let (pool, client) = (pool(&database), database.client().await);
    client
        .batch_execute("insert into orders (id, store_id) values (1, 7), (2, 8)")
        .await
        .unwrap();
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
        let changed = order::change_status(&pool, &change(&seven, key, "preparing", "Anna"))
            .await
            .unwrap();
        assert_eq!(changed, Changed::Unknown, "{key:?}");
        assert_eq!(
            order::stands(&pool, &seven, Kind::Order, key).await.unwrap(),
            None,
            "{key:?}"
        );
    }
    let changed = order::change_status(&pool, &change(&eight, "2", "preparing", "Anna"))
        .await
        .unwrap();
    assert_eq!(changed, Changed::Unknown);
    let booking = Change {
        kind: Kind::Booking,
        ..change(&seven, "1", "preparing", "Anna")
    };
    assert_eq!(
        order::change_status(&pool, &booking).await.unwrap(),
        Changed::Unknown,
        "it is no booking"
    );
    assert_eq!(
        text(&database, "select string_agg(distinct status, ',') from orders").await,
        "pending"
    );
    assert_eq!(text(&database, "select count(*) from vestnik.answer").await, "0");
}

#[tokio::test]
async fn what_the_shops_own_table_refuses_is_told_apart_and_changes_nothing() {
    let database = Database::fresh().await;
    let (pool, client, store) = (pool(&database), database.client().await, StoreId::new("7"));
    client
        .batch_execute(
            "alter table orders add constraint kitchen_is_slow check (status <> 'ready'); \
             create function refuse() returns trigger language plpgsql as $$ begin raise exception 'not today'; end $$; \
             create trigger refuse before update on orders for each row when (new.status = 'rejected') execute function refuse(); \
             insert into orders (id, store_id, status) values (1, 7, 'preparing')",
        )
        .await
        .unwrap();
    for to in ["ready", "rejected"] {
        let changed = order::change_status(&pool, &change(&store, "1", to, "Anna"))
            .await
            .unwrap();
        let expected = Changed::Refused {
            status: "preparing".into(),
            by: None,
        };
        assert_eq!(changed, expected, "{to}");
    }
    assert_eq!(text(&database, "select status from orders").await, "preparing");
    assert_eq!(
        text(&database, "select count(*) from vestnik.answer").await,
        "0",
        "nobody did anything"
    );
}
