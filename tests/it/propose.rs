//! What `attach` proposes for columns whose meaning is uncertain, and what it asks.

use std::process::Command;

use serde_json::Value;
use vestnik::infra::db::Client;
use vestnik::sources::catalog::Table;
use vestnik::sources::propose::{Proposal, propose};

use crate::support::app::App;
use crate::support::db::Database;

/// The columns of a table of orders of which nothing is asked.
const COLUMNS: &str =
    "id bigserial primary key, store_id int, status text check (status in ('new', 'accepted', 'rejected'))";

/// A database with these tables. In `sql`, `COLUMNS` stands for the columns of a table of orders.
async fn shop(sql: &str) -> (Database, Client) {
    let database = Database::without_shop().await;
    let client = database.client().await;
    client.batch_execute(&sql.replace("COLUMNS", COLUMNS)).await.unwrap();
    (database, client)
}

async fn proposed(client: &Client, table: &str) -> Proposal {
    let table = Table::find(client, table).await.unwrap();
    propose(client, &table, None).await.unwrap()
}

#[track_caller]
fn says(proposal: &Proposal, parts: &[&str]) {
    for part in parts {
        assert!(proposal.toml.contains(part), "{part} is not in {}", proposal.toml);
    }
}

#[track_caller]
fn asks_nothing(proposal: &Proposal) {
    assert_eq!(proposal.questions, [""; 0], "{}", proposal.toml);
}

#[track_caller]
fn asks(proposal: &Proposal, part: &str) {
    let asked = proposal.questions.iter().filter(|question| question.contains(part));
    assert_eq!(asked.count(), 1, "{part} is not asked once in {}", proposal.toml);
}

fn vestnik(database: &Database, arguments: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_vestnik"))
        .args(arguments)
        .current_dir(tempfile::tempdir().unwrap().keep())
        .env("DATABASE_URL", database.url())
        .output()
        .unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (output.status.code().unwrap_or(-1), text)
}

#[tokio::test]
async fn an_amount_of_an_item_is_its_quantity_only_where_it_cannot_be_money() {
    let (_database, client) = shop(
        "create table orders (COLUMNS); \
         create table a_orders (COLUMNS); create table a_order_items (id serial primary key, a_order_id bigint references a_orders, name text, num int, amount int); \
         create table b_orders (COLUMNS); create table b_order_items (id serial primary key, b_order_id bigint references b_orders, name text, qty int, amount int); \
         create table c_orders (COLUMNS); create table c_order_items (id serial primary key, c_order_id bigint references c_orders, name text, amount int, price numeric(10, 2)); \
         create table d_orders (COLUMNS); create table d_order_items (id serial primary key, d_order_id bigint references d_orders, name text, amount int); \
         create table e_orders (COLUMNS); create table e_order_items (id serial primary key, e_order_id bigint references e_orders, name text, amount int, price_cents int); \
         create table f_orders (COLUMNS); create table f_order_items (id serial primary key, f_order_id bigint references f_orders, name text, amount int, price_cents int); \
         create table g_orders (COLUMNS); create table g_order_items (id serial primary key, g_order_id bigint references g_orders, name text, amount int, price_cents int); \
         create table h_orders (COLUMNS); create table h_order_items (id serial primary key, h_order_id bigint references h_orders, name text, \"кол_во\" int, amount int); \
         insert into e_order_items (name, amount, price_cents) values ('Soup', 2, 450), ('Tea', 1, 200); \
         insert into f_order_items (name, amount, price_cents) values ('Soup', 900, 450), ('Tea', 200, 200)",
    )
    .await;
    for (table, quantity) in [
        ("a_orders", "num"),
        ("b_orders", "qty"),
        ("c_orders", "amount"),
        ("e_orders", "amount"),
        ("h_orders", "кол_во"),
    ] {
        let proposal = proposed(&client, table).await;
        says(&proposal, &[&format!("\nquantity = \"{quantity}\"\n")]);
        asks_nothing(&proposal);
    }
    for (table, items) in [("d_orders", "d_order_items"), ("g_orders", "g_order_items")] {
        let proposal = proposed(&client, table).await;
        asks(
            &proposal,
            &format!("is amount of public.{items} the quantity, or money?"),
        );
    }
    let proposal = proposed(&client, "f_orders").await;
    says(
        &proposal,
        &["# a guess to confirm: amount of public.f_order_items is the sum of the line, and no quantity\n"],
    );
    assert!(!proposal.toml.contains("quantity = "), "{}", proposal.toml);
}

#[tokio::test]
async fn a_whole_number_that_may_be_the_quantity_is_asked_about() {
    let (_database, client) = shop(
        "create table a_orders (COLUMNS); \
         create table a_order_items (id serial primary key, a_order_id bigint references a_orders, dish_id int, name text, price numeric(10, 2), how_many int, \
             sort_order int, version int, tax_cents int); \
         create table b_orders (COLUMNS); \
         create table b_order_items (b_order_id bigint references b_orders, line_no int, name text, position int, row_version bigint, \
             created_at bigint, primary key (b_order_id, line_no))",
    )
    .await;
    let proposal = proposed(&client, "a_orders").await;
    asks(
        &proposal,
        "is how_many of public.a_order_items the quantity? If so, write quantity = \"how_many\"",
    );
    assert_eq!(proposal.questions.len(), 1, "{}", proposal.toml);
    asks_nothing(&proposed(&client, "b_orders").await);
}

#[tokio::test]
async fn whole_amounts_whose_unit_nothing_says_are_one_guess() {
    let items = |table: &str, columns: &str| {
        format!(
            "create table {table}_order_items (id serial primary key, {table}_order_id bigint references {table}_orders, name text, qty int, {columns});"
        )
    };
    let tables = [
        "create table a_orders (COLUMNS, total int);".to_owned(),
        items("a", "price int"),
        "create table b_orders (COLUMNS, total numeric(10, 0));".to_owned(),
        items("b", "price numeric(10)"),
        "create table c_orders (COLUMNS, total_cents int);".to_owned(),
        items("c", "price int"),
        "create table d_orders (COLUMNS, total int, currency text default 'JPY');".to_owned(),
        items("d", "price int"),
        "create table e_orders (COLUMNS, total int); comment on column e_orders.total is 'in cents, with tax';"
            .to_owned(),
        "create table f_orders (COLUMNS, total numeric(10, 2));".to_owned(),
        items("f", "price bigint"),
        "create table g_orders (COLUMNS, amount_pence int, currency text);".to_owned(),
        "create table h_orders (COLUMNS, total int, change_from int);".to_owned(),
        "create table i_orders (COLUMNS, total int); comment on column i_orders.total is 'в рублях';".to_owned(),
    ];
    let (_database, client) = shop(&tables.concat()).await;
    let guessed = "is 12.50: whole numbers count cents, unless the mapping says unit = \"major\"";
    for (table, places) in [
        ("a_orders", "in total and in price of public.a_order_items"),
        ("f_orders", "in price of public.f_order_items"),
        ("h_orders", "in total and in change_from"),
    ] {
        let proposal = proposed(&client, table).await;
        asks_nothing(&proposal);
        says(&proposal, &[&*format!("# a guess to confirm: 1250 {places} {guessed}")]);
        assert_eq!(proposal.guesses.len(), 1, "{}", proposal.toml);
    }
    for (table, lines) in [
        (
            "b_orders",
            &[
                "total = { column = \"total\", unit = \"major\" }",
                "price = { column = \"price\", unit = \"major\" }",
            ][..],
        ),
        (
            "c_orders",
            &[
                "# a guess to confirm: price counts as total_cents does: minor units",
                "unit = \"minor\"",
            ],
        ),
        ("d_orders", &["unit = \"minor\", currency_column = \"currency\" }"]),
        ("e_orders", &["total = { column = \"total\", unit = \"minor\" }"]),
        ("g_orders", &["total = { column = \"amount_pence\", unit = \"minor\""]),
        ("i_orders", &["total = { column = \"total\", unit = \"major\" }"]),
    ] {
        let proposal = proposed(&client, table).await;
        asks_nothing(&proposal);
        says(&proposal, lines);
    }
}

#[tokio::test]
async fn the_word_of_an_accepted_order_is_asked_for_where_rows_show_how_orders_end() {
    let (_database, client) = shop(
        "create table a_orders (id int primary key, store_id int, status text); \
         insert into a_orders values (1, 7, 'completed'), (2, 7, 'cancelled'), (3, 7, 'pending'); \
         create table b_orders (id int primary key, store_id int, status text default 'pending'); \
         create table c_orders (id int primary key, store_id int, status text); \
         insert into c_orders values (1, 7, 'preparing'), (2, 7, 'cancelled'), (3, 7, 'pending')",
    )
    .await;
    let proposal = proposed(&client, "a_orders").await;
    asks(&proposal, "which word does an order get that is accepted?");
    says(&proposal, &["# preparing = []", "pending = [\"pending\"]   #"]);
    // A new table says only how orders begin, so the other words are a guess.
    let proposal = proposed(&client, "b_orders").await;
    asks_nothing(&proposal);
    says(
        &proposal,
        &["preparing = [\"preparing\", ", "rejected = [\"rejected\", "],
    );
    let proposal = proposed(&client, "c_orders").await;
    asks_nothing(&proposal);
    says(
        &proposal,
        &[
            "preparing = [\"preparing\", \"confirmed\", \"accepted\"]",
            "cancelled = [\"cancelled\", \"canceled\", \"refunded\"]",
            "# a guess to confirm: no row has new, confirmed, accepted, ready and ",
        ],
    );
}

/// Words of a column that marks deleted rows. The first [`ALIVE`] mean that the row is not deleted.
const WORDS: [&str; 25] = [
    "",
    " ",
    "0",
    "00",
    "0.0",
    "-0",
    "N",
    "n ",
    "No",
    "OFF",
    "f",
    "FALSE",
    " no\n",
    "\t0",
    "1",
    "Y",
    "yes",
    "2020-01-01",
    "null",
    "-",
    ".",
    "0.1",
    "0x",
    "nein",
    "t",
];
const ALIVE: usize = 14;

/// The keys of a store's orders in its list, and in its events, in order.
async fn orders(app: &App, store: &str) -> (Vec<String>, Vec<String>) {
    let list = app
        .get_json(&format!("/api/partner/stores/{store}/orders?limit=500"))
        .await;
    let events = app.get_json(&format!("/api/partner/stores/{store}/events")).await;
    let key = |order: &Value| order["id"].as_str().or(order["order_id"].as_str()).unwrap().to_owned();
    let mut listed: Vec<String> = list["orders"].as_array().unwrap().iter().map(key).collect();
    let of_event = |event: &Value| event["data"]["order_id"].as_str().unwrap().to_owned();
    let mut told: Vec<String> = events["events"].as_array().unwrap().iter().map(of_event).collect();
    let number = |key: &String| key.parse::<u32>().unwrap();
    listed.sort_by_key(number);
    told.sort_by_key(number);
    (listed, told)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_or_a_letter_that_marks_deleted_rows_is_proposed_and_hides_them() {
    let (database, client) = shop("").await;
    let marks = [
        ("deleted_at bigint not null default 0", "0", "1700000000"),
        ("deleted_at bigint", "0", "1700000000"),
        ("deleted int default 0", "0", "1"),
        ("is_deleted char(1) default 'N'", "'N'", "'Y'"),
        ("del_flag varchar(5) default '0'", "''", "'2'"),
        ("is_deleted varchar(5) default 'false'", "'no'", "'yes'"),
        ("deleted_on date", "null", "'2020-01-01'"),
    ];
    for (number, (kind, alive, deleted)) in marks.into_iter().enumerate() {
        let table = format!("mark{number}_orders");
        let column = kind.split(' ').next().unwrap();
        client
            .batch_execute(&format!("create table {table} ({COLUMNS}, {kind})"))
            .await
            .unwrap();
        let proposal = proposed(&client, &table).await;
        says(&proposal, &[&format!("deleted_at = \"{column}\"\n")]);
        database.attach(&proposal.toml).await;
        let sql = format!(
            "insert into {table} (store_id, status, {column}) values ({number}, 'new', {alive}), ({number}, 'new', {deleted})"
        );
        client.batch_execute(&sql).await.unwrap();
    }
    client
        .batch_execute(&format!(
            "create table word_orders ({COLUMNS}, is_deleted text default 'no')"
        ))
        .await
        .unwrap();
    database.attach(&proposed(&client, "word_orders").await.toml).await;
    for word in WORDS {
        let insert = "insert into word_orders (store_id, status, is_deleted) values (99, 'new', $1)";
        client.execute(insert, &[&word]).await.unwrap();
    }
    let app = App::start_on(database, |_| ()).await;
    for (number, mark) in marks.iter().enumerate() {
        let (listed, told) = orders(&app, &number.to_string()).await;
        assert_eq!((listed, told), (vec!["1".to_owned()], vec!["1".to_owned()]), "{mark:?}");
    }
    let (listed, told) = orders(&app, "99").await;
    assert_eq!(
        listed, told,
        "the SQL of lists and the translation of events read a word in the same way"
    );
    let alive: Vec<String> = (1..=ALIVE).map(|key| key.to_string()).collect();
    assert_eq!(listed, alive);
    let (_database, client) = shop(
        "create table a_orders (COLUMNS, deleted int default 5); create table b_orders (COLUMNS, deleted text default 'active'); \
         create table c_orders (COLUMNS); create table c_order_items (id serial primary key, c_order_id bigint references c_orders, name text, qty int, \
             removed text, amount_cents int)",
    )
    .await;
    for table in ["a_orders", "b_orders", "c_orders"] {
        let proposal = proposed(&client, table).await;
        assert!(!proposal.toml.contains("deleted_at = "), "{}", proposal.toml);
    }
}

#[tokio::test]
async fn columns_with_similar_names_are_told_apart() {
    let (_database, client) = shop(
        "create table a_orders (COLUMNS, total numeric(10, 2), cash_given numeric(10, 2), change numeric(10, 2), tracking_number text, invoice_number text, \
             cutlery int, people_count int, payment_method int); \
         create table b_orders (COLUMNS, total numeric(10, 2), change numeric(10, 2), tracking_number text, reference text, cutlery int, party_size int, \
             payment_method text); \
         create table c_orders (COLUMNS, tracking_number text, cutlery int)",
    )
    .await;
    let proposal = proposed(&client, "a_orders").await;
    asks_nothing(&proposal);
    says(
        &proposal,
        &[
            "change_from = \"cash_given\"",
            "\nnumber = \"invoice_number\"",
            "persons = \"people_count\"",
            "# Not shown to anybody: change, tracking_number, cutlery, payment_method\n",
        ],
    );
    let proposal = proposed(&client, "b_orders").await;
    asks(
        &proposal,
        "is change the banknote that the customer pays with, or the change that is given back?",
    );
    says(
        &proposal,
        &[
            "\nnumber = \"reference\"",
            "persons = \"party_size\"",
            "payment_method = \"payment_method\"",
        ],
    );
    let proposal = proposed(&client, "c_orders").await;
    says(&proposal, &["\nnumber = \"tracking_number\"", "persons = \"cutlery\""]);
}

#[tokio::test]
async fn the_parts_of_an_address_are_proposed_in_their_order() {
    let (_database, client) = shop(
        "create table a_orders (COLUMNS, city text, zip text, house_number int, street text, apartment text, entrance text, floor int); \
         create table b_orders (COLUMNS, delivery_city text, delivery_street text, delivery_house text, billing_street text, billing_city text); \
         create table c_orders (COLUMNS, \"DeliveryAddress_City\" text, \"DeliveryAddress_Street\" text, \"DeliveryAddress_ZipCode\" text); \
         create table d_orders (COLUMNS, shipping_address text, shipping_city text, shipping_postcode text, city text); \
         create table e_orders (COLUMNS, delivery_address jsonb, delivery_city text); \
         create table f_orders (COLUMNS, address text, street text, city text); \
         create table g_orders (COLUMNS, city text); \
         create table h_orders (COLUMNS, address_line_1 text, address_line_2 text, city text, postal_code text)",
    )
    .await;
    for (table, line) in [
        (
            "a_orders",
            "address = [\"street\", \"house_number\", \"apartment\", \"zip\", \"city\"]\n",
        ),
        ("a_orders", "\"Entrance\" = \"entrance\"\n\"Floor\" = \"floor\"\n"),
        (
            "b_orders",
            "address = [\"delivery_street\", \"delivery_house\", \"delivery_city\"]\n",
        ),
        (
            "c_orders",
            "address = [\"DeliveryAddress_Street\", \"DeliveryAddress_ZipCode\", \"DeliveryAddress_City\"]\n",
        ),
        (
            "d_orders",
            "address = [\"shipping_address\", \"shipping_postcode\", \"shipping_city\"]\n",
        ),
        ("e_orders", "address = \"delivery_address\"\n"),
        ("f_orders", "address = \"address\"\n"),
        ("g_orders", "# Not shown to anybody: city\n"),
        (
            "h_orders",
            "address = [\"address_line_1\", \"address_line_2\", \"postal_code\", \"city\"]\n",
        ),
    ] {
        says(&proposed(&client, table).await, &[line]);
    }
}

#[tokio::test]
async fn the_customer_within_json_is_found_by_what_the_newest_rows_hold() {
    let (_database, client) = shop(
        r#"create table a_orders (COLUMNS, customer jsonb);
         insert into a_orders (store_id, status, customer) values (7, 'new', '{"name": "Ann", "phone": "+1", "deliveryAddress": {"street": "Main"}}'),
             (7, 'new', '{"name": "Bob", "phone": "+2", "age": 5}'), (7, 'new', null), (7, 'new', '{"name": "Cid", "deliveryAddress": {"street": "Side"}}');
         create table b_orders (COLUMNS, customer_name text, contact json);
         insert into b_orders (store_id, status, contact) values (7, 'new', '{"name": "Ann", "first_name": "A", "last_name": "B", "tel": "+1"}');
         create table c_orders (COLUMNS, client jsonb);
         insert into c_orders (store_id, status, client) values (7, 'new', '{"firstName": "Ann", "lastName": "Lee"}');
         create table d_orders (COLUMNS, customer jsonb, courier jsonb);
         insert into d_orders (store_id, status, customer, courier) values (7, 'new', '{"id": 5}', '{"name": "Ann"}')"#,
    )
    .await;
    let proposal = proposed(&client, "a_orders").await;
    asks_nothing(&proposal);
    says(
        &proposal,
        &[
            "# a guess to confirm: the newest values of customer have customer_name, phone, address\ncustomer_name = \"customer.name\"\n\
             phone = \"customer.phone\"\naddress = \"customer.deliveryAddress\"\n",
        ],
    );
    let proposal = proposed(&client, "b_orders").await;
    says(
        &proposal,
        &["customer_name = \"customer_name\"\n", "phone = \"contact.tel\"\n"],
    );
    let proposal = proposed(&client, "c_orders").await;
    says(
        &proposal,
        &["customer_name = [\"client.firstName\", \"client.lastName\"]\n"],
    );
    let proposal = proposed(&client, "d_orders").await;
    says(&proposal, &["# Not shown to anybody: customer, courier\n"]);
}

#[tokio::test]
async fn columns_of_the_items_that_nothing_uses_are_listed() {
    let (_database, client) = shop(
        "create table a_orders (COLUMNS, meta jsonb); \
         create table a_order_items (id serial primary key, a_order_id bigint references a_orders, name text, qty int, removed_ingredients jsonb, size text)",
    )
    .await;
    let proposal = proposed(&client, "a_orders").await;
    says(
        &proposal,
        &[
            "# Not shown to anybody: meta\n",
            "# Not shown of public.a_order_items: removed_ingredients, size\n",
        ],
    );
}

#[tokio::test]
async fn the_type_of_an_order_is_recognised_by_its_words() {
    let (_database, client) = shop(
        "create table a_orders (COLUMNS, channel text check (channel in ('DELIVERY', 'TAKE_AWAY', 'EAT_IN'))); \
         create table b_orders (COLUMNS, channel text check (channel in ('web', 'app'))); \
         create table c_orders (COLUMNS, type text check (type in ('web', 'app')), fulfillment text check (fulfillment in ('pickup', 'delivery'))); \
         create table d_orders (COLUMNS, is_delivery boolean); \
         create table e_orders (COLUMNS, is_pickup boolean); \
         create table f_orders (COLUMNS, order_mode text check (order_mode in ('takeaway', 'dine in')), service_type text)",
    )
    .await;
    for (table, line) in [
        (
            "a_orders",
            "type = { column = \"channel\", delivery = [\"DELIVERY\"], pickup = [\"TAKE_AWAY\"], dine_in = [\"EAT_IN\"] }",
        ),
        ("b_orders", "# Not shown to anybody: channel\n"),
        (
            "c_orders",
            "type = { column = \"fulfillment\", delivery = [\"delivery\"], pickup = [\"pickup\"] }",
        ),
        (
            "d_orders",
            "# a guess to confirm: where is_delivery is false, the order is picked up\n\
             type = { column = \"is_delivery\", delivery = [\"true\"], pickup = [\"false\"] }",
        ),
        (
            "e_orders",
            "type = { column = \"is_pickup\", delivery = [\"false\"], pickup = [\"true\"] }",
        ),
        (
            "f_orders",
            "type = { column = \"order_mode\", pickup = [\"takeaway\"], dine_in = [\"dine in\"] }",
        ),
    ] {
        says(&proposed(&client, table).await, &[line]);
    }
}

#[tokio::test]
async fn a_booking_whose_start_stands_in_two_columns_is_told_how_to_join_them() {
    let (database, client) = shop(
        "create table bookings (COLUMNS, booking_date date, start_time time); \
         insert into bookings (store_id, status, booking_date, start_time) values (7, 'new', '2030-05-01', '18:30')",
    )
    .await;
    let proposal = proposed(&client, "bookings").await;
    asks_nothing(&proposal);
    let query = "query = '''select \"id\"::text as key, (\"booking_date\" + \"start_time\") at time zone 'Europe/Paris' as due_at from public.bookings \
        where \"id\" = any ($1::text[]::bigint[])'''";
    says(
        &proposal,
        &[
            "# due_at: the date stands in booking_date and the time in start_time. Delete both under [extra], and write at the end",
            &format!("# [details]\n# {query}\n"),
        ],
    );
    let note = "note: the mapping does not say when the guests come: write `due_at`";
    let (code, said) = vestnik(&database, &["attach", "--table", "bookings"]);
    assert!(code == 0 && said.contains(note), "{said}");
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let (head, _) = proposal.toml.split_once("\n[fields]").unwrap();
    for (rest, parts) in [
        ("", &[note][..]),
        (
            "[fields]\ndue_at = ['booking_date', 'start_time']\n",
            &[
                "fields.due_at: is one column: where the date and the time stand in two, let the query of [details] return",
            ],
        ),
        (
            "[fields]\ndue_at = 'booking_date'\n",
            &["fields.due_at: booking_date is a date, and is read as midnight"],
        ),
        (&format!("[details]\n{query}\n"), &["2030-05-01T16:30:00.000Z"]),
    ] {
        std::fs::write(file.path(), format!("{head}\n{rest}")).unwrap();
        let said = vestnik(&database, &["source", "check", path]).1;
        for part in parts {
            assert!(said.contains(part), "{part} is not in {said}");
        }
        assert_eq!(said.contains(note), rest.is_empty(), "{said}");
    }
}

#[tokio::test]
async fn a_wished_time_of_an_order_in_two_columns_is_told_how_to_join_them() {
    let (_database, client) =
        shop("create table a_orders (COLUMNS, delivery_date date, delivery_time time, order_date date)").await;
    let proposal = proposed(&client, "a_orders").await;
    asks_nothing(&proposal);
    says(
        &proposal,
        &["# due_at: the date stands in delivery_date and the time in delivery_time. Delete both under [extra]"],
    );
}

#[tokio::test]
async fn the_rows_of_a_table_of_words_are_the_words_of_a_status_that_refers_to_it() {
    let (_database, client) = shop(
        "create table order_statuses (value text primary key, comment text); \
         insert into order_statuses values ('placed'), ('accepted'), ('declined'), ('delivered'); \
         create table a_orders (id int primary key, store_id int, status text not null default 'placed' references order_statuses); \
         create table states (id smallint primary key, name text); \
         insert into states values (1, 'new'), (2, 'accepted'), (3, 'rejected'); \
         create table b_orders (id int primary key, store_id int, status smallint references states)",
    )
    .await;
    let proposal = proposed(&client, "a_orders").await;
    asks_nothing(&proposal);
    says(
        &proposal,
        &[
            "pending = [\"placed\"]",
            "preparing = [\"accepted\"]",
            "rejected = [\"declined\"]",
            "completed = [\"delivered\"]",
        ],
    );
    let proposal = proposed(&client, "b_orders").await;
    asks_nothing(&proposal);
    says(&proposal, &["pending = [1]", "preparing = [2]", "rejected = [3]"]);
}

#[tokio::test]
async fn a_draft_beside_each_published_order_is_asked_about() {
    let (_database, client) = shop(
        "create table a_orders (COLUMNS, document_id text, published_at timestamp); \
         create table b_orders (COLUMNS, document_id text, published_at timestamp); \
         insert into b_orders (store_id, status, document_id, published_at) values (7, 'new', 'a', null), (7, 'new', 'a', now()); \
         create table c_orders (COLUMNS, document_id text, published_at timestamp); \
         insert into c_orders (store_id, status, document_id, published_at) values (7, 'new', 'a', now()), (7, 'new', 'b', now())",
    )
    .await;
    for table in ["a_orders", "b_orders"] {
        let proposal = proposed(&client, table).await;
        asks(
            &proposal,
            "is one order two rows, a draft (published_at is null) and a published one, with the same document_id?",
        );
        says(
            &proposal,
            &["case when o.published_at is null then 'hidden' else ... end"],
        );
    }
    asks_nothing(&proposed(&client, "c_orders").await);
}

#[tokio::test]
async fn a_column_whose_name_ends_with_a_blank_is_attached() {
    let (database, client) = shop(
        "create table a_orders (id bigserial primary key, \"store_id \" int, \"status \" text check (\"status \" in ('new', 'accepted', 'rejected')), \
             \"phone \" text, \"number \" text, \"total \" numeric(10, 2), \"updated_at \" timestamptz, \" note\" text, \"created_at \" timestamptz); \
         create table \"a_order_items\" (id serial primary key, \"a_order_id \" bigint references a_orders, \"name \" text, \"qty \" int, \"price \" numeric(10, 2)); \
         create index on a_order_items (\"a_order_id \"); \
         insert into a_orders (\"store_id \", \"status \", \"phone \", \"number \", \" note\") values (7, 'new', '+123', 'N5', 'hot'); \
         insert into a_order_items (\"a_order_id \", \"name \", \"qty \", \"price \") values (1, 'Soup', 2, 5)",
    )
    .await;
    asks_nothing(&proposed(&client, "a_orders").await);
    let (code, said) = vestnik(&database, &["attach", "--table", "a_orders"]);
    assert_eq!(code, 0, "{said}");
    for part in ["order #N5 of store 7", "+123", "hot", "2 x Soup", "attached"] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
}
