//! `vestnik bench` on a database that is in use.

use std::process::Command;

use crate::support::db::Database;

fn bench(database: &Database) -> (bool, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_vestnik"))
        .args(["bench", "--duration", "1s"])
        .env("DATABASE_URL", database.url())
        .current_dir(std::env::temp_dir())
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

async fn count(database: &Database, sql: &str) -> i64 {
    database.client().await.query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn it_reports_the_throughput_and_restores_the_database() {
    let database = Database::fresh().await;
    let client = database.client().await;
    client
        .batch_execute("insert into orders (store_id) values (7)")
        .await
        .unwrap();
    let (done, said, complaints) = bench(&database);
    assert!(done, "{said}{complaints}");
    let lost: Vec<&str> = said
        .lines()
        .filter(|line| line.trim_start().starts_with("lost"))
        .collect();
    assert_eq!(lost.len(), 1, "{said}");
    assert_eq!(lost[0].split_whitespace().collect::<Vec<_>>(), ["lost", "0", "0"]);
    for rate in [50, 500, 2000] {
        let line = said
            .lines()
            .find(|line| line.contains(&format!("at {rate} orders/s")))
            .unwrap();
        let figures: Vec<f64> = line
            .split_whitespace()
            .skip(3)
            .map(|figure| figure.parse().unwrap())
            .collect();
        assert!(
            figures[0] > 0.0 && figures[1] >= figures[0] && figures[2] == 0.0,
            "{line}"
        );
    }
    for left in [
        "select count(*) from pg_namespace where nspname = 'vestnik_bench'",
        "select count(*) from vestnik.vst_source where table_name like '%bench%'",
        "select count(*) from vestnik.vst_event where store_id is distinct from '7'",
        "select count(*) from vestnik.vst_token",
    ] {
        assert_eq!(count(&database, left).await, 0, "{left}");
    }
    assert_eq!(
        count(&database, "select count(*) from vestnik.vst_event").await,
        1,
        "the shop's own rows are unchanged"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_of_its_name_that_is_somebodys_is_left_alone() {
    let database = Database::fresh().await;
    let client = database.client().await;
    client
        .batch_execute("create schema vestnik_bench; create table vestnik_bench.mine ()")
        .await
        .unwrap();
    let (done, _, complaints) = bench(&database);
    assert!(!done);
    assert!(complaints.contains("did not make"), "{complaints}");
    assert_eq!(count(&database, "select count(*) from vestnik_bench.mine").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_database_that_was_never_migrated_the_error_says_so_and_nothing_is_changed() {
    let database = Database::empty().await;
    let (done, _, complaints) = bench(&database);
    assert!(!done);
    assert!(complaints.contains("run `vestnik migrate` first"), "{complaints}");
    let left = "select count(*) from pg_namespace where nspname = 'vestnik_bench'";
    assert_eq!(count(&database, left).await, 0);
}
