//! The mapping that `attach` proposes for tables that it does not know, and the questions that `attach` asks.

use super::attaching::vestnik;
use crate::support::db::Database;

#[tokio::test]
async fn a_weak_guess_of_a_proposal_is_asked_or_marked() {
    let database = Database::fresh().await;
    let tables = "create table sale_order (id serial primary key, name text not null, partner_id int not null, company_id int not null, \
            state text not null default 'draft', amount_total numeric(10, 2)); \
        create table sale_order_line (id serial primary key, order_id int references sale_order, name text, product_uom_qty numeric, price_unit numeric); \
        create table meeting_booking (id serial primary key, location text, status text default 'pending'); \
        create table table_booking (id serial primary key, venue_id int, name text, phone text, status text default 'pending'); \
        insert into sale_order (name, partner_id, company_id, state) values ('S0001', 1, 1, 'new'), ('S0002', 2, 1, 'done'); \
        insert into meeting_booking (location) values ('Zoom')";
    database.client().await.batch_execute(tables).await.unwrap();
    let propose = async |table: &str| vestnik(&database, &["attach", "--dry-run", "--table", table]).await.1;
    let said = propose("sale_order").await;
    for line in [
        "# a guess to confirm: company_id is the store whose people receive the order\nstore = \"company_id\"",
        "# ? is `name` the customer's name, or the order's number or title? The customer may stand behind partner_id",
        "quantity = \"product_uom_qty\"",
        "docs/derived-sources.md",
    ] {
        assert!(said.contains(line), "{line} is not in {said}");
    }
    let said = propose("meeting_booking").await;
    let asked = "# ? is location the store that prepares the order, or a place where the customer is?";
    assert!(said.contains(asked), "{said}");
    let tables = "create table rooms (id serial primary key); create table people (id serial primary key); \
        create table reservations (id serial primary key, room_id int references rooms, user_id int references people, status text default 'pending')";
    database.client().await.batch_execute(tables).await.unwrap();
    let said = propose("reservations").await;
    let asked = "# ? which column says whose order it is? Perhaps one of these, with the table to which it leads: room_id (public.rooms), user_id (public.people). Where";
    assert!(said.contains(asked), "{said}");
    let said = propose("table_booking").await;
    assert!(
        said.contains("# a guess to confirm: `name` is the customer's name\n"),
        "{said}"
    );
}

#[tokio::test]
async fn what_stands_in_tables_without_foreign_keys_is_proposed_and_marked() {
    let database = Database::fresh().await;
    let tables = r#"create schema tasty;
        create table tasty.orders (order_id bigserial primary key, location_id bigint, first_name text, last_name text, telephone text, cart text,
            status_id bigint, processed boolean, order_total numeric(15, 4), created_at timestamp);
        create table tasty.statuses (status_id bigserial primary key, status_name text, status_for text);
        insert into tasty.statuses (status_name, status_for) values ('Received', 'order'), ('Pending', 'order'), ('Preparation', 'order'),
            ('Delivery', 'order'), ('Completed', 'order'), ('Confirmed', 'reserve'), ('Canceled', 'order');
        create table tasty.order_menu_options (order_option_id bigserial primary key, order_id bigint, order_option_name text, quantity int);
        create table tasty.order_menus (order_menu_id bigserial primary key, order_id bigint, menu_id bigint, name text, quantity int,
            price numeric(15, 4), comment text);
        insert into tasty.orders (location_id, status_id, cart) values (1, 1, 'O:8:"stdClass":0:{}');
        create schema nop;
        create table nop."Order" ("Id" serial primary key, "StoreId" int, "CustomOrderNumber" text, "OrderStatusId" int, "OrderTotal" numeric(18, 4));
        insert into nop."Order" ("StoreId", "OrderStatusId") values (1, 10);
        create table tickets_orders (id bigserial primary key, event_id int, short_id text, public_id text, status text,
            total_before_additions numeric(14, 2), total_tax numeric(14, 2), total_gross numeric(14, 2))"#;
    database.client().await.batch_execute(tables).await.unwrap();
    let propose = async |table: &str| vestnik(&database, &["attach", "--dry-run", "--table", table]).await.1;
    let said = propose("tasty.orders").await;
    for part in [
        "column = \"status_id\"\npending = [1, 2]   # the first word is the one written back\npreparing = [3]\ncompleted = [5]",
        "cancelled = [7]\n# ? what does 4 (Delivery) mean? 0 rows have it\n",
        "# a guess to confirm: tasty.statuses, status_name has the words of status_id: 1 is Received, 2 is Pending, 3 is Preparation, \
         4 is Delivery, 5 is Completed, 7 is Canceled\n",
        "[items]\n# a guess to confirm: tasty.order_menus has the items of the orders, by its column order_id\ntable = \"tasty.order_menus\"\n\
         order_key = \"order_id\"\nname = \"name\"\nquantity = \"quantity\"\n",
    ] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    let said = propose("nop.\"Order\"").await;
    for part in [
        "number = \"CustomOrderNumber\"",
        "column = \"OrderStatusId\"",
        "# ? what does 10 mean? 1 rows have it",
        "column = \"OrderTotal\"",
    ] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    let said = propose("tickets_orders").await;
    for part in [
        "number = \"public_id\"",
        "total = { column = \"total_gross\", unit = \"major\" }",
    ] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
}

#[tokio::test]
async fn a_word_with_which_orders_begin_is_not_taken_for_their_end_without_a_question() {
    let database = Database::fresh().await;
    let tables = "create table tickets_orders (id serial primary key, event_id int not null, status varchar, \
            created_at timestamp default now(), updated_at timestamp default now() + interval '5 minutes'); \
        insert into tickets_orders (event_id, status) values (1, 'COMPLETED'), (1, 'COMPLETED'), (1, 'CANCELLED'); \
        create table paid_orders (id serial primary key, shop_id int not null, status text check (status in ('pending', 'preparing', 'done', 'cancelled')), \
            created_at timestamptz default now(), updated_at timestamptz default now()); \
        insert into paid_orders (shop_id, status) values (1, 'done'), (1, 'done'), (1, 'done'), (1, 'pending'); \
        create table night_orders (id serial primary key, shop_id int not null, status text check (status in ('pending', 'preparing', 'done', 'cancelled')), \
            created_at timestamptz default now() - interval '20 minutes', updated_at timestamptz default now()); \
        insert into night_orders (shop_id, status) values (1, 'done'), (1, 'done')";
    database.client().await.batch_execute(tables).await.unwrap();
    let propose = async |table: &str| vestnik(&database, &["attach", "--dry-run", "--table", table]).await.1;
    let never = "# an order that begins with one of these never rings";
    let remedy = "If so, write it under pending: an order that begins with a word of completed never rings\n";
    for (table, evidence) in [
        (
            "tickets_orders",
            "# ? are orders new to the store as COMPLETED? 2 rows have it, and no row waits for an answer or is prepared. ",
        ),
        (
            "paid_orders",
            "# ? are orders new to the store as done? 3 of the newest 3 had no later change than 60 s after their creation. ",
        ),
    ] {
        let said = propose(table).await;
        assert!(said.contains(&format!("{evidence}{remedy}")), "{said}");
        assert!(table != "paid_orders" || said.contains(never), "{said}");
    }
    let said = propose("night_orders").await;
    assert!(said.contains(&format!("completed = [\"done\"]   {never}\n")), "{said}");
    assert!(!said.contains("# ?"), "{said}");
}

#[tokio::test]
async fn a_dry_run_with_questions_prints_the_proposal_and_writes_no_file() {
    let database = Database::fresh().await;
    let table = "create table meals (id int primary key, place int, stage text); insert into meals values (1, 7, 'zz')";
    database.client().await.batch_execute(table).await.unwrap();
    let (code, said) = vestnik(&database, &["attach", "--dry-run", "--table", "meals"]).await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("table = ") && said.contains("# ? "), "{said}");
    assert!(!said.contains("Answer it in meals"), "{said}");
}

#[tokio::test]
async fn a_mapping_with_an_open_question_is_refused_with_the_questions_line() {
    let database = Database::fresh().await;
    let table =
        "create table meals (id int primary key, place int, stage text); insert into meals values (1, 7, 'pending')";
    database.client().await.batch_execute(table).await.unwrap();
    let file = std::env::temp_dir().join(format!("vestnik-open-question-{}.toml", std::process::id()));
    let mapping = "table = \"public.meals\"\nkind = \"order\"\nkey = \"id\"\n# ? is place the store?\nstore = \"place\"\n\n[status]\ncolumn = \"stage\"\npending = [\"pending\"]\n";
    std::fs::write(&file, mapping).unwrap();
    let attach = ["attach", "--map", file.to_str().unwrap()];
    let (code, said) = vestnik(&database, &attach).await;
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("answer each question and delete its line") && said.contains("line 4: is place the store?"),
        "{said}"
    );
    let triggers = "select count(*) from pg_trigger where tgrelid = 'meals'::regclass";
    let count: i64 = database.client().await.query_one(triggers, &[]).await.unwrap().get(0);
    assert_eq!(count, 0, "nothing was changed");

    std::fs::write(&file, mapping.replace("# ? is place the store?\n", "")).unwrap();
    let (code, said) = vestnik(&database, &attach).await;
    std::fs::remove_file(&file).unwrap();
    assert_eq!(code, Some(0), "{said}");
}

#[tokio::test]
async fn unpaid_orders_that_would_ring_are_asked_about_or_marked() {
    let database = Database::fresh().await;
    let columns = "id int primary key, store_id int, state text check (state in ('new', 'accepted', 'done', 'declined', 'cancelled'))";
    let tables = format!(
        "create table paid_orders ({columns}, payment_state text); \
         insert into paid_orders select n, 7, 'new', case when n % 2 = 0 then 'paid' else 'awaiting_payment' end from generate_series(1, 8) n; \
         create table cash_orders ({columns}, \"paymentStatus\" text); \
         insert into cash_orders select n, 7, 'new', 'pending' from generate_series(1, 8) n; \
         create table empty_orders ({columns}, payment_status text); \
         create table sure_orders ({columns}, payment_status text); \
         insert into sure_orders select n, 7, 'new', 'paid' from generate_series(1, 8) n"
    );
    database.client().await.batch_execute(&tables).await.unwrap();
    let propose = async |table: &str| vestnik(&database, &["attach", "--dry-run", "--table", table]).await;
    let (code, said) = propose("paid_orders").await;
    assert_eq!(code, Some(2), "{said}");
    let asked = "# ? do orders ring before they are paid? payment_state stands beside state: of the newest 8 orders with a word of pending, 4 have \
        `awaiting_payment` and 4 `paid`. A section [derived] hides an order until it is paid (docs/derived-sources.md)";
    assert!(said.contains(asked), "{said}");
    for table in ["cash_orders", "empty_orders"] {
        let (code, said) = propose(table).await;
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("a guess to confirm: an order rings whatever "), "{said}");
    }
    let (code, said) = propose("sure_orders").await;
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains("rings whatever"), "{said}");
}

#[tokio::test]
async fn the_question_for_the_word_of_an_accepted_order_names_the_way_without_one() {
    let database = Database::fresh().await;
    let table = "create table meal_orders (id int primary key, store_id int, state text); insert into meal_orders values (1, 7, 'new')";
    database.client().await.batch_execute(table).await.unwrap();
    let (code, said) = vestnik(&database, &["attach", "--dry-run", "--table", "meal_orders"]).await;
    assert_eq!(code, Some(2), "{said}");
    let derived = "which word does an order get that is accepted? Without one nobody can accept it from a panel. If the shop has none, \
        a section [derived] keeps the answer in Vestnik (docs/derived-sources.md)";
    assert!(said.contains(derived), "{said}");
}

#[tokio::test]
async fn a_column_with_a_foreign_key_is_not_proposed_as_a_name() {
    let database = Database::fresh().await;
    let tables = "create table customers (id text primary key, name text); create table products (id text primary key, name text); \
        create table tickets (id text primary key, shop_id text, status int, customer text references customers); \
        create table ticketlines (ticket text references tickets, line int, product text references products, units numeric, price numeric, \
            primary key (ticket, line)); \
        insert into customers values ('c1', 'Ann'); insert into products values ('p1', 'Burger'); \
        insert into tickets values ('t1', '7', 0, 'c1'); insert into ticketlines values ('t1', 1, 'p1', 1, 5)";
    let client = database.client().await;
    client.batch_execute(tables).await.unwrap();
    let propose = async || {
        vestnik(
            &database,
            &["attach", "--dry-run", "--table", "tickets", "--kind", "order"],
        )
        .await
        .1
    };
    let said = propose().await;
    for part in [
        "public.ticketlines has no name of the dish: product is the key of a row of public.products",
        "# Not shown to anybody: customer\n# A section [derived] shows what stands behind such a key: docs/derived-sources.md\n",
    ] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    for wrong in ["customer_name", "name = \"product\""] {
        assert!(!said.contains(wrong), "{said}");
    }
    let plain = "alter table tickets drop constraint tickets_customer_fkey; alter table ticketlines drop constraint ticketlines_product_fkey";
    client.batch_execute(plain).await.unwrap();
    let said = propose().await;
    assert!(
        said.contains("customer_name = \"customer\"") && said.contains("name = \"product\""),
        "{said}"
    );
}

#[tokio::test]
async fn a_column_that_holds_nothing_in_any_row_is_the_last_choice_for_the_number_and_a_guess() {
    let database = Database::fresh().await;
    let columns = "id int primary key, shop_id int, state text, reference text";
    let tables = format!(
        "create table bare_orders ({columns}); insert into bare_orders values (1, 7, 'new'), (2, 7, 'new'); \
         create table other_orders ({columns}, ticket_no text); insert into other_orders values (1, 7, 'new', null, 'T1'); \
         create table new_orders ({columns})"
    );
    database.client().await.batch_execute(&tables).await.unwrap();
    let propose = async |table: &str| vestnik(&database, &["attach", "--dry-run", "--table", table]).await.1;
    let said = propose("bare_orders").await;
    let guess = "# a guess to confirm: reference is the number: no row has a value in it, and an order without one is shown by its key\nnumber = ";
    assert!(said.contains(guess), "{said}");
    assert!(propose("other_orders").await.contains("number = \"ticket_no\""));
    let said = propose("new_orders").await;
    assert!(
        said.contains("number = \"reference\"") && !said.contains("is the number"),
        "a table without rows says nothing: {said}"
    );
}

#[tokio::test]
async fn a_column_that_cannot_hold_the_key_of_a_store_is_not_asked_about() {
    let database = Database::fresh().await;
    let tables = "create table spaces (id text primary key); create table users (id text primary key); \
        create table json_booking (id serial primary key, location jsonb, user_id text references users, space_id text references spaces, \
            status text default 'pending'); \
        create table text_booking (id serial primary key, location text, space_id text references spaces, status text default 'pending'); \
        create table dated_booking (id serial primary key, venue timestamptz, shop boolean, space_id text references spaces, status text default 'pending')";
    database.client().await.batch_execute(tables).await.unwrap();
    let propose = async |table: &str| vestnik(&database, &["attach", "--dry-run", "--table", table]).await.1;
    let leads = "Perhaps one of these, with the table to which it leads: space_id (public.spaces)";
    for (table, user) in [("json_booking", ", user_id (public.users)"), ("dated_booking", "")] {
        let said = propose(table).await;
        let asked = format!("# ? which column says whose order it is? {leads}{user}.");
        assert!(said.contains(&asked) && said.contains("\n# store = \n"), "{said}");
    }
    let said = propose("text_booking").await;
    let asked = format!(
        "is location the store that prepares the order, or a place where the customer is? {leads}. Where there is one store only"
    );
    assert!(said.contains(&asked), "{said}");
}
