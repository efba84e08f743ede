//! The settings of a store: its opening hours and its time zone, in the form in which people write them.

use std::process::{Command, Output};

use vestnik::infra::db::Client;

use crate::support::db::Database;

fn set(database: &Database, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vestnik"));
    command
        .args(["store", "set", "--store", "7"])
        .args(arguments)
        .env("DATABASE_URL", database.url())
        .current_dir(std::env::temp_dir());
    command.output().unwrap()
}

fn list(database: &Database) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vestnik"));
    command
        .args(["store", "list"])
        .env("DATABASE_URL", database.url())
        .current_dir(std::env::temp_dir());
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}

/// Whether the store is open at a local time. The query is the program's view, with `at` in place of the current time.
async fn is_open(client: &Client, at: &str) -> bool {
    let view: String = client
        .query_one("select pg_get_viewdef('vestnik.vst_open_now'::regclass)", &[])
        .await
        .unwrap()
        .get(0);
    let view = view.trim_end_matches(';').replace(
        "clock_timestamp()",
        &format!("(timestamp '{at}' at time zone s.time_zone)"),
    );
    let sql = format!("select exists (select from ({view}) open where store_id = '7')");
    client.query_one(&sql, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_store_that_has_holidays_only_is_closed_on_them_alone() {
    let database = Database::fresh().await;
    let client = database.client().await;
    let closed = "select exists (select from vestnik.vst_closed_now), exists (select from vestnik.vst_open_now)";
    let state = async || {
        let row = client.query_one(closed, &[]).await.unwrap();
        (row.get::<_, bool>(0), row.get::<_, bool>(1))
    };
    assert!(set(&database, &["--time-zone", "UTC"]).status.success());
    let day = "select to_char(now() at time zone 'UTC' + interval '1 day', 'YYYY-MM-DD'), to_char(now() at time zone 'UTC', 'MM-DD')";
    let row = client.query_one(day, &[]).await.unwrap();
    let (tomorrow, today): (String, String) = (row.get(0), row.get(1));
    assert!(
        set(&database, &["--hours", &format!("{tomorrow}=closed")])
            .status
            .success()
    );
    assert_eq!(state().await, (false, false), "the store's hours are not known");
    assert!(
        set(&database, &["--hours", &format!("{today}=closed")])
            .status
            .success()
    );
    assert_eq!(state().await, (true, false));
    assert!(
        set(&database, &["--hours", &format!("{today}=0:00-24:00")])
            .status
            .success()
    );
    assert_eq!(state().await, (false, true));
}

#[tokio::test]
async fn hours_are_set_as_people_write_them_and_holidays_differ() {
    let database = Database::fresh().await;
    let client = database.client().await;
    let done = set(
        &database,
        &[
            "--time-zone",
            "America/New_York",
            "--hours",
            "sun-thu=9:00-24:00",
            "--hours",
            "fri,sat 12-2",
            "--hours",
            "wed=closed",
            "--hours",
            "2026-12-31=10:00-16:00",
            "--hours",
            "12-25=closed",
        ],
    );
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let listed = list(&database);
    for line in [
        "mon 09:00-24:00",
        "fri 12:00-02:00",
        "2026-12-31 10:00-16:00",
        "12-25 closed",
    ] {
        assert!(listed.contains(line), "{line} in {listed}");
    }
    assert!(!listed.contains("wed"), "{listed}");
    for (at, open) in [
        ("2026-11-23 08:59", false), // a Monday
        ("2026-11-23 09:00", true),
        ("2026-11-23 23:59", true),
        ("2026-11-24 00:00", false),
        ("2026-11-25 12:00", false), // a Wednesday
        ("2026-11-27 12:00", true),
        ("2026-11-28 01:59", true), // after the midnight that ends Friday
        ("2026-11-28 02:00", false),
        ("2026-12-31 09:30", false), // a Thursday with other hours
        ("2026-12-31 15:59", true),
        ("2026-12-31 17:00", false),
        ("2026-12-25 20:00", false), // a Friday, closed every year
        ("2026-12-26 01:00", false),
        ("2027-12-25 13:00", false),
        ("2026-12-24 23:00", true),
    ] {
        assert_eq!(is_open(&client, at).await, open, "{at}");
    }
    // A rule for one day changes only that day. The word `usual` removes this rule, and `none` removes all opening
    // hours.
    assert!(set(&database, &["--hours", "2026-11-23=closed"]).status.success());
    assert!(!is_open(&client, "2026-11-23 12:00").await && is_open(&client, "2026-11-24 12:00").await);
    assert!(set(&database, &["--hours", "2026-11-23=usual"]).status.success());
    assert!(is_open(&client, "2026-11-23 12:00").await);
    assert!(set(&database, &["--hours", "daily=0:00-24:00"]).status.success());
    assert!(is_open(&client, "2026-11-25 03:00").await && !is_open(&client, "2026-12-25 20:00").await);
    assert!(set(&database, &["--hours", "none"]).status.success());
    assert!(!is_open(&client, "2026-11-23 12:00").await);
    assert_eq!(list(&database).lines().count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_is_closed_in_the_week_that_is_set_and_no_store_loses_its_hours_by_it() {
    let database = Database::fresh().await;
    let refused = |hours: &str| {
        let done = set(&database, &["--hours", hours]);
        assert!(!done.status.success(), "{hours}");
        String::from_utf8_lossy(&done.stderr).into_owned()
    };
    assert!(refused("sat,sun=closed").contains("no hours are left"));
    assert!(set(&database, &["--hours", "daily=9:00-23:00"]).status.success());
    assert!(set(&database, &["--hours", "wed=closed"]).status.success());
    let listed = list(&database);
    assert!(
        listed.contains("tue 09:00-23:00") && listed.contains("thu 09:00-23:00") && !listed.contains("wed"),
        "{listed}"
    );
    assert!(refused("daily=closed").contains("no hours are left"));
    assert_eq!(list(&database), listed, "a refused rule changes nothing");
    let other = set(&database, &["--currency", "ZZZ"]);
    assert!(String::from_utf8_lossy(&other.stderr).contains("ISO 4217"), "{other:?}");
}

#[tokio::test]
async fn who_attends_a_store_is_said_and_nobody_else() {
    let database = Database::fresh().await;
    assert!(set(&database, &["--attended-by", "chats"]).status.success());
    database
        .until("select attended_by = 'chats' from vestnik.vst_store")
        .await;
    assert!(set(&database, &["--name", "Bakery"]).status.success());
    database
        .until("select attended_by = 'chats' from vestnik.vst_store")
        .await;
    assert_eq!(set(&database, &["--attended-by", "nobody"]).status.code(), Some(2));
}

#[tokio::test]
async fn a_time_zone_has_an_iana_name_and_the_error_suggests_the_right_one() {
    let database = Database::fresh().await;
    for (zone, meant) in [
        ("UTC+3", "write Europe/Moscow"),
        ("+03", "write Europe/Moscow"),
        ("3", "write Europe/Moscow"),
        ("MSK", "write Europe/Moscow"),
        ("moscow", "write Europe/Moscow"),
        ("Europe/Moskow", "write Europe/Moscow"),
        ("UTC-5", "write America/"),
        ("GMT", "write UTC"),
        ("EST", "write America/New_York"),
        ("CET", "write Europe/"),
        ("America/New York", "write America/New_York"),
        ("posix/Europe/Moscow", "Europe/Moscow"),
        ("localtime", "look like Europe/Moscow"),
        ("Nowhere/At_all", "look like Europe/Moscow"),
    ] {
        let refused = set(&database, &["--time-zone", zone]);
        let said = String::from_utf8(refused.stderr).unwrap();
        assert!(
            refused.status.code() == Some(2) && said.contains(meant),
            "{zone}: {said}"
        );
    }
    for zone in [
        "Europe/Moscow",
        "America/Argentina/Buenos_Aires",
        "Etc/UTC",
        "Etc/GMT-3",
        "UTC",
    ] {
        assert!(set(&database, &["--time-zone", zone]).status.success(), "{zone}");
    }
}
