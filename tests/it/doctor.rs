//! `vestnik doctor` reports each problem of a database, and how to solve it. The Postgres of the tests runs without
//! fsync, so `doctor` always reports this problem.

use std::process::Command;

use crate::support::app::App;
use crate::support::db::{Database, Server};
use crate::support::telegram::{TOKEN, Telegram};

/// The output of `vestnik doctor`, and its exit code.
pub async fn doctor(database: &Database, arguments: &[&str]) -> (String, Option<i32>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vestnik"));
    command
        .arg("doctor")
        .args(arguments)
        .env("DATABASE_URL", database.url())
        .current_dir(std::env::temp_dir());
    // The command connects to servers of this process, so the test must not block the process while it waits.
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = output.await.unwrap();
    let said = [output.stdout, output.stderr].concat();
    (String::from_utf8(said).unwrap(), output.status.code())
}

/// The line of the output whose second word is `subject`, for example `queue`.
pub fn line<'a>(said: &'a str, subject: &str) -> &'a str {
    let about = |line: &&str| line.split_whitespace().nth(1) == Some(subject);
    said.lines()
        .find(about)
        .unwrap_or_else(|| panic!("nothing about {subject}: {said}"))
}

#[tokio::test]
async fn of_a_database_that_is_well_each_line_says_so() {
    let app = App::start().await;
    app.until_listening().await;
    let (said, code) = doctor(&app.database, &["--old", "1h"]).await;
    for subject in [
        "server",
        "connections",
        "settings",
        "clocks",
        "schema",
        "public.orders",
        "public.bookings",
        "notifications",
        "nodes",
        "queue",
        "transactions",
    ] {
        assert!(line(&said, subject).starts_with("ok "), "{said}");
    }
    assert!(line(&said, "durability").starts_with("FAIL  durability"), "{said}");
    assert!(line(&said, "durability").contains("fsync, full_page_writes"), "{said}");
    assert!(said.ends_with("vestnik: one thing is wrong\n"), "{said}");
    assert!(!said.contains("listening"), "its own self-test is no news: {said}");
    assert_eq!(code, Some(1));
}

#[tokio::test]
async fn each_thing_that_is_wrong_is_named_with_what_to_do() {
    let database = Database::fresh().await;
    let other = Database::fresh().await;
    let client = database.client().await;
    for sql in [
        "alter table bookings disable trigger vestnik_record_insert; alter table orders rename customer_name to client",
        "insert into orders (store_id, client) values (7, 'Анна')",
        "begin; create table mark (); prepare transaction 'left ''open'''",
        "begin; select from orders where client = 'Анна'",
    ] {
        client.batch_execute(sql).await.unwrap();
    }
    let pid: i32 = client.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
    let old = format!("select clock_timestamp() - xact_start > '1 s' from pg_stat_activity where pid = {pid}");
    database.until(&old).await;
    // The listener connects to another database, where no notification arrives. A transaction pooler has the same
    // effect.
    let listen_url = format!("database.listen_url={}", other.url());
    let (said, code) = doctor(&database, &["--old", "1s", "--set", &listen_url]).await;
    for (subject, says) in [
        ("public.bookings", "its triggers are gone or switched off"),
        ("public.orders", "it has no column customer_name any more"),
        ("notifications", "a transaction pooler? Set database.listen_url"),
        ("nodes", "start `vestnik serve`"),
    ] {
        let line = line(&said, subject);
        assert!(line.starts_with("FAIL") && line.contains(says), "{said}");
    }
    assert!(said.contains(&format!("select pg_terminate_backend({pid})")), "{said}");
    assert!(
        said.contains("rollback prepared 'left ''open''', or commit it"),
        "{said}"
    );
    assert!(!said.contains("Анна"), "no customer's name: {said}");
    assert_eq!(code, Some(1));
    for sql in ["commit", "rollback prepared 'left ''open'''"] {
        client.batch_execute(sql).await.unwrap();
    }
}

#[tokio::test]
async fn of_a_database_that_was_never_migrated_doctor_says_to_migrate_it() {
    let database = Database::empty().await;
    let (said, code) = doctor(&database, &[]).await;
    assert!(line(&said, "schema").contains("run `vestnik migrate`"), "{said}");
    assert!(
        !said.contains("notifications"),
        "what needs the schema waits for it: {said}"
    );
    assert_eq!(code, Some(1));
}

#[tokio::test]
async fn of_a_database_without_attached_tables_doctor_says_how_to_attach_one() {
    let database = Database::fresh().await;
    let mut client = database.session().await;
    for table in ["public.orders", "public.bookings"] {
        vestnik::sources::attach::detach(&mut client, table, &mut |_| ())
            .await
            .unwrap();
    }
    let (said, _) = doctor(&database, &["--set", "shop.schema=own"]).await;
    assert!(line(&said, "sources").contains("vestnik attach"), "{said}");
    assert!(line(&said, "schema").starts_with("ok "), "{said}");
}

#[tokio::test]
async fn where_notifications_are_switched_off_no_node_is_missed_for_not_listening() {
    let database = Database::fresh().await;
    let (said, _) = doctor(&database, &["--set", "database.notify=off"]).await;
    assert!(line(&said, "notifications").starts_with("ok "), "{said}");
    assert!(!said.contains("start `vestnik serve`"), "{said}");
}

/// The output of `vestnik doctor` when the settings contain a bot.
async fn doctor_of_bot(database: &Database, telegram: &Telegram) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vestnik"));
    command
        .arg("doctor")
        .env("DATABASE_URL", database.url())
        .env("VESTNIK_TELEGRAM_TOKEN", TOKEN)
        .env("VESTNIK_TELEGRAM_API_URL", telegram.url())
        .current_dir(std::env::temp_dir());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bot_is_looked_at_from_its_token_to_its_chats() {
    let (telegram, database) = Telegram::with_chat(11).await;
    let said = doctor_of_bot(&database, &telegram).await;
    assert!(
        line(&said, "bot").starts_with("ok ") && line(&said, "bot").contains("@vestnik_test_bot"),
        "{said}"
    );
    assert!(line(&said, "poll").contains("start `vestnik serve`"), "{said}");
    assert!(
        line(&said, "chats").contains("takes messages") || line(&said, "chats").contains("take messages"),
        "{said}"
    );
    let app = App::start_on(database, |config| config.telegram = Some(telegram.settings())).await;
    app.database
        .until("select polled_at is not null from vestnik.vst_bot")
        .await;
    let said = doctor_of_bot(&app.database, &telegram).await;
    assert!(line(&said, "poll").starts_with("ok "), "{said}");

    telegram.set_webhook("https://elsewhere.example/hook");
    app.write(
        "update vestnik.vst_bot set conflict_at = now(); update vestnik.vst_chat_link set blocked_at = now(), blocked_why = 'Bad Request: TOPIC_CLOSED'",
    )
    .await;
    let said = doctor_of_bot(&app.database, &telegram).await;
    assert!(line(&said, "bot").contains("deleteWebhook"), "{said}");
    assert!(line(&said, "poll").contains("(409)"), "{said}");
    assert!(
        line(&said, "chat").contains("“Anna” of store 7 is blocked (Bad Request: TOPIC_CLOSED)"),
        "{said}"
    );
    app.write(
        "update vestnik.vst_chat set disabled_at = now(), disabled_why = 'Forbidden: bot was blocked by the user'; \
         update vestnik.vst_bot set conflict_at = null, polled_at = now() - interval '5 minutes'",
    )
    .await;
    telegram.shut_out(TOKEN);
    let said = doctor_of_bot(&app.database, &telegram).await;
    assert!(line(&said, "bot").contains("does not know this token"), "{said}");
    assert!(
        line(&said, "chat").contains("vestnik telegram unlink --chat 11"),
        "{said}"
    );
    app.engine.shut_down().await;
}

#[tokio::test]
async fn settings_that_refuse_writes_or_end_statements_are_named_with_the_statement_that_resets_them() {
    let database = Database::fresh().await;
    let (name, role) = (database.url().rsplit_once('/').unwrap().1, "doctor_timeouts");
    let client = database.client().await;
    for sql in [
        format!("alter database {name} set default_transaction_read_only = on"),
        format!("drop role if exists {role}"),
        format!("create role {role} superuser login"),
        format!("alter role {role} set statement_timeout = '50ms'"),
        format!("alter role {role} in database {name} set lock_timeout = '20ms'"),
        format!("alter role {role} set idle_in_transaction_session_timeout = '1s'"),
    ] {
        client
            .batch_execute(&format!("set default_transaction_read_only = off; {sql}"))
            .await
            .unwrap();
    }
    let as_role = Database::at(database.url().replace("postgres@", &format!("{role}@")).into());
    let (said, code) = doctor(&as_role, &["--old", "1h"]).await;
    for expected in [
        "default_transaction_read_only is on: applications that do not override it cannot write, so no order arrives"
            .to_owned(),
        format!("alter database {name} reset default_transaction_read_only"),
        "statement_timeout is 50ms for this role".to_owned(),
        format!("alter role {role} reset statement_timeout"),
        "lock_timeout is 20ms for this role".to_owned(),
        format!("alter role {role} in database {name} reset lock_timeout"),
        format!("alter role {role} reset idle_in_transaction_session_timeout"),
    ] {
        assert!(said.contains(&expected), "{expected}: {said}");
    }
    assert!(line(&said, "settings").starts_with("FAIL  settings"), "{said}");
    assert_eq!(code, Some(1));
    let reset = "alter database {name} reset default_transaction_read_only".replace("{name}", name);
    client.batch_execute(&reset).await.unwrap();
    let (said, _) = doctor(&database, &["--old", "1h"]).await;
    assert!(line(&said, "settings").starts_with("ok "), "{said}");
}

#[tokio::test]
async fn a_node_that_is_silent_or_whose_clock_is_off_is_named() {
    let database = Database::fresh().await;
    let nodes = "insert into vestnik.vst_node (id, until, clock_ahead_s) values \
         ('stopped', now() - interval '40 s', 0), ('early', now() + interval '1 h', 7200), ('late', now() + interval '1 h', -7200), \
         ('right', now() + interval '1 h', 0.2)";
    database.client().await.batch_execute(nodes).await.unwrap();
    let (said, code) = doctor(&database, &["--old", "1h"]).await;
    for expected in [
        "node stopped is overdue for 4",
        "the clock of node early is 7200 s ahead of that of Postgres",
        "the clock of node late is 7200 s behind that of Postgres",
    ] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    assert!(
        !said.contains("node right") && !said.contains("this machine's clock is"),
        "{said}"
    );
    assert_eq!(code, Some(1));
}

#[tokio::test]
async fn a_node_says_by_how_much_its_clock_is_off() {
    let app = App::start().await;
    app.database
        .until("select exists (select from vestnik.vst_node where abs(clock_ahead_s) between 1e-9 and 2)")
        .await;
}

#[tokio::test]
async fn what_would_bring_the_data_back_is_said_with_how_long_the_journal_is_kept() {
    let database = Database::fresh().await;
    let (said, _) = doctor(&database, &["--old", "1h", "--set", "journal.retention_days=12"]).await;
    let backup = line(&said, "backup");
    assert!(backup.contains("Postgres archives no WAL and has no standby"), "{said}");
    assert!(
        backup.contains("the journal keeps 12 days (journal.retention_days)"),
        "{said}"
    );
    let archiving = Server::start(&[("VESTNIK_TEST_OPTIONS", "-c archive_mode=on -c archive_command=false")]);
    let database = Database::on(&archiving).await;
    let client = database.client().await;
    client.batch_execute("select pg_switch_wal()").await.unwrap();
    database.until("select failed_count > 0 from pg_stat_archiver").await;
    let (said, _) = doctor(&database, &["--old", "1h"]).await;
    assert!(line(&said, "backup").starts_with("FAIL  backup"), "{said}");
    assert!(line(&said, "backup").contains("archive_command"), "{said}");
}

#[tokio::test]
async fn prepared_transactions_that_a_notification_would_refuse_are_named() {
    let database = Database::fresh().await;
    let (said, _) = doctor(&database, &["--old", "1h"]).await;
    assert!(
        line(&said, "two-phase").contains("PREPARE TRANSACTION is refused after a NOTIFY"),
        "{said}"
    );
    let (said, _) = doctor(&database, &["--old", "1h", "--set", "database.notify=off"]).await;
    assert!(!said.contains("two-phase"), "{said}");
}
