//! The rights that a derived source needs. `attach`, `source check` and the health check report each missing right,
//! with the statement that grants it.

use vestnik::sources::health;
use vestnik::token::Stores;

use crate::field_cases::{engine_role, told, vestnik_at};
use crate::support::db::Database;
use crate::support::http;
use crate::support::node::Node;
use crate::support::telegram::Telegram;

const TABLES: &str = "create table purchase (id int primary key, shop int, state text); \
    create table purchase_log (purchase text, what text); insert into purchase values (1, 7, 'new')";
const MAPPING: &str = "table = 'public.purchase'\nkind = 'order'\nkey = 'id'\n[derived]\nstore = 'o.shop'\n\
    status = \"case o.state when 'new' then 'pending' else 'preparing' end\"\n\
    [answer]\npreparing = [\"update purchase set state = 'ok' where id = $1::int and state = 'new'\", \
    \"insert into purchase_log values ($1, 'accepted')\"]\n";

async fn troubles(url: &str) -> Vec<String> {
    let client = Database::at(url.to_owned().into()).client().await;
    let sources = health::check(&client).await.unwrap();
    let purchase = sources.into_iter().find(|source| source.name == "purchase").unwrap();
    purchase.troubles
}

#[tokio::test]
async fn a_right_that_answers_lack_is_named_with_its_grant_when_attached_and_afterwards() {
    let database = Database::fresh().await;
    let client = database.client().await;
    client.batch_execute(TABLES).await.unwrap();
    let role = format!("vestnik_test_answers_{}", std::process::id());
    let url = engine_role(&database, &role, "grant select on purchase to ROLE").await;
    let missing = [
        format!(
            "answer.preparing: role {role} may not update public.purchase, so the answer fails: grant update on public.purchase to {role}"
        ),
        format!(
            "answer.preparing: role {role} may not insert public.purchase_log, so the answer fails: grant insert on public.purchase_log to {role}"
        ),
    ];
    let said = database.attach(MAPPING).await;
    for line in &missing {
        assert!(said.contains(line), "{line} is not in {said:#?}");
    }
    assert_eq!(troubles(&url).await, missing);

    let grants = format!("grant update on purchase to {role}; grant insert on purchase_log to {role}");
    client.batch_execute(&grants).await.unwrap();
    assert_eq!(troubles(&url).await, Vec::<String>::new());

    client
        .batch_execute("alter table purchase_log enable row level security")
        .await
        .unwrap();
    let policy = format!(
        "create policy vestnik_insert_{role} on public.purchase_log for insert to {role} with check (current_user = '{role}')"
    );
    let lines = troubles(&url).await;
    assert!(lines.len() == 1 && lines[0].ends_with(&policy), "{lines:?}");
    client.batch_execute(&policy).await.unwrap();
    assert_eq!(troubles(&url).await, Vec::<String>::new());

    let lose = format!("revoke select, update on purchase from {role}; grant update (state) on purchase to {role}");
    client.batch_execute(&lose).await.unwrap();
    let lines = troubles(&url).await;
    let grant = format!(
        "role {role} may not select public.purchase, so no order is seen: grant select on public.purchase to {role}"
    );
    assert!(lines.contains(&grant), "{lines:?}");
}

#[tokio::test]
async fn row_level_security_of_a_read_table_names_the_role_that_reads_it() {
    let database = Database::fresh().await;
    let client = database.client().await;
    client.batch_execute(TABLES).await.unwrap();
    client
        .batch_execute("alter table purchase enable row level security")
        .await
        .unwrap();
    let said = database.attach(MAPPING).await;
    let policy = "create policy vestnik_select on public.purchase for select to vestnik_reader using (current_user = 'vestnik_reader')";
    assert!(said.iter().any(|line| line.ends_with(policy)), "{said:#?}");
    let sources = health::check(&client).await.unwrap();
    let lines: Vec<&String> = sources.iter().flat_map(|source| &source.troubles).collect();
    assert!(lines.iter().any(|line| line.ends_with(policy)), "{lines:#?}");

    // This role is not a member of `vestnik_reader`, so it reads a table that is not attached with its own rights.
    let other = "create table other (like purchase including all); alter table other enable row level security";
    client.batch_execute(other).await.unwrap();
    let role = format!("vestnik_test_reads_{}", std::process::id());
    let url = engine_role(&database, &role, "grant select on purchase, other to ROLE").await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let served = Database::at(url.into());
    let own = format!(
        "create policy vestnik_select_{role} on public.other for select to {role} using (current_user = '{role}')"
    );
    for (table, policy) in [("other", own.as_str()), ("purchase", policy)] {
        let mapping = MAPPING.replace("'public.purchase'", &format!("'public.{table}'"));
        std::fs::write(file.path(), mapping).unwrap();
        let check = ["source", "check", file.path().to_str().unwrap()];
        let (code, said) = super::attaching::vestnik(&served, &check).await;
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains(policy), "{said}");
    }
}

#[tokio::test]
async fn a_right_that_the_expressions_lose_is_named_with_its_grant() {
    let mut shop = super::shop::Shop::open("spree", "read committed").await;
    shop.write("revoke select on spree_products from vestnik_reader").await;
    shop.write(&super::faults::order(1)).await;
    assert_eq!(shop.event("1").await["data"]["items"][0]["name"], "?");
    let sources = health::check(&shop.writer).await.unwrap();
    let lines: Vec<String> = sources.into_iter().flat_map(|source| source.troubles).collect();
    let grant =
        "permission denied for table spree_products (42501): grant select on public.spree_products to vestnik_reader";
    assert!(lines.iter().any(|line| line.contains(grant)), "{lines:#?}");
}

#[tokio::test]
async fn a_watched_table_that_was_made_anew_can_be_read_after_a_migration() {
    let mut shop = super::shop::Shop::open("spree", "read committed").await;
    let client = &shop.app.database.client().await;
    shop.write(
        "create table line_items (like spree_line_items including defaults); alter table line_items alter id drop default; alter table line_items alter id add generated by default as identity; \
         drop table spree_line_items; alter table line_items rename to spree_line_items",
    )
    .await;
    let mut said = Vec::new();
    let outcome = vestnik::migrate::run(&shop.app.database.config(), &mut |line: &str| {
        said.push(line.to_owned())
    })
    .await;
    outcome.unwrap();
    assert!(said.contains(&"attached 1 table again".to_owned()), "{said:#?}");
    shop.settle().await;
    assert_eq!(health_of(&shop).await.0, [""; 0]);
    shop.write(&super::faults::order(1)).await;
    let event = shop.event("1").await;
    assert_ne!(event["data"]["items"][0]["name"], "?", "{event}");

    // A person who lets the role read some columns only has decided so.
    let narrow = "revoke select on spree_line_items from vestnik_reader; grant select (id, order_id) on spree_line_items to vestnik_reader";
    shop.write(narrow).await;
    said.clear();
    let outcome = vestnik::migrate::run(&shop.app.database.config(), &mut |line: &str| {
        said.push(line.to_owned())
    })
    .await;
    outcome.unwrap();
    assert!(!said.iter().any(|line| line.contains("again")), "{said:#?}");
    const READS: &str = "select has_table_privilege('vestnik_reader', 'spree_line_items', 'select')";
    assert!(!client.query_one(READS, &[]).await.unwrap().get::<_, bool>(0));
}

/// The problems and the warnings that the health check reports for the shop's source.
async fn health_of(shop: &super::shop::Shop) -> (Vec<String>, Vec<String>) {
    let sources = health::check(&shop.writer).await.unwrap();
    let source = sources.into_iter().find(|source| source.name == shop.system).unwrap();
    (source.troubles, source.notes)
}

#[tokio::test]
async fn an_order_that_a_policy_hid_comes_when_the_policy_lets_it_be_read() {
    let mut shop = super::shop::Shop::open("spree", "read committed").await;
    shop.write(
        "alter table spree_orders enable row level security; \
         create policy reads on spree_orders for select to vestnik_reader using (number not like 'R2%')",
    )
    .await;
    for number in [2, 20, 1] {
        shop.write(&super::faults::order(number)).await;
    }
    assert_eq!(shop.event("1").await["data"]["number"], "R1");
    let (troubles, notes) = health_of(&shop).await;
    let hides = "row level security of public.spree_orders hides written orders from role vestnik_reader, which reads the \
         expressions, so nobody sees them: create policy vestnik_select on public.spree_orders for select to vestnik_reader \
         using (current_user = 'vestnik_reader'); give orders";
    assert!(troubles.len() == 1 && troubles[0].starts_with(hides), "{troubles:#?}");
    assert!(
        troubles[0].ends_with("; now for 2 orders, the newest with key 2"),
        "{troubles:#?}"
    );
    assert!(
        notes.iter().any(|note| note.contains("must let it have every row")),
        "{notes:#?}"
    );

    // After the shop has deleted an order, the health check no longer counts the order as hidden.
    shop.write("delete from spree_line_items where order_id = 2; delete from spree_orders where id = 2")
        .await;
    shop.write(&super::faults::order(3)).await;
    assert_eq!(shop.event("1").await["data"]["number"], "R3");
    let (troubles, _) = health_of(&shop).await;
    assert!(
        troubles.len() == 1 && troubles[0].ends_with("; now for the order with key 1"),
        "{troubles:#?}"
    );

    shop.write("alter policy reads on spree_orders using (true)").await;
    shop.write(super::failing_sql::RETRY_NOW).await;
    let event = shop.event("1").await;
    assert_eq!(
        (&event["type"], &event["data"]["number"]),
        (&"new_order".into(), &"R2".into())
    );
    shop.settle().await;
    assert_eq!(health_of(&shop).await, (Vec::new(), Vec::new()));
}

/// A shop whose application works as a role that owns the table of orders and is a member of `vestnik_reader`, as the
/// role is that attached the source. Its policy shows it the orders of one store only. Returns also the role.
async fn shop_with_an_application() -> (super::shop::Shop, String) {
    let shop = super::shop::Shop::open("spree", "read committed").await;
    let role = format!("vestnik_test_application_{}", std::process::id());
    let rights = "grant select on all tables in schema public to ROLE; grant vestnik_reader to ROLE; alter table spree_orders owner to ROLE";
    engine_role(&shop.app.database, &role, rights).await;
    shop.write(
        "alter table spree_orders enable row level security; alter table spree_orders force row level security; \
         create policy stores on spree_orders using (store_id::text = current_setting('app.store', true))",
    )
    .await;
    (shop, role)
}

#[tokio::test]
async fn a_printed_policy_shows_every_order_to_the_projector_and_none_more_to_the_application() {
    let (mut shop, role) = shop_with_an_application().await;
    shop.write(&super::faults::order(1)).await;
    shop.settle().await;
    let (troubles, _) = health_of(&shop).await;
    let policy = troubles[0].split_once("sees them: ").unwrap().1;
    shop.write(policy.split_once("; give orders").unwrap().0).await;
    shop.write(super::failing_sql::RETRY_NOW).await;
    assert_eq!(shop.event("1").await["type"], "new_order");
    shop.settle().await;
    assert_eq!(health_of(&shop).await, (Vec::new(), Vec::new()));
    let application = shop.app.database.client().await;
    let count = "select count(*) from spree_orders";
    for (store, seen) in [("1", 1), ("2", 0)] {
        let sql = format!("set role {role}; set app.store = '{store}'");
        application.batch_execute(&sql).await.unwrap();
        assert_eq!(application.query_one(count, &[]).await.unwrap().get::<_, i64>(0), seen);
    }
}

#[tokio::test]
async fn the_policy_of_the_reading_role_gives_its_members_no_right() {
    let database = Database::fresh().await;
    let client = database.client().await;
    client.batch_execute(TABLES).await.unwrap();
    database.attach(MAPPING).await;
    let role = format!("vestnik_test_member_{}", std::process::id());
    let rights = "grant select, update on purchase to ROLE; grant insert on purchase_log to ROLE; grant vestnik_reader to ROLE; \
        alter table purchase enable row level security; \
        create policy vestnik_select on purchase for select to vestnik_reader using (current_user = 'vestnik_reader')";
    let url = engine_role(&database, &role, rights).await;
    let found = troubles(&url).await;
    assert_eq!(found.len(), 2, "{found:#?}");
    for command in ["update", "select"] {
        let policy = format!(
            "create policy vestnik_{command}_{role} on public.purchase for {command} to {role} using (current_user = '{role}')"
        );
        assert!(found.iter().any(|line| line.ends_with(&policy)), "{found:#?}");
        client.batch_execute(&policy).await.unwrap();
    }
    assert_eq!(troubles(&url).await, Vec::<String>::new());
}

#[tokio::test]
async fn no_policy_is_printed_for_the_role_of_the_application() {
    let (shop, role) = shop_with_an_application().await;
    let owned = format!("alter function vestnik.vst_derive_3(text[], text) owner to {role}");
    shop.write(&owned).await;
    shop.write(&super::faults::order(1)).await;
    shop.settle().await;
    let said = |troubles: &[String]| {
        let way =
            format!("run `grant vestnik_reader to {role}` as a superuser, after `create role vestnik_reader nologin`");
        assert!(troubles.iter().any(|line| line.contains(&way)), "{troubles:#?}");
        assert!(
            !troubles.iter().any(|line| line.contains("policy vestnik")),
            "{troubles:#?}"
        );
    };
    said(&health_of(&shop).await.0);
    shop.write("drop policy stores on spree_orders").await;
    said(&health_of(&shop).await.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_without_which_no_order_is_projected_is_logged_once_while_it_is_missing() {
    let database = Database::fresh().await;
    let client = database.client().await;
    client.batch_execute(TABLES).await.unwrap();
    database.attach(MAPPING).await;
    let role = format!("vestnik_test_projects_{}", std::process::id());
    let url = engine_role(&database, &role, "grant usage on schema public to ROLE").await;
    let telegram = Telegram::start().await;
    let node = Node::serving(&Database::at(url.into()), &telegram.url(), &[]).await;
    node.until_said("orders still cannot be projected").await;
    let log = node.log();
    let said = |words: &str| log.iter().filter(|line| line.contains(words)).count();
    assert_eq!(said("orders could not be projected"), 1, "{log:#?}");
    assert!(
        said("permission denied for table purchase") >= 2,
        "the reason is said: {log:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_a_missing_right_stops_is_logged_with_the_grant_that_the_list_names() {
    let database = Database::fresh().await;
    let client = database.client().await;
    client.batch_execute(TABLES).await.unwrap();
    let role = format!("vestnik_test_logs_{}", std::process::id());
    let url = engine_role(&database, &role, "grant select on purchase to ROLE").await;
    database.attach(MAPPING).await;
    let telegram = Telegram::start().await;
    let node = Node::serving(&Database::at(url.clone().into()), &telegram.url(), &[]).await;
    let computed =
        "select not exists (select from vestnik.vst_change) and exists (select from vestnik.vst_projection_3)";
    database.until(computed).await;
    assert_eq!(accept(&node, &database).await, (422, "status_not_possible".to_owned()));
    let grant = format!(
        "answer.preparing: role {role} may not update public.purchase, so the answer fails: grant update on public.purchase to {role}"
    );
    let line = node.until_said("an answer was not written").await;
    assert!(line.contains(&grant), "{line}");
    assert!(troubles(&url).await.contains(&grant));
}

/// The GRANT statement at the end of each line.
fn grants(lines: &[String]) -> Vec<String> {
    let grant = |line: &String| line.rsplit(": ").next().unwrap().to_owned();
    lines.iter().map(grant).collect()
}

/// The status and the error code of the request that sets the order 1 of the store 7 to `preparing`.
async fn accept(node: &Node, database: &Database) -> (u16, String) {
    let bearer = format!("Bearer {}", database.token(Stores::All).await);
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    let (path, body) = ("/api/partner/stores/7/orders/1/status", "{\"status\": \"preparing\"}");
    let response = http::call(node.address().await, "POST", path, &headers, Some(body)).await;
    match response.status {
        200 => (200, String::new()),
        status => (status, response.code()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_grants_that_are_printed_are_all_that_an_answer_needs() {
    let database = Database::fresh().await;
    let client = database.client().await;
    client.batch_execute(TABLES).await.unwrap();
    let tables = "alter table purchase add changed_at timestamptz; create sequence purchase_mark; create sequence \"Purchase Number\"; \
        create table purchase_history (id bigserial primary key, mark int default nextval(('purchase_mark'::text)::regclass), \
            purchase text, what text); \
        create table purchase_note (id bigint generated always as identity, own serial, number bigint, what text); \
        create function purchase_told(key text, status text) returns boolean language sql as 'select true'; \
        create function purchase_told(key text) returns boolean language sql as 'select true'; \
        revoke execute on function purchase_told(text, text) from public";
    client.batch_execute(tables).await.unwrap();
    let role = format!("vestnik_test_needs_{}", std::process::id());
    let rights = "grant select, update (state) on purchase to ROLE; grant insert on purchase_history, purchase_note to ROLE; \
        grant execute on all functions in schema vestnik to ROLE";
    let url = engine_role(&database, &role, rights).await;
    let (before, _) = MAPPING.split_once("preparing = [").unwrap();
    let mapping = format!(
        "{before}preparing = [\"update purchase set state = 'ok', changed_at = now() where id = $1::int and state = 'new'\", \
         \"insert into purchase_history (purchase, what) values ($1, 'accepted')\", \
         \"insert into purchase_note (own, number, what) values ($1::int, nextval('\\\"Purchase Number\\\"'), $3)\", \
         \"select purchase_told($1, 'accepted')\"]\n"
    );
    let said = database.attach(&mapping).await;
    let missing = troubles(&url).await;
    for line in &missing {
        assert!(said.contains(line), "{line} is not in {said:#?}");
    }
    assert_eq!(
        grants(&missing),
        [
            format!("grant update (changed_at) on public.purchase to {role}"),
            format!("grant usage on sequence public.purchase_history_id_seq to {role}"),
            format!("grant usage on sequence public.purchase_mark to {role}"),
            format!("grant usage on sequence public.\"Purchase Number\" to {role}"),
            format!("grant execute on function public.purchase_told(key text, status text) to {role}"),
        ],
        "{missing:#?}"
    );

    let telegram = Telegram::start().await;
    let node = Node::serving(&Database::at(url.clone().into()), &telegram.url(), &[]).await;
    let computed =
        "select not exists (select from vestnik.vst_change) and exists (select from vestnik.vst_projection_3)";
    database.until(computed).await;
    let (last, first) = missing.split_last().unwrap();
    client.batch_execute(&grants(first).join(";")).await.unwrap();
    assert_eq!(accept(&node, &database).await, (422, "status_not_possible".to_owned()));
    let line = node.until_said("an answer was not written").await;
    assert!(
        line.contains(last) && !line.contains("a trigger or a function"),
        "{line}"
    );
    client.batch_execute(&grants(&missing).join(";")).await.unwrap();
    assert_eq!(troubles(&url).await, Vec::<String>::new());
    assert_eq!(accept(&node, &database).await, (200, String::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_a_trigger_of_the_shop_lacks_is_logged_with_its_grant() {
    let database = Database::fresh().await;
    let client = database.client().await;
    client.batch_execute(TABLES).await.unwrap();
    let trigger = "create table purchase_audit (id bigserial, what text); \
        create function purchase_audited() returns trigger language plpgsql as $$ begin \
            insert into purchase_audit (what) values (new.state); return new; end $$; \
        create trigger audited after update on purchase for each row execute function purchase_audited()";
    client.batch_execute(trigger).await.unwrap();
    let role = format!("vestnik_test_audits_{}", std::process::id());
    let rights = "grant select, update on purchase to ROLE; grant insert on purchase_log to ROLE; \
        grant execute on all functions in schema vestnik to ROLE";
    let url = engine_role(&database, &role, rights).await;
    database.attach(MAPPING).await;
    assert_eq!(troubles(&url).await, Vec::<String>::new());
    let telegram = Telegram::start().await;
    let node = Node::serving(&Database::at(url.into()), &telegram.url(), &[]).await;
    let computed =
        "select not exists (select from vestnik.vst_change) and exists (select from vestnik.vst_projection_3)";
    database.until(computed).await;
    for grant in [
        format!("grant insert on public.purchase_audit to {role}"),
        format!("grant usage on sequence public.purchase_audit_id_seq to {role}"),
    ] {
        assert_eq!(accept(&node, &database).await, (422, "status_not_possible".to_owned()));
        node.until_said(&format!(
            "a trigger or a function of the shop needs a right that the role of `vestnik serve` lacks: {grant}"
        ))
        .await;
        client.batch_execute(&grant).await.unwrap();
    }
    assert_eq!(accept(&node, &database).await, (200, String::new()));
}

#[tokio::test]
async fn the_role_of_serve_checks_a_source_with_the_rights_of_the_projector() {
    let database = Database::fresh().await;
    let client = database.client().await;
    let tables = "create table purchase_state (code text, status text); insert into purchase_state values ('new', 'pending'); \
        create table purchase_line (id int primary key, purchase int); insert into purchase_line values (5, 1)";
    client.batch_execute(&format!("{TABLES}; {tables}")).await.unwrap();
    let role = format!("vestnik_test_checks_{}", std::process::id());
    let url = engine_role(&database, &role, "grant select on purchase, purchase_line to ROLE").await;
    let mapping = "table = 'public.purchase'\nkind = 'order'\nkey = 'id'\n[derived]\nstore = 'o.shop'\n\
        from = 'left join purchase_state s on s.code = o.state'\nstatus = \"coalesce(s.status, 'completed')\"\n\
        number = '(select min(l.id) from purchase_line l where l.purchase = o.id)'\n\
        [[derived.watch]]\ntable = 'purchase_line'\ncolumn = 'id'\nkeys = 'select purchase from purchase_line where id = any ($1::int[])'\n";
    database.attach(mapping).await;
    let served = Database::at(url.into());
    let check = async |what: &str| super::attaching::vestnik(&served, &["source", "check", what]).await;
    let (code, said) = check("purchase").await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("order #5 of store 7: pending"), "{said}");
    assert!(
        !said.contains("grant ") && !said.contains("purchase_line: keys"),
        "{said}"
    );

    // Only its owner can run other expressions with these rights.
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), mapping.replace("min(l.id)", "max(l.id)")).unwrap();
    let path = file.path().to_str().unwrap();
    let (code, said) = check(path).await;
    assert_eq!(code, Some(2), "{said}");
    let remedy = format!(
        "role {role} cannot try these expressions as vestnik_reader, which is to run them: run this command as role postgres"
    );
    assert!(said.contains(&remedy) && !said.contains("grant "), "{said}");
    let (code, said) = super::attaching::vestnik(&database, &["source", "check", path]).await;
    assert_eq!(code, Some(0), "{said}");
    let editor = format!("cp {path}");
    let edit = vestnik_at(served.url(), &["source", "edit", "purchase"])
        .env("VISUAL", editor)
        .output()
        .unwrap();
    let (code, said) = told(&edit);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains(&remedy) && !said.contains("grant "), "{said}");

    client
        .batch_execute("revoke select on purchase_state from vestnik_reader")
        .await
        .unwrap();
    let (code, said) = check("purchase").await;
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("grant select on public.purchase_state to vestnik_reader"),
        "{said}"
    );
}
