//! Tables that shops have built in unusual ways. The tests attach each table, map it, and answer its orders. Vestnik
//! must handle each of these tables.

use std::process::{Command, Output};
use std::time::Duration;

use serde_json::{Value, json};
use tokio_postgres::Client;
use vestnik::domain::event::StoreId;
use vestnik::domain::status::{Status, SubjectKind};
use vestnik::infra::db;
use vestnik::sources::attach::{self, Attached, Error, Options};
use vestnik::sources::catalog::Table;
use vestnik::sources::health;
use vestnik::sources::propose::{Proposal, propose};
use vestnik::sources::status_change::{AnswerChannel, ShopApi, StatusChange, StatusChangeOutcome, change_status};
use vestnik::token::Stores;

use crate::support::app::App;
use crate::support::db::Database;
use crate::support::http;
use crate::support::node::Node;
use crate::support::telegram::Telegram;

const TICKETS: &str = "table = 'public.tickets'\nkind = 'order'\nkey = 'id'\nstore = 'store_id'\n\
    [status]\ncolumn = 'status'\npending = ['new']\npreparing = ['accepted']\nrejected = ['refused']\n";

/// Creates a database with the tables of `sql` and without the reference shop.
async fn shop(sql: &str) -> (Database, Client) {
    let database = Database::without_shop().await;
    let client = database.session().await;
    client.batch_execute(sql).await.unwrap();
    (database, client)
}

/// Creates a role that may log in and has these options. Returns the role's name, and the database with a URL for this
/// role. Roles belong to the whole cluster, so the role's name contains the database's name.
async fn role(database: &Database, name: &str, options: &str) -> (String, Database) {
    let (cluster, own) = database.url().rsplit_once('/').unwrap();
    let role = format!("{name}_{own}");
    let client = database.session().await;
    client
        .batch_execute(&format!("create role {role} login {options}"))
        .await
        .unwrap();
    let (_, host) = cluster.split_once('@').unwrap();
    let other = Database::at(format!("postgres://{role}@{host}/{own}").into());
    (role, other)
}

fn vestnik(database: &Database, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vestnik"));
    command
        .args(arguments)
        .current_dir(std::env::temp_dir())
        .env("DATABASE_URL", database.url());
    command.envs(environment.iter().copied()).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8([output.stdout.as_slice(), output.stderr.as_slice()].concat()).unwrap()
}

/// The problems that the health check reports for the source `name`. The check has the rights of the client's role.
async fn troubles(client: &Client, name: &str) -> Vec<String> {
    let all = health::check(client).await.unwrap();
    all.into_iter().find(|source| source.name == name).unwrap().troubles
}

async fn proposal(client: &Client, table: &str) -> Proposal {
    let table = Table::find(client, table).await.unwrap();
    propose(client, &table, Some(SubjectKind::Order)).await.unwrap()
}

async fn answer(database: &Database, key: &str, to: Status) -> Result<StatusChangeOutcome, db::QueryError> {
    let pool = db::pool(&database.config().database).unwrap();
    let sources = database.sources().await.current();
    let store = StoreId::new("7");
    let change = StatusChange {
        request: None,
        store: &store,
        kind: SubjectKind::Order,
        source: None,
        key,
        to,
        from: None,
        minutes: None,
        reason: None,
        by: "Anna",
        token: None,
        channel: AnswerChannel::Panel,
        step_back: Duration::ZERO,
    };
    let config = database.config();
    let shop_api = ShopApi::new(config.webhook, &config.answers).unwrap();
    change_status(&pool, &sources, &shop_api, &change, ()).await
}

#[tokio::test]
async fn a_role_that_may_make_roles_attaches_without_being_superuser() {
    let (database, client) = shop("create table tickets (id int primary key, store_id int, status text)").await;
    database.attach(TICKETS).await;
    let (creator, as_creator) = role(&database, "creator", "createrole").await;
    // `only_admin` is the membership that Postgres gives to the creator of a role. Since version 16, the creator may
    // grant the role to others, but may not become the role.
    let is_16: bool = client
        .query_one("select current_setting('server_version_num')::int >= 160000", &[])
        .await
        .unwrap()
        .get(0);
    let only_admin = if is_16 {
        "admin true, inherit false, set false"
    } else {
        "admin option"
    };
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
    let attached = attach::attach(&mut as_creator.session().await, &boxes, Options::default(), &mut |_| ()).await;
    assert_eq!(attached.unwrap(), Attached::New("boxes".into()));
    let owner = "select pg_get_userbyid(p.proowner)::text from pg_proc p join pg_trigger t on t.tgfoid = p.oid where t.tgrelid = 'boxes'::regclass";
    assert_eq!(
        client.query(owner, &[]).await.unwrap()[0].get::<_, &str>(0),
        "vestnik_recorder"
    );
}

#[tokio::test]
async fn one_word_for_rejected_and_cancelled_is_written_for_both_and_read_as_a_cancellation() {
    let (database, client) = shop(
        "create type state as enum ('PENDING', 'CONFIRMED', 'CANCELLED'); \
         create table tickets (id int primary key, store_id int, status state); insert into tickets values (1, 7, 'PENDING')",
    )
    .await;
    let words = "pending = ['PENDING']\npreparing = ['CONFIRMED']\nrejected = ['CANCELLED']\ncancelled = ['CANCELLED']";
    let (head, _) = TICKETS.split_once("pending").unwrap();
    database.attach(&format!("{head}{words}\n")).await;
    let done = answer(&database, "1", Status::Rejected).await.unwrap();
    assert!(
        matches!(
            done,
            StatusChangeOutcome::Done {
                previous: Status::Pending,
                ..
            }
        ),
        "{done:?}"
    );
    let row = client.query_one("select status::text from tickets", &[]).await.unwrap();
    assert_eq!(row.get::<_, &str>(0), "CANCELLED");
    let again = answer(&database, "1", Status::Rejected).await.unwrap();
    assert!(
        matches!(&again, StatusChangeOutcome::NotAllowed(now) if now.status == Status::Cancelled && now.by.as_deref() == Some("Anna")),
        "{again:?}"
    );
}

#[tokio::test]
async fn the_shops_function_answers_where_the_mapping_has_no_word() {
    let (database, client) = shop(
        "create table tickets (id int primary key, store_id int, status text); insert into tickets values (1, 7, 'new'); \
         create function set_ticket(key text, status text, reason text, minutes integer, \"by\" text) returns boolean language sql as \
             $$ update tickets t set status = 'state:' || $2 where t.id = $1::int returning true $$",
    )
    .await;
    let (head, _) = TICKETS.split_once("preparing").unwrap();
    database
        .attach(&format!("{head}\n[answer]\nfunction = 'public.set_ticket'\n"))
        .await;
    let done = answer(&database, "1", Status::Rejected).await.unwrap();
    assert!(matches!(done, StatusChangeOutcome::Done { .. }), "{done:?}");
    let row = client.query_one("select status from tickets", &[]).await.unwrap();
    assert_eq!(row.get::<_, &str>(0), "state:rejected");
}

#[tokio::test]
async fn attach_asks_for_words_that_no_row_has_yet() {
    let (_database, client) = shop(
        "create table tickets (id int primary key, store_id int, status varchar(20)); \
         insert into tickets values (1, 7, 'new'), (2, 7, 'delivered')",
    )
    .await;
    let asked = proposal(&client, "tickets").await;
    assert_eq!(asked.questions.len(), 2, "{asked:#?}");
    assert!(asked.questions[0].contains("accepted"), "{asked:#?}");
    assert!(asked.questions[1].contains("rejected"), "{asked:#?}");
    assert!(
        asked.toml.contains("# preparing = []") && asked.toml.contains("# rejected = []"),
        "{}",
        asked.toml
    );
    client
        .batch_execute("insert into tickets values (3, 7, 'cooking'), (4, 7, 'cancelled')")
        .await
        .unwrap();
    let sure = proposal(&client, "tickets").await;
    assert_eq!(sure.questions, [""; 0]);
}

#[tokio::test]
async fn the_source_of_an_owner_who_is_trusted_is_edited() {
    let (database, client) =
        shop("create table tickets (id int primary key, store_id int, status text, place text)").await;
    let (owner, _) = role(&database, "owner", "").await;
    let (attacher, as_attacher) = role(&database, "attacher", "").await;
    client
        .batch_execute(&format!(
            "alter table tickets owner to {owner}; grant select, update, trigger on tickets to {attacher}; \
             alter schema vestnik owner to {attacher}; grant all on all tables in schema vestnik to {attacher}; \
             grant execute on all functions in schema vestnik to {attacher}"
        ))
        .await
        .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tickets.toml");
    std::fs::write(&file, TICKETS).unwrap();
    let file = file.to_str().unwrap();
    let refused = vestnik(&as_attacher, &["attach", "--map", file], &[]);
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
    let attached = vestnik(&as_attacher, &["attach", "--map", file, "--trust-owner"], &[]);
    assert!(attached.status.success(), "{}", said(&attached));
    let sed = "sed -i 's/^kind/number = \"place\"\\nkind/'";
    let editor = [("EDITOR", sed), ("VISUAL", sed)];
    let edited = vestnik(&as_attacher, &["source", "edit", "tickets"], &editor);
    assert!(edited.status.success(), "{}", said(&edited));
    assert!(said(&vestnik(&as_attacher, &["source", "show", "tickets"], &[])).contains("number = \"place\""));
}

#[tokio::test]
async fn row_security_that_hides_orders_is_named_with_the_policy_that_is_missing() {
    let (database, client) = shop(
        "create table tickets (id int primary key, store_id int, status text); alter table tickets enable row level security; \
         create table lines (ticket_id int, title text); create index on lines (ticket_id); alter table lines enable row level security",
    )
    .await;
    database
        .attach(&format!(
            "{TICKETS}[items]\ntable = 'public.lines'\norder_key = 'ticket_id'\nname = 'title'\n"
        ))
        .await;
    assert_eq!(
        troubles(&client, "tickets").await,
        [""; 0],
        "a superuser sees everything"
    );
    let (server, as_server) = role(&database, "server", "").await;
    client
        .batch_execute(&format!(
            "grant select, update on tickets to {server}; grant select on lines to {server}; grant usage on schema vestnik to {server}; \
             grant select on all tables in schema vestnik to {server}; grant execute on all functions in schema vestnik to {server}"
        ))
        .await
        .unwrap();
    let served = as_server.session().await;
    let found = troubles(&served, "tickets").await;
    assert_eq!(found.len(), 3, "{found:#?}");
    for (trouble, policy) in found.iter().zip([
        format!("create policy vestnik_select_{server} on public.tickets for select to {server} using (current_user = '{server}')"),
        format!("create policy vestnik_update_{server} on public.tickets for update to {server} using (current_user = '{server}')"),
        format!("create policy vestnik_select_{server} on public.lines for select to {server} using (current_user = '{server}')"),
    ]) {
        assert!(trouble.contains(&policy), "{trouble}");
        client.batch_execute(&policy).await.unwrap();
    }
    assert_eq!(
        troubles(&served, "tickets").await,
        [""; 0],
        "each policy mends what it was named for"
    );
    // A policy for the role that also inserts orders would hold for the shop's application.
    let own = format!("drop policy vestnik_select_{server} on tickets; grant insert on tickets to {server}");
    client.batch_execute(&own).await.unwrap();
    let found = troubles(&served, "tickets").await;
    assert!(
        found.len() == 1 && found[0].contains("a role of its own") && !found[0].contains("create policy"),
        "{found:#?}"
    );
}

#[tokio::test]
async fn a_grant_that_was_forgotten_is_the_operators_and_not_the_shops_refusal() {
    let (database, client) = shop(
        "create table tickets (id int primary key, store_id int, status text, changed timestamptz); \
         insert into tickets values (1, 7, 'new'), (2, 7, 'new'); \
         create function say_no() returns trigger language plpgsql as $$ begin \
             if new.id = 2 then raise exception 'The kitchen is closed' using errcode = 'insufficient_privilege'; end if; return new; end $$; \
         create trigger say_no before update on tickets for each row execute function say_no()",
    )
    .await;
    database
        .attach(&format!("{TICKETS}[answer]\nupdated_at = 'changed'\n"))
        .await;
    let (owner, _) = role(&database, "owner", "").await;
    let (server, as_server) = role(&database, "server", "").await;
    client
        .batch_execute(&format!(
            "alter table tickets owner to {owner}; grant postgres to {server}; grant select, update (status) on tickets to {server}"
        ))
        .await
        .unwrap();
    let served = as_server.session().await;
    let grant = format!("grant update (changed) on public.tickets to {server}");
    let found = troubles(&served, "tickets").await;
    assert!(found.len() == 1 && found[0].contains(&grant), "{found:#?}");

    let token = database.token(Stores::All).await;
    let telegram = Telegram::start().await;
    let node = Node::serving(&as_server, &telegram.url(), &[("SHOP_SCHEMA", "own")]).await;
    let press = async |key: &str| {
        let bearer = format!("Bearer {token}");
        let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
        let path = format!("/api/partner/stores/7/orders/{key}/status");
        http::call(
            node.address().await,
            "POST",
            &path,
            &headers,
            Some(&json!({"status": "preparing"}).to_string()),
        )
        .await
    };
    let denied = press("1").await;
    assert_eq!(
        (denied.status, denied.code().as_str()),
        (422, "status_not_possible"),
        "{}",
        denied.text()
    );
    let line = node.until_said("was not written").await;
    assert!(line.contains("ERROR") && line.contains(&grant), "{line}");

    client.batch_execute(&grant).await.unwrap();
    assert_eq!(press("1").await.status, 200);
    let refused = press("2").await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (422, "status_refused"),
        "{}",
        refused.text()
    );
    assert_eq!(
        refused.json()["error"]["shop_message"],
        "The kitchen is closed",
        "the text of the shop's own exception is shown"
    );
    assert_eq!(troubles(&served, "tickets").await, [""; 0]);

    // While the row cannot be read, no later attempt can succeed.
    let unreadable = [
        (
            format!("revoke select on tickets from {server}"),
            format!("grant select on tickets to {server}"),
        ),
        (
            "alter table tickets rename status to state".to_owned(),
            "alter table tickets rename state to status".to_owned(),
        ),
    ];
    for (fault, mend) in unreadable {
        client.batch_execute(&fault).await.unwrap();
        let denied = press("2").await;
        let code = (denied.status, denied.code());
        assert_eq!(
            code,
            (422, "status_not_possible".to_owned()),
            "{fault}: {}",
            denied.text()
        );
        client.batch_execute(&mend).await.unwrap();
    }
    node.until_said(&format!("grant select on public.tickets to {server}"))
        .await;
}

#[tokio::test]
async fn a_column_that_an_answer_writes_must_be_there() {
    let (database, client) = shop(
        "create table tickets (id int primary key, store_id int, status text, why text, eta int, changed timestamptz)",
    )
    .await;
    let fields = "[fields]\nreason = 'why'\nminutes = 'eta'\n";
    let wrong = format!("{TICKETS}{fields}[answer]\nreason = 'refusal'\nminutes = 'promise'\n");
    let refused = attach::attach(&mut database.session().await, &wrong, Options::default(), &mut |_| ()).await;
    let Err(Error::Unfit { problems, .. }) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(problems.len(), 2, "{problems:#?}");
    assert!(
        problems[0].starts_with("answer.reason: public.tickets has no column refusal"),
        "{problems:#?}"
    );
    assert!(
        problems[1].starts_with("answer.minutes: public.tickets has no column promise"),
        "{problems:#?}"
    );
    // The health check reports a column that is removed after the table was attached.
    database
        .attach(&format!("{TICKETS}[answer]\nupdated_at = 'changed'\n"))
        .await;
    client
        .batch_execute("alter table tickets drop column changed")
        .await
        .unwrap();
    let found = troubles(&client, "tickets").await;
    assert!(
        found.len() == 1 && found[0].contains("no column changed any more"),
        "{found:#?}"
    );
}

#[tokio::test]
async fn a_soft_delete_means_the_same_in_lists_and_in_events() {
    for (kind, values) in [
        (
            "text",
            vec![
                "null",
                "''",
                "'no'",
                "' No '",
                "'0'",
                "'00.0'",
                "'f'",
                "'off'",
                "'yes'",
                "'1'",
                "'2026-11-28'",
                "'gone'",
            ],
        ),
        ("numeric", vec!["null", "0", "0.00", "1"]),
        ("char(3)", vec!["null", "'n'", "'y'"]),
        ("boolean", vec!["null", "false", "true"]),
        ("smallint", vec!["null", "0", "1"]),
        ("timestamp", vec!["null", "now()"]),
        ("date", vec!["null", "now()"]),
        (
            "jsonb",
            vec![
                "null",
                "'null'",
                "'false'",
                "'\"no\"'",
                "'0'",
                "'true'",
                "'\"2026-11-28\"'",
            ],
        ),
    ] {
        let (database, client) = shop(&format!(
            "create table tickets (id int primary key, store_id int, status text, deleted {kind})"
        ))
        .await;
        database
            .attach(&format!("{TICKETS}[fields]\ndeleted_at = 'deleted'\n"))
            .await;
        let app = App::start_on(database, |config| {
            config.shop.schema = vestnik::infra::config::ShopSchema::Own
        })
        .await;
        for (id, value) in values.iter().enumerate() {
            client
                .batch_execute(&format!("insert into tickets values ({id}, 7, 'new', {value})"))
                .await
                .unwrap();
        }
        let value_of = |id: &Value| values[id.as_str().unwrap().parse::<usize>().unwrap()];
        let events = app.get_json("/api/partner/stores/7/events").await;
        let told: Vec<&str> = events["events"]
            .as_array()
            .unwrap()
            .iter()
            .map(|event| value_of(&event["data"]["order_id"]))
            .collect();
        let list = app.get_json("/api/partner/stores/7/orders").await;
        let mut listed: Vec<&str> = list["orders"]
            .as_array()
            .unwrap()
            .iter()
            .map(|order| value_of(&order["id"]))
            .collect();
        listed.reverse();
        assert_eq!(told, listed, "{kind}");
        assert!(told.contains(&"null") && told.len() < values.len(), "{kind}: {told:?}");
    }
}

#[tokio::test]
async fn a_word_that_nobody_mapped_is_wrong_until_its_row_is_mended() {
    let (database, client) = shop("create table tickets (id int primary key, store_id int, status text)").await;
    database.attach(TICKETS).await;
    for sql in [
        "insert into tickets values (1, 7, 'on_hold'), (3, 7, 'lost')",
        "insert into tickets values (2, 7, null)",
    ] {
        client.batch_execute(sql).await.unwrap();
    }
    let found = troubles(&client, "tickets").await;
    assert!(found.len() == 1, "{found:#?}");
    for word in ["`on_hold`", "`lost`", "NULL"] {
        assert!(found[0].contains(word), "{word} in {found:#?}");
    }
    for sql in [
        "update tickets set status = 'new' where id < 3",
        "delete from tickets where id = 3",
    ] {
        client.batch_execute(sql).await.unwrap();
    }
    assert_eq!(troubles(&client, "tickets").await, [""; 0]);
}

#[tokio::test]
async fn what_is_no_source_is_wrong_usage_for_every_command() {
    let (database, _) = shop("").await;
    for command in [
        &["detach", "--table", "lost"][..],
        &["detach", "--table", "lost", "--dry-run"],
        &["source", "show", "lost"],
        &["source", "edit", "lost"],
        &["source", "check", "lost"],
    ] {
        let output = vestnik(&database, command, &[]);
        assert_eq!(output.status.code(), Some(2), "{command:?}: {}", said(&output));
        assert!(
            said(&output).contains("vestnik source list"),
            "{command:?}: {}",
            said(&output)
        );
    }
}

#[tokio::test]
async fn an_audit_finds_an_order_by_what_people_call_it() {
    let (database, client) =
        shop("create table tickets (id int primary key, store_id int, status text, no text)").await;
    database
        .attach(&TICKETS.replace("[status]", "number = 'no'\n[status]"))
        .await;
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
    assert!(
        table.lines().all(|line| line.contains(" A-17 "))
            && table.contains("new_order")
            && table.contains("order_status_changed"),
        "{table}"
    );
    let (by_key, _) = audit(&["--store", "8", "--order", "17"]);
    assert!(by_key.lines().count() == 1 && by_key.contains(" B-1 "), "{by_key}");
    let (none, code) = audit(&["--store", "8", "--order", "A-17"]);
    assert!(none.contains("no events") && code == Some(0), "{none}");
    let (json, _) = audit(&["--order", "A-18", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["subject"], "2");
    assert_eq!(audit(&[]).1, Some(2), "an audit must name a store or an order");
    assert_eq!(audit(&["--store", "7"]).1, Some(2));
}

#[tokio::test]
async fn an_audit_finds_an_order_whose_key_has_quotes() {
    let (database, client) = shop("create table tickets (id text primary key, store_id int, status text)").await;
    database.attach(TICKETS).await;
    let write = r#"insert into tickets values ('the "first" \ one', 7, 'new')"#;
    client.batch_execute(write).await.unwrap();
    let output = vestnik(&database, &["audit", "--order", r#"the "first" \ one"#], &[]);
    assert_eq!(said(&output).matches("new_order").count(), 1, "{}", said(&output));
}

#[tokio::test]
async fn columns_whose_names_say_their_unit_or_zone_are_proposed() {
    let (_database, client) = shop(
        "create table tickets (id int primary key, store_id int, \
             status text not null default 'pending' check (status in ('pending', 'preparing', 'rejected')), total_price_cents int, \
             date_created timestamp, date_created_gmt timestamp default now(), date_updated_gmt timestamp); \
         create table ticket_lines (id int primary key, ticket_id int references tickets, title text, quantity int, unit_price_cents int, цех text)",
    )
    .await;
    client.batch_execute("set timezone = 'Asia/Tokyo'").await.unwrap();
    let Proposal { toml, questions, .. } = proposal(&client, "tickets").await;
    assert_eq!(questions, [""; 0], "{toml}");
    for line in [
        "total = { column = \"total_price_cents\", unit = \"minor\" }",
        "created_at = \"date_created_gmt\"",
        "updated_at = \"date_updated_gmt\"",
        "price = { column = \"unit_price_cents\", unit = \"minor\" }",
        "category = \"цех\"",
    ] {
        assert!(toml.lines().any(|written| written == line), "{line} in {toml}");
    }
}

#[test]
fn every_document_that_the_sources_name_is_there() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec!["src", "sql", "triggers", "panel"]
        .into_iter()
        .map(|name| root.join(name))
        .collect::<Vec<_>>();
    let mut named = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let Ok(text) = std::fs::read_to_string(&path) else {
                continue;
            };
            for (at, _) in text.match_indices("docs/") {
                let rest = &text[at..];
                let end = rest
                    .find(|c: char| !(c.is_ascii_alphanumeric() || "/._-".contains(c)))
                    .unwrap_or(rest.len());
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

#[tokio::test]
async fn a_table_that_is_attached_again_takes_up_its_source() {
    let (database, client) = shop("create table tickets (id int primary key, store_id int, status text)").await;
    database.attach(TICKETS).await;
    client
        .batch_execute("insert into tickets values (1, 7, 'new')")
        .await
        .unwrap();
    answer(&database, "1", Status::Preparing).await.unwrap();
    let mut attaching = database.session().await;
    let detached = attach::detach(&mut attaching, "tickets", &mut |_| ()).await.unwrap();
    assert!(
        matches!(attach::find(&client, "tickets").await, Err(Error::Unknown(_))),
        "the table is no source now"
    );
    assert!(health::check(&client).await.unwrap().is_empty());
    assert!(database.sources().await.current().all().is_empty());
    // While the table is detached, another source may take the name of its source. A row that the shop writes in this
    // time creates no event, because the table has no triggers.
    client
        .batch_execute("insert into tickets values (2, 7, 'new'); create table boxes (like tickets including all)")
        .await
        .unwrap();
    let named = format!(
        "name = 'tickets'\n{}",
        TICKETS.replace("public.tickets", "public.boxes")
    );
    database.attach(&named).await;
    attach::detach(&mut attaching, "tickets", &mut |_| ()).await.unwrap();

    database.attach(TICKETS).await;
    let taken_up = attach::find(&client, "tickets").await.unwrap();
    assert_eq!((taken_up.id, taken_up.table.as_str()), (detached.id, "public.tickets"));
    client
        .batch_execute("insert into tickets values (3, 7, 'new')")
        .await
        .unwrap();
    let app = App::start_on(database, |config| {
        config.shop.schema = vestnik::infra::config::ShopSchema::Own
    })
    .await;
    let events = app.get_json("/api/partner/stores/7/events").await;
    let told: Vec<String> = events["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| {
            format!(
                "{} {}",
                event["type"].as_str().unwrap(),
                event["data"]["order_id"].as_str().unwrap()
            )
        })
        .collect();
    assert_eq!(
        told,
        ["new_order 1", "order_status_changed 1", "new_order 3"],
        "earlier events are read again"
    );
    let list = app.get_json("/api/partner/stores/7/orders").await;
    let first = list["orders"]
        .as_array()
        .unwrap()
        .iter()
        .find(|order| order["id"] == "1")
        .unwrap();
    assert_eq!(first["answer"]["by"], "Anna", "who answered is known still: {first}");
}

#[tokio::test]
async fn the_key_of_a_table_that_is_partitioned_by_it_is_proposed() {
    for partitioned_by in ["hash (id)", "range (id)"] {
        let (_database, client) = shop(&format!(
            "create table parcels (id bigint primary key, store_id int, status text, total_cents int) partition by {partitioned_by}"
        ))
        .await;
        let proposal = proposal(&client, "parcels").await;
        assert!(
            proposal.toml.contains("key = \"id\""),
            "{partitioned_by}: {}",
            proposal.toml
        );
        assert!(!proposal.toml.contains("unique index"), "{}", proposal.toml);
    }
}
