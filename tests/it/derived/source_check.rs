//! `vestnik source check`: the mistakes that it finds in a mapping, and the corrections that it suggests.

use std::process::Command;

use super::attaching::{ORDER, spree, vestnik};
use super::shop::mapping;
use crate::support::app::App;
use crate::support::db::Database;

/// Asserts that `source check` and a dry run of `attach` both refuse a mapping, and that both print all messages in
/// `says`.
async fn refused(database: &Database, toml: &str, says: &[&str]) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), toml).unwrap();
    let path = file.path().to_str().unwrap();
    for arguments in [
        &["source", "check", path][..],
        &["attach", "--dry-run", "--map", path][..],
    ] {
        let (code, said) = vestnik(database, arguments).await;
        assert_eq!(code, Some(2), "{arguments:?}: {said}");
        for words in says {
            assert!(said.contains(words), "{arguments:?}: {words} is not in {said}");
        }
        assert!(!said.contains("has no rows yet"), "{said}");
    }
}

#[tokio::test]
async fn what_fails_for_the_newest_rows_is_named_with_the_orders_key() {
    let database = spree().await;
    database.client().await.batch_execute(ORDER).await.unwrap();
    let with =
        |field: &str| mapping("spree").replace("number = \"o.number\"", &format!("number = \"o.number\"\n{field}"));
    let fails = with("persons = \"(1 / (o.id - o.id))::text\"");
    refused(
        &database,
        &fails,
        &["derived.persons: division by zero", "for the order with key 1"],
    )
    .await;
    let unclosed = with("persons = \"coalesce(1\"");
    refused(&database, &unclosed, &["derived.persons: syntax error at its end"]).await;
    let word = mapping("spree").replace("paid = \"o.payment_state = 'paid'\"", "paid = \"o.payment_state\"");
    refused(&database, &word, &["derived.paid: is of type character varying"]).await;
    let number = mapping("spree").replace("paid = \"o.payment_state = 'paid'\"", "paid = \"o.id\"");
    refused(
        &database,
        &number,
        &["derived.paid: is of type bigint, and must be true or false"],
    )
    .await;
    let joins = "left join spree_addresses a on a.id = o.ship_address_id";
    let several = mapping("spree").replace(joins, &format!("{joins} cross join generate_series(1, 2) twice(n)"));
    let several = several.replace("number = \"o.number\"", "number = \"o.number || twice.n\"");
    refused(
        &database,
        &several,
        &[
            "gives several rows for one order of a store",
            "for the order with key 1",
        ],
    )
    .await;
    let direct = format!("number = \"number\"\n{}", mapping("spree"));
    refused(&database, &direct, &["number: is not for a mapping with [derived]"]).await;
    let answers = format!(
        "{}\n[answer]\npreparing = \"update spree_orders set state = $7\"\n",
        mapping("spree")
    );
    refused(
        &database,
        &answers,
        &["answer.preparing: has the parameter $7, and gets $1 to $6"],
    )
    .await;
    let whole = format!(
        "{}\n[answer]\npreparing = \"update spree_orders set state = $2 where $10 is null\"\n",
        mapping("spree")
    );
    let words = "answer.preparing: a statement changes rows and does not read `$1`, the order's key, so it would change other orders too";
    refused(&database, &whole, &[words]).await;
}

#[tokio::test]
async fn one_bad_row_keeps_no_mapping_out() {
    let database = spree().await;
    let client = database.client().await;
    for number in ["'R1'", "'R2'", "'R3'"] {
        client.batch_execute(&ORDER.replace("'R1'", number)).await.unwrap();
    }
    let with = |persons: &str| {
        mapping("spree").replace(
            "number = \"o.number\"",
            &format!("number = \"o.number\"\npersons = \"{persons}\""),
        )
    };
    let warning =
        "warning: derived.persons: division by zero (22012), for the order with key 2: such a value is shown as ?";
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), with("10 / (o.id - 2)")).unwrap();
    let path = file.path().to_str().unwrap();
    let (code, said) = vestnik(&database, &["attach", "--map", path]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(warning) && said.contains("order #R3"), "{said}");

    std::fs::write(file.path(), with("20 / (o.id - 2)")).unwrap();
    let editor = format!("cp {path}");
    let edit = |text: &str| {
        std::fs::write(file.path(), text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_vestnik"));
        command
            .args(["source", "edit", "spree"])
            .env("DATABASE_URL", database.url())
            .env("VESTNIK_SHOP_SCHEMA", "own")
            .env("VISUAL", &editor);
        let output = command.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    };
    let (code, said) = edit(&with("20 / (o.id - 2)"));
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains(warning) && said.contains("source spree is changed"),
        "{said}"
    );
    let (code, said) = edit(&with("30 / (o.id - o.id)"));
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("for 3 of the newest orders, the newest is the order with key 3"),
        "{said}"
    );
}

#[tokio::test]
async fn what_the_newest_rows_say_against_a_mapping_is_said_when_it_is_checked() {
    let database = Database::fresh().await;
    let tables = "create table purchase (id int primary key, shop int, state text, total numeric(8, 2), money text, \
            \"CustomerCurrencyCode\" text, items text); \
        insert into purchase values (1, 7, 'new', 5, 'EURO', 'EUR', null), (2, null, 'new', 5, 'EUR', 'EUR', null), \
            (3, 7, 'new', 5, null, 'EUR', null), (4, null, 'new', 5, 'EUR', 'EUR', null)";
    database.client().await.batch_execute(tables).await.unwrap();
    let mapping = "table = 'public.purchase'\nkind = 'order'\nkey = 'id'\n[derived]\nstore = 'o.shop'\n\
        status = \"case o.state when 'new' then 'pending' else 'cancelled' end\"\ntotal = 'o.total'\n";
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap().to_owned();
    let check = async |mapping: &str| {
        std::fs::write(file.path(), mapping).unwrap();
        vestnik(&database, &["source", "check", &path]).await
    };
    let (code, said) = check(&format!("{mapping}currency = 'o.money'\n")).await;
    assert_eq!(code, Some(0), "{said}");
    for warning in [
        "warning: store: 2 of the newest orders are without a store, so nobody sees them; the newest is the order with key 4",
        "warning: currency: 1 of the newest orders has no currency, and neither has its store, so amounts are shown in RUB; the newest is the order with key 3",
        "warning: currency: `EURO` of the order with key 1 is no code of three letters, such as EUR: its amounts are not shown",
    ] {
        assert!(said.contains(warning), "{warning} is not in {said}");
    }
    let (code, said) = check(mapping).await;
    assert_eq!(code, Some(0), "{said}");
    let ignored = "the table has a column CustomerCurrencyCode, so write currency = 'o.\"CustomerCurrencyCode\"'";
    assert!(said.contains(ignored), "{said}");

    let misspelt = mapping.replace("'pending'", "'pendng'");
    let (code, said) = check(&misspelt).await;
    assert_eq!(code, Some(2), "{said}");
    let meant = "derived.status: `pendng` is no status, so such orders ring: did you mean `pending`?";
    assert_eq!(said.matches(meant).count(), 1, "{said}");
    let (code, said) = vestnik(&database, &["attach", "--map", &path]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(&format!("warning: {meant}")), "{said}");

    let direct = "table = 'public.purchase'\nkind = 'order'\nkey = 'id'\nstore = 'shop'\n[status]\ncolumn = 'state'\n\
        pending = ['neww']\ncompleted = ['done']\ncancelled = ['void']\n[fields]\ntotal = { column = 'total', unit = 'major' }\n";
    let (code, said) = check(&direct.replace("neww", "newer")).await;
    assert_eq!(code, Some(0), "three letters are too few for a guess: {said}");
    assert!(said.contains("currency_column = \"CustomerCurrencyCode\""), "{said}");
    database
        .client()
        .await
        .batch_execute("update purchase set state = 'pending'")
        .await
        .unwrap();
    let (code, said) = check(&direct.replace("neww", "pendig")).await;
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("status: `pending` means nothing, so such orders ring: did you mean `pending` where the mapping has `pendig`?"),
        "{said}"
    );
}

#[tokio::test]
async fn source_check_says_what_it_assumes_where_the_mapping_says_nothing() {
    let database = Database::fresh().await;
    let tables = "create table purchase (id int primary key, shop int, state text, total numeric(10, 2), made timestamp, due timestamptz); \
        insert into purchase values (1, 7, 'new', 5.00, now(), now())";
    database.client().await.batch_execute(tables).await.unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap().to_owned();
    let check = async |mapping: &str| {
        std::fs::write(file.path(), mapping).unwrap();
        let (code, said) = vestnik(&database, &["source", "check", &path]).await;
        assert_eq!(code, Some(0), "{said}");
        said
    };
    let direct = "table = 'public.purchase'\nkind = 'order'\nkey = 'id'\nstore = 'shop'\n[status]\ncolumn = 'state'\npending = ['new']\n\
        preparing = ['ok']\ncancelled = ['void']\n[fields]\ntotal = { column = 'total', unit = 'major' }\ncreated_at = 'made'\ndue_at = 'due'\n";
    let derived = "table = 'public.purchase'\nkind = 'order'\nkey = 'id'\n[derived]\nstore = 'o.shop'\nstatus = \"'pending'\"\n\
        total = 'o.total'\ncreated_at = 'o.made'\ndue_at = 'o.due'\n[answer]\npreparing = \"update purchase set state = 'ok' where id = $1::int\"\n";
    let time = "note: created_at has no time zone, and the times are read as UTC: write `zone`";
    let currency = "note: the mapping names no currency, so amounts are in the currency of the store (`vestnik store set`), and in RUB where the store has none";
    let kept =
        "note: the answers ready, delivering, completed, rejected are kept by Vestnik and shown over the shop's status";
    let (said_direct, said_derived) = (check(direct).await, check(derived).await);
    for line in [time, currency] {
        assert!(said_direct.contains(line), "{line} is not in {said_direct}");
        assert!(said_derived.contains(line), "{line} is not in {said_derived}");
    }
    let said = check(&derived.replace("[derived]\n", "[derived]\nzone = 'UTC'\n")).await;
    assert!(!said.contains("has no time zone"), "the zone is named: {said}");
    assert!(!said_direct.contains("kept by Vestnik"), "{said_direct}");
    assert!(said_derived.contains(kept), "{said_derived}");

    let said = check(&direct.replace(
        "unit = 'major' }\ncreated_at = 'made'",
        "unit = 'major', currency = 'EUR' }\ncreated_at = { column = 'made', zone = 'Europe/Paris' }",
    ))
    .await;
    let notes: Vec<&str> = said.lines().filter(|line| line.starts_with("note:")).collect();
    assert!(notes.len() == 1 && notes[0].contains("names no items"), "{said}");
}

#[tokio::test]
async fn a_usual_mistake_in_a_mapping_is_told_with_what_to_write() {
    let database = spree().await;
    let joined = "from = \"join spree_addresses b on b.id = o.bill_address_id left join";
    let wrong = mapping("spree")
        .replace("currency = \"o.currency\"", "currency = \"EUR\"")
        .replace("from = \"left join", joined)
        .replace(
            "created_at = \"coalesce(o.completed_at, o.created_at)\"",
            "created_at = \"created_at\"",
        );
    let wrong = format!("{wrong}\n[answer]\npreparing = \"update spree_orders set state = 'x' where id = $1\"\n");
    refused(
        &database,
        &wrong,
        &[
            "derived.currency: column \"eur\" does not exist (42703): a text stands in quotes, `'EUR'`",
            "derived.created_at: column reference \"created_at\" is ambiguous (42702): write `o.created_at`",
            "the parameters are texts: write `$1::bigint`",
        ],
    )
    .await;
}

#[tokio::test]
async fn a_mistake_that_postgres_tells_in_its_own_words_is_told_in_those_of_the_mapping() {
    let database = Database::fresh().await;
    let tables = "create table \"Order\" (id int primary key, shop int, notes text, number text); \
        create table \"OrderItem\" (id int primary key, order_id int, name text)";
    database.client().await.batch_execute(tables).await.unwrap();
    let mapping = "table = 'public.\"Order\"'\nkind = 'order'\nkey = 'id'\n[derived]\nstore = 'o.shop'\nstatus = \"'pending'\"\n\
        number = 'o.number::'\ncomment = 'o.notes, o.number'\nitems = \"select 'Tea' as name, (1 as quantity\"\n\
        [[derived.watch]]\ntable = 'OrderItem'\ncolumn = 'order_id'\n";
    let end = "syntax error at its end: a parenthesis, a quote or an END is missing or too many (42601)";
    refused(
        &database,
        mapping,
        &[
            &format!("derived.number: {end}"),
            "derived.comment: column \"comment\" has pseudo-type record (42P16): an expression gives one value: join several with `||`",
            "did you mean table = 'public.\"OrderItem\"'? A name in mixed case is quoted",
        ],
    )
    .await;
    let quotes = mapping.replace("number = 'o.number::'", "number = \"o.\"number\"\"");
    refused(
        &database,
        &quotes,
        &[
            "line 7, `number = \"o.\"number\"\"`: ",
            "a value that contains quotes stands between three, '''as here'''",
        ],
    )
    .await;
}

#[tokio::test]
async fn a_word_that_is_no_status_is_told_with_the_status_that_it_usually_means() {
    let database = Database::fresh().await;
    let tables = "create table purchase (id int primary key, shop int, state text); insert into purchase values (1, 7, 'Accepted')";
    database.client().await.batch_execute(tables).await.unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap().to_owned();
    let check = async |status: &str| {
        let mapping = format!(
            "table = 'public.purchase'\nkind = 'order'\nkey = 'id'\n[derived]\nstore = 'o.shop'\nstatus = \"{status}\"\n"
        );
        std::fs::write(file.path(), mapping).unwrap();
        vestnik(&database, &["source", "check", &path]).await
    };
    let (code, said) = check("case when o.state = 'x' then 'New' else 'cart' end").await;
    assert_eq!(code, Some(2), "{said}");
    for line in [
        "derived.status: `New` is no status, so such orders ring: did you mean `pending`?",
        "derived.status: `cart` is no status, so such orders ring: did you mean `hidden`?",
    ] {
        assert!(said.contains(line), "{line} is not in {said}");
    }
    let (code, said) = check("o.state").await;
    assert_eq!(code, Some(2), "{said}");
    let of_row =
        "status: `Accepted` means nothing, so such orders ring: did you mean `preparing`? The order with key 1 has it";
    assert!(said.contains(of_row), "{said}");
    let (code, said) = check("case when o.id = 2 then 'Awaiting courier' else 'pending' end").await;
    assert_eq!(code, Some(0), "a shop may show a word of its own: {said}");
    let own = "warning: derived.status: `Awaiting courier` is no status: such an order shows this word, and rings";
    assert!(said.contains(own), "{said}");
}

#[tokio::test]
async fn an_amount_of_type_text_without_a_unit_is_said_to_be_read_as_major_units() {
    let database = Database::fresh().await;
    let tables =
        "create table purchase (id int primary key, shop int, total int); insert into purchase values (1, 7, 1250)";
    database.client().await.batch_execute(tables).await.unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap().to_owned();
    let check = async |amounts: &str| {
        let mapping = format!(
            "table = 'public.purchase'\nkind = 'order'\nkey = 'id'\n[derived]\nstore = 'o.shop'\nstatus = \"'pending'\"\n\
             currency = \"'EUR'\"\n{amounts}"
        );
        std::fs::write(file.path(), mapping).unwrap();
        let (code, said) = vestnik(&database, &["source", "check", &path]).await;
        assert_eq!(code, Some(0), "{said}");
        said
    };
    let text = "total = 'o.total::text'\nitems = \"select 'Tea' as name, 1 as quantity, '125' as price\"\n";
    let said = check(text).await;
    let note = "note: total and items.price are text, and are read as major units, such as 12.50: write `unit` where they count cents";
    assert!(said.contains(note), "{said}");
    assert!(!check(&format!("{text}unit = 'minor'\n")).await.contains("are text"));
    assert!(!check("total = 'o.total'\n").await.contains("text"));
}

#[tokio::test]
async fn a_creation_time_that_cannot_be_read_is_marked() {
    let database = Database::fresh().await;
    let tables = "create table purchase (id int primary key, shop int, made text); insert into purchase values (1, 7, 'yesterday')";
    database.client().await.batch_execute(tables).await.unwrap();
    let mapping = "table = 'public.purchase'\nkind = 'order'\nkey = 'id'\n[derived]\nstore = 'o.shop'\nstatus = \"'pending'\"\ncreated_at = 'o.made'\n";
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), mapping).unwrap();
    let (code, said) = vestnik(&database, &["source", "check", file.path().to_str().unwrap()]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("! created_at cannot be read: yesterday"), "{said}");

    database.attach(mapping).await;
    let app = App::start_on(database, |_| ()).await;
    let mut panel = app.panel("7", None).await.live().await;
    let insert = "insert into purchase values (2, 7, 'this morning')";
    app.database.client().await.batch_execute(insert).await.unwrap();
    let event = panel.event().await;
    let marked = serde_json::json!([{"field": "created_at", "text": "this morning"}]);
    assert_eq!(event["data"]["unreadable"], marked, "{event}");
}

#[tokio::test]
async fn a_file_with_open_questions_is_checked_and_the_questions_are_named() {
    let database = Database::fresh().await;
    let table =
        "create table meals (id int primary key, place int, stage text); insert into meals values (1, 7, 'pending')";
    database.client().await.batch_execute(table).await.unwrap();
    let mapping = "table = \"public.meals\"\nkind = \"order\"\nkey = \"id\"\n# ? is place the store?\nstore = \"place\"\n\n[status]\ncolumn = \"stage\"\npending = [\"pending\"]\n";
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), mapping).unwrap();
    let (code, said) = vestnik(&database, &["source", "check", file.path().to_str().unwrap()]).await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("order #1 of store 7: pending"), "{said}");
    let open = "line 4 has an open question, answer it and delete the line: is place the store?";
    assert!(said.contains(open), "{said}");
}

#[tokio::test]
async fn newest_rows_that_a_join_leaves_out_are_counted_and_the_newest_is_named() {
    let database = Database::fresh().await;
    let tables = "create table customer (id int primary key, name text); \
        create table purchase (id int primary key, shop int, customer int); \
        insert into customer values (1, 'Ann'); insert into purchase values (1, 7, 1), (2, 7, null), (3, 7, null), (4, 7, 1)";
    let client = database.client().await;
    client.batch_execute(tables).await.unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap().to_owned();
    let run = async |join: &str, arguments: &[&str]| {
        let mapping = format!(
            "table = 'public.purchase'\nkind = 'order'\nkey = 'id'\n[derived]\nfrom = '{join} customer u on u.id = o.customer'\n\
             store = 'o.shop'\nstatus = \"'pending'\"\ncustomer_name = 'u.name'\n"
        );
        std::fs::write(file.path(), mapping).unwrap();
        let (code, said) = vestnik(&database, &[arguments, &[path.as_str()]].concat()).await;
        assert_eq!(code, Some(0), "{said}");
        said
    };
    let check = ["source", "check"];
    let some = "warning: derived.from: 2 of the newest 4 rows of public.purchase give no order, so nobody sees such rows; \
        the newest is the row with key 3: `left join` keeps a row whose joined row is missing";
    let said = run("join", &check).await;
    assert!(said.contains(some) && said.contains("order #4 of store 7"), "{said}");
    assert!(!run("left join", &check).await.contains("derived.from"));

    client.batch_execute("update purchase set customer = 2").await.unwrap();
    let none = "warning: derived.from: none of the newest 4 rows of public.purchase gives an order, so nobody sees such rows; \
        the newest is the row with key 4: `left join`";
    for arguments in [&check[..], &["attach", "--map"]] {
        let said = run("join", arguments).await;
        assert!(said.contains(none) && !said.contains("has no rows yet"), "{said}");
    }
}
