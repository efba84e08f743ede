//! Where a table is attached, mapped, answered and looked after: what a shop's own ways must not break.

use std::process::{Command, Output};
use std::time::Duration;

use serde_json::{Value, json};
use tokio_postgres::Client;
use vestnik::db;
use vestnik::domain::event::StoreId;
use vestnik::domain::status::{Status, SubjectKind};
use vestnik::sources::attach::{self, Attached, Error, Options};
use vestnik::sources::catalog::Table;
use vestnik::sources::health;
use vestnik::sources::propose::{Proposal, propose};
use vestnik::sources::status_change::{StatusChange, StatusChangeOutcome, Way, change_status};
use vestnik::token::Stores;

use crate::support::app::App;
use crate::support::db::Database;
use crate::support::http;
use crate::support::node::Node;
use crate::support::telegram::Telegram;

const TICKETS: &str = "table = 'public.tickets'\nkind = 'order'\nkey = 'id'\nstore = 'store_id'\n\
    [status]\ncolumn = 'status'\npending = ['new']\npreparing = ['accepted']\nrejected = ['refused']\n";

/// A database with this table, of a shop that has no reference tables.
async fn shop(sql: &str) -> (Database, Client) {
    let database = Database::without_shop().await;
    let client = database.client().await;
    client.batch_execute(sql).await.unwrap();
    (database, client)
}

/// The same database as another role, which may log in and has what else is said. A role is the whole cluster's, so its name is
/// the database's own.
async fn role(database: &Database, name: &str, options: &str) -> (String, Database) {
    let (cluster, own) = database.url().rsplit_once('/').unwrap();
    let role = format!("{name}_{own}");
    let client = database.client().await;
    client.batch_execute(&format!("create role {role} login {options}")).await.unwrap();
    let (_, host) = cluster.split_once('@').unwrap();
    let other = Database::at(format!("postgres://{role}@{host}/{own}").into());
    (role, other)
}

fn vestnik(database: &Database, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vestnik"));
    command.args(arguments).current_dir(std::env::temp_dir()).env("DATABASE_URL", database.url());
    command.envs(environment.iter().copied()).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8([output.stdout.as_slice(), output.stderr.as_slice()].concat()).unwrap()
}

/// What is wrong with a source, as this client's role finds it.
async fn troubles(client: &Client, name: &str) -> Vec<String> {
    let all = health::check(client).await.unwrap();
    all.into_iter().find(|source| source.name == name).unwrap().troubles
}

async fn proposal(client: &Client, table: &str) -> Proposal {
    let table = Table::find(client, table).await.unwrap();
    propose(client, &table, Some(SubjectKind::Order)).await.unwrap()
}

async fn answer(database: &Database, key: &str, to: Status) -> Result<StatusChangeOutcome, db::Failed> {
    let pool = db::pool(&database.config().database).unwrap();
    let sources = database.sources().await.current();
    let store = StoreId::new("7");
    let change = StatusChange {
        store: &store,
        kind: SubjectKind::Order,
        source: None,
        key,
        to,
        from: None,
        minutes: None,
        reason: None,
        by: "Anna",
        way: Way::Panel,
        step_back: Duration::ZERO,
    };
    change_status(&pool, &sources, &change).await
}

#[tokio::test]
async fn a_role_that_may_make_roles_attaches_without_being_superuser() {
    let (database, client) = shop("create table tickets (id int primary key, store_id int, status text)").await;
    database.attach(TICKETS).await;
    let (creator, as_creator) = role(&database, "creator", "createrole").await;
    // What Postgres grants to who makes a role: from 16 on it may give the role away, and may not become it.
    let is_16: bool = client
        .query_one("select current_setting('server_version_num')::int >= 160000", &[])
        .await
        .unwrap()
        .get(0);
    let only_admin = if is_16 { "admin true, inherit false, set false" } else { "admin option" };
    client
        .batch_execute(&format!(
            "grant vestnik_recorder to {creator} with {only_admin}; \
             create table boxes (like tickets including all); alter table boxes owner to {creator}; \
             do $$ declare it record; begin \
                 for it in select oid::regclass as name from pg_class where relnamespace = 'vestnik'::regnamespace and relkind = 'r' \
                     loop execute format('alter table %s owner to {creator}', it.name); end loop; \
                 for it in select oid::regprocedure as name from pg_proc where pronamespace = 'vestnik'::regnamespace \
                     and proowner = current_user::regrole loop execute format('alter function %s owner to {creator}', it.name); end loop; \
             end $$; alter schema vestnik owner to {creator}"
        ))
        .await
        .unwrap();
    let boxes = TICKETS.replace("tickets", "boxes");
    let attached = attach::attach(&mut as_creator.client().await, &boxes, Options::default(), &mut |_| ()).await;
    assert_eq!(attached.unwrap(), Attached::New("boxes".into()));
    let owner = "select pg_get_userbyid(p.proowner)::text from pg_proc p join pg_trigger t on t.tgfoid = p.oid where t.tgrelid = 'boxes'::regclass";
    assert_eq!(client.query(owner, &[]).await.unwrap()[0].get::<_, &str>(0), "vestnik_recorder");
}

#[tokio::test]
async fn an_audit_finds_an_order_by_what_people_call_it() {
    let (database, client) = shop("create table tickets (id int primary key, store_id int, status text, no text)").await;
    database.attach(&TICKETS.replace("[status]", "number = 'no'\n[status]")).await;
    for sql in [
        "insert into tickets values (1, 7, 'new', 'A-17'), (2, 7, 'new', 'A-18'), (17, 8, 'new', 'B-1')",
        "update tickets set status = 'accepted' where id = 1",
    ] {
        client.batch_execute(sql).await.unwrap();
    }
    let audit = |arguments: &[&str]| {
        let output = vestnik(&database, &[&["audit"], arguments].concat(), &[]);
        (said(&output), output.status.code())
    };
    let (table, code) = audit(&["--order", "A-17"]);
    assert_eq!((table.lines().count(), code), (2, Some(0)), "{table}");
    assert!(table.lines().all(|line| line.contains(" A-17 ")) && table.contains("new_order") && table.contains("order_status_changed"), "{table}");
    let (by_key, _) = audit(&["--store", "8", "--order", "17"]);
    assert!(by_key.lines().count() == 1 && by_key.contains(" B-1 "), "{by_key}");
    let (none, code) = audit(&["--store", "8", "--order", "A-17"]);
    assert!(none.contains("no events") && code == Some(0), "{none}");
    let (json, _) = audit(&["--order", "A-18", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["subject"], "2");
    assert_eq!(audit(&[]).1, Some(2), "all of every store is nobody's question");
    assert_eq!(audit(&["--store", "7"]).1, Some(2));
}

#[tokio::test]
async fn columns_whose_names_say_their_unit_or_zone_are_proposed() {
    let (_database, client) = shop(
        "create table tickets (id int primary key, store_id int, status text not null default 'pending', total_price_cents int, \
             date_created timestamp, date_created_gmt timestamp default now(), date_updated_gmt timestamp); \
         create table ticket_lines (id int primary key, ticket_id int references tickets, title text, quantity int, unit_price_cents int)",
    )
    .await;
    client.batch_execute("set timezone = 'Asia/Tokyo'").await.unwrap();
    let Proposal { toml, questions } = proposal(&client, "tickets").await;
    assert_eq!(questions, [""; 0], "{toml}");
    for line in [
        "total = { column = \"total_price_cents\", unit = \"minor\" }",
        "created_at = \"date_created_gmt\"",
        "updated_at = \"date_updated_gmt\"",
        "price = { column = \"unit_price_cents\", unit = \"minor\" }",
    ] {
        assert!(toml.lines().any(|written| written == line), "{line} in {toml}");
    }
}

#[test]
fn every_document_that_the_sources_name_is_there() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec!["src", "sql", "triggers", "panel"].into_iter().map(|name| root.join(name)).collect::<Vec<_>>();
    let mut named = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            for (at, _) in text.match_indices("docs/") {
                let rest = &text[at..];
                let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "/._-".contains(c))).unwrap_or(rest.len());
                let document = rest[..end].trim_end_matches('.');
                if document.ends_with(".md") || document.ends_with(".yaml") {
                    named += 1;
                    assert!(root.join(document).is_file(), "{} names {document}", path.display());
                }
            }
        }
    }
    assert!(named > 0);
}
