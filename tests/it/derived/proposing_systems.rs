//! The mapping that `attach` proposes for the tables of known systems, which a stranger attached without a mapping.

use super::attaching::vestnik;
use crate::support::db::Database;

/// The bookings of Cal.com, as its Prisma schema makes them.
const CAL: &str = r#"
    create table users (id serial primary key);
    create table "EventType" (id serial primary key);
    create table "DestinationCalendar" (id serial primary key);
    create type "BookingStatus" as enum ('cancelled', 'accepted', 'rejected', 'pending', 'awaiting_host');
    create table "Booking" (id serial primary key, uid text not null unique, "idempotencyKey" text unique, "userId" int references users,
        "userPrimaryEmail" text, "eventTypeId" int references "EventType", title text not null, description text, "customInputs" jsonb,
        responses jsonb, "startTime" timestamp(3) not null, "endTime" timestamp(3) not null, location text,
        "createdAt" timestamp(3) not null default current_timestamp, "updatedAt" timestamp(3),
        status "BookingStatus" not null default 'accepted', paid boolean not null default false,
        "destinationCalendarId" int references "DestinationCalendar", "cancellationReason" text, "rejectionReason" text,
        "reassignReason" text, "reassignById" int references users, "dynamicEventSlugRef" text, "dynamicGroupSlugRef" text,
        rescheduled boolean, "fromReschedule" text, "recurringEventId" text, "smsReminderNumber" text, "scheduledJobs" text[],
        metadata jsonb, "isRecorded" boolean not null default false, "iCalUID" text default '', "iCalSequence" int not null default 0,
        "instantMeetingToken" text, rating int, "ratingFeedback" text, "noShowHost" boolean default false, "oneTimePassword" uuid,
        "cancelledBy" text, "rescheduledBy" text, "creationSource" text, "assignmentReason" text, "tracking" text);
    create table "Attendee" (id serial primary key, name text not null, email text not null, "bookingId" int references "Booking");
    create table "Payment" (id serial primary key, "bookingId" int references "Booking", amount int not null);"#;

/// The orders of alf.io: a cart is a row with the word PENDING, until the moment of `validity`.
const ALF: &str = "
    create table event (id serial primary key);
    create table organization (id serial primary key);
    create table tickets_reservation (id char(36) primary key, validity timestamptz not null, status varchar(255) not null,
        full_name varchar(255), email_address varchar(255), billing_address varchar(2048), confirmation_ts timestamptz,
        payment_method varchar(255), user_language varchar(255), invoice_model text, event_id_fk int references event,
        organization_id_fk int references organization, creation_ts timestamptz, metadata jsonb not null default '{}',
        src_price_cts int not null default 0, final_price_cts int not null default 0, vat_cts int not null default 0,
        discount_cts int not null default 0, currency_code varchar(3));
    create table ticket (id serial primary key, status varchar(255), tickets_reservation_id char(36) references tickets_reservation);
    insert into tickets_reservation (id, validity, status, creation_ts, final_price_cts, currency_code) values
        ('a', now() + interval '25 minutes', 'PENDING', now(), 1250, 'CHF'), ('b', now(), 'COMPLETE', now(), 900, 'CHF'),
        ('c', now(), 'OFFLINE_PAYMENT', now(), 900, 'CHF')";

async fn with(tables: &str) -> Database {
    let database = Database::fresh().await;
    database.client().await.batch_execute(tables).await.unwrap();
    database
}

async fn proposed(database: &Database, arguments: &[&str]) -> String {
    let all = [&["attach", "--dry-run", "--table"], arguments].concat();
    vestnik(database, &all).await.1
}

#[track_caller]
fn says(said: &str, parts: &[&str]) {
    for part in parts {
        assert!(said.contains(part), "{part} is not in {said}");
    }
}

#[tokio::test]
async fn the_reason_of_a_rejection_goes_into_the_column_for_rejections() {
    let database = with(CAL).await;
    let said = proposed(&database, &["public.\"Booking\""]).await;
    says(
        &said,
        &[
            "\nreason = \"rejectionReason\"\n",
            "\n[extra]\n\"Cancellation reason\" = \"cancellationReason\"\n",
        ],
    );
    assert!(!said.contains("# ? an order that is rejected"), "{said}");

    let tables = "create table night_booking (id int primary key, venue_id int, cancel_reason text, reject_reason text, \
            status text check (status in ('pending', 'confirmed', 'done', 'cancelled'))); \
        create table day_booking (id int primary key, venue_id int, reason text, cancelled_reason text, \
            status text check (status in ('pending', 'confirmed', 'done', 'cancelled')))";
    database.client().await.batch_execute(tables).await.unwrap();
    let said = proposed(&database, &["night_booking"]).await;
    let asked = "\n[answer]\n# ? is the reason of a rejection written into reject_reason, or into cancel_reason? No word of status means rejected, so a \
        rejected order gets the word `cancelled`\nreason = \"reject_reason\"\n";
    says(&said, &[asked, "\"Cancel reason\" = \"cancel_reason\""]);
    let said = proposed(&database, &["day_booking"]).await;
    says(
        &said,
        &["\n[answer]\nreason = \"cancelled_reason\"\n", "\"Reason\" = \"reason\""],
    );
}

#[tokio::test]
async fn a_waiting_word_beside_a_column_of_an_expiry_is_asked_about() {
    let database = with(ALF).await;
    for kind in ["order", "booking"] {
        let said = proposed(&database, &["tickets_reservation", "--kind", kind]).await;
        let asked = format!(
            "\n# ? is an {kind} with the word PENDING still a cart? validity may say when it expires. If so, write the word under hidden, and under \
             pending the word of a placed {kind}: else every cart rings\npending = [\"PENDING\"]"
        );
        says(&said, &[&asked.replace("an booking", "a booking")]);
    }
    let columns = "id int primary key, shop_id int, status text, total int";
    for (number, (column, kind)) in [
        ("reserved_until", "timestamp"),
        ("\"expiresAt\"", "timestamp(3)"),
        ("\"ExpirationDate\"", "timestamptz"),
        ("expiry_ts", "bigint"),
        ("holduntil", "timestamptz"),
        ("locked_until", "timestamptz"),
        ("timeout_at", "timestamptz"),
        ("expires_on", "date"),
        ("\"validTill\"", "timestamptz"),
        ("\"действует_до\"", "timestamptz"),
    ]
    .into_iter()
    .enumerate()
    {
        let table = format!(
            "create table orders_{number} ({columns}, {column} {kind}); \
             insert into orders_{number} values (1, 7, 'created'), (2, 7, 'accepted'), (3, 7, 'rejected')"
        );
        database.client().await.batch_execute(&table).await.unwrap();
        let said = proposed(&database, &[&format!("orders_{number}")]).await;
        let asked = format!("the word created still a cart? {} may say", column.trim_matches('"'));
        says(&said, &[&asked]);
    }
    let tables = "create table placed_orders (id int primary key, shop_id int, status text, expires_at timestamptz); \
        insert into placed_orders values (1, 7, 'placed'), (2, 7, 'accepted'), (3, 7, 'rejected'); \
        create table card_orders (id int primary key, shop_id int, status text, card_expires_at timestamptz, expires_in text); \
        insert into card_orders values (1, 7, 'new'), (2, 7, 'accepted'), (3, 7, 'rejected'); \
        create table hi_orders (id int primary key, event_id int, status text, reserved_until timestamp); \
        insert into hi_orders values (1, 7, 'RESERVED'), (2, 7, 'COMPLETED'), (3, 7, 'CANCELLED')";
    database.client().await.batch_execute(tables).await.unwrap();
    for table in ["placed_orders", "card_orders"] {
        let said = proposed(&database, &[table]).await;
        assert!(!said.contains("cart?"), "{said}");
    }
    let said = proposed(&database, &["hi_orders"]).await;
    let asked = "# ? what does RESERVED mean? 1 rows have it. It may be the word of a cart, because reserved_until may say when such an order \
        expires: then write it under hidden\n";
    says(&said, &[asked]);
}

#[tokio::test]
async fn the_words_of_accepted_and_rejected_orders_are_asked_for_beside_an_open_word() {
    let tables = "create table meal_orders (id int primary key, store_id int, status text); \
        insert into meal_orders values (1, 7, 'new'), (2, 7, 'OFFLINE_PAYMENT'); \
        create table pay_orders (id int primary key, store_id int, status text check (status in ('new', 'OFFLINE_PAYMENT', 'STUCK')))";
    let database = with(tables).await;
    for table in ["meal_orders", "pay_orders"] {
        let said = proposed(&database, &[table]).await;
        says(
            &said,
            &[
                "# ? what does OFFLINE_PAYMENT mean?",
                "# ? which word does an order get that is accepted?",
                "# ? which word does an order get that is rejected?",
            ],
        );
    }
}

#[tokio::test]
async fn a_dry_run_with_a_mapping_says_what_source_check_says() {
    let database = with(
        "create table meal_orders (id int primary key, store_id int, status text, total numeric(10, 2)); \
        insert into meal_orders values (1, 7, 'new', 5)",
    )
    .await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let mapping = "table = 'public.meal_orders'\nkind = 'order'\nkey = 'id'\nstore = 'store_id'\n[status]\ncolumn = 'status'\npending = ['new']\n\
        [fields]\ntotal = 'total'\n";
    std::fs::write(file.path(), mapping).unwrap();
    for arguments in [
        &["source", "check", path][..],
        &["attach", "--map", path, "--dry-run"][..],
        &["attach", "--map", path][..],
    ] {
        let (code, said) = vestnik(&database, arguments).await;
        assert_eq!(code, Some(0), "{said}");
        for line in [
            "status.preparing: no word says it: nobody can accept an order from a panel",
            "status.rejected: no word says it, nor that an order is cancelled: nobody can reject one from a panel",
            "note: the mapping names no currency, so amounts are in the currency of the store (`vestnik store set`), and in RUB where the store has none",
        ] {
            assert_eq!(
                said.matches(line).count(),
                1,
                "{arguments:?}: {line} is not once in {said}"
            );
        }
    }
}

#[tokio::test]
async fn the_total_of_alf_io_is_found_with_its_currency() {
    let database = with(ALF).await;
    let said = proposed(&database, &["tickets_reservation", "--kind", "order"]).await;
    says(
        &said,
        &[
            "total = { column = \"final_price_cts\", unit = \"minor\", currency_column = \"currency_code\" }",
            "created_at = \"creation_ts\"",
            "# a guess to confirm: organization_id_fk is the store whose people receive the order\nstore = \"organization_id_fk\"",
            "event_id_fk",
            "metadata",
        ],
    );
}

#[tokio::test]
async fn every_column_that_is_not_used_is_listed() {
    let many: String = (1..=60).map(|number| format!(", more_{number} boolean")).collect();
    let tables = format!(
        "create table meal_orders (id int primary key, store_id int, status text default 'pending', first_name text, full_name text, \
            currency_code text, metadata jsonb{many})"
    );
    let database = with(&format!("{tables};{CAL}")).await;
    let said = proposed(&database, &["meal_orders"]).await;
    let (_, list) = said.split_once("# Not shown to anybody: ").unwrap();
    let list = list.replace("\n#", "");
    for name in ["first_name", "currency_code", "metadata", "more_1", "more_60"] {
        assert!(list.contains(name), "{name} is not in {list}");
    }
    let said = proposed(&database, &["public.\"Booking\""]).await;
    let names = "select attname::text from pg_attribute where attrelid = '\"Booking\"'::regclass and attnum > 0";
    for row in database.client().await.query(names, &[]).await.unwrap() {
        let name: String = row.get(0);
        assert!(said.contains(&name), "{name} is not in {said}");
    }
}

#[tokio::test]
async fn names_of_columns_that_other_systems_use_are_known() {
    let database = with(
        "create table sales_order (name text primary key, branch text, status text default 'pending', customer_name text, contact_mobile text, \
            transaction_date date, delivery_date timestamp, creation timestamp, modified timestamp, currency text, grand_total numeric(21, 9)); \
        create table sales_orders (id int primary key, branch_id int, status text default 'pending', mobile_no text, final_total numeric(10, 2), \
            create_time timestamp, modified_on timestamp); \
        create table shop_orders (id int primary key, branch_id int, status text default 'pending', customer_mobile text, creation_time timestamp); \
        create table food_orders (id int primary key, branch_id int, status text default 'pending', phone_no text, created_ts bigint); \
        create table cake_orders (id int primary key, branch_id int, status text default 'pending', delivery_date date, created_time timestamp); \
        create table tea_orders (id int primary key, branch_id int, status text default 'pending', transaction_date timestamp); \
        create table table_bookings (id int primary key, venue_id int, status text default 'pending', booking_date date, start_time time)",
    )
    .await;
    for (table, lines) in [
        (
            "sales_order",
            &[
                "phone = \"contact_mobile\"",
                "due_at = \"delivery_date\"",
                "created_at = \"creation\"",
                "total = { column = \"grand_total\"",
            ][..],
        ),
        (
            "sales_orders",
            &[
                "phone = \"mobile_no\"",
                "total = { column = \"final_total\", unit = \"major\" }",
                "created_at = \"create_time\"",
                "updated_at = \"modified_on\"",
            ],
        ),
        (
            "shop_orders",
            &["phone = \"customer_mobile\"", "created_at = \"creation_time\""],
        ),
        ("food_orders", &["phone = \"phone_no\"", "created_at = \"created_ts\""]),
        ("tea_orders", &["created_at = \"transaction_date\""]),
        (
            "table_bookings",
            &["\"Start time\" = \"start_time\"\n\"Booking date\" = \"booking_date\""],
        ),
        // A date without a time would be midnight, and the order late all day.
        (
            "cake_orders",
            &["created_at = \"created_time\"", "\"Delivery date\" = \"delivery_date\""],
        ),
    ] {
        says(&proposed(&database, &[table]).await, lines);
    }
}

#[tokio::test]
async fn items_are_found_by_what_a_json_column_holds() {
    let database = with(
        &r#"create table plain_orders (id int primary key, shop_id int, status text default 'pending' WORDS, tax_lines jsonb, order_itself jsonb);
        insert into plain_orders values
            (3, 7, 'pending', '[{"title": "VAT", "amount": 5}]', '[{"name": "Soup", "qty": 2}, {"name": "Tea", "qty": 1}]'),
            (2, 7, 'pending', '[{"title": "VAT", "amount": 5}]', null), (1, 7, 'pending', null, '[]');
        create table deep_orders (id int primary key, shop_id int, status text default 'pending' WORDS, meta json, order_data json);
        insert into deep_orders values (1, 7, 'pending', '{"width": 10, "height": 5}',
            '{"client": {"name": "Ann"}, "content": [{"product": {"name": "Soup"}, "Quantity": "2"}]}');
        create table other_orders (id int primary key, shop_id int, status text default 'pending' WORDS, track jsonb, people jsonb, numbers jsonb);
        insert into other_orders values (1, 7, 'pending', '[{"name": "opened", "at": 5}]', '[{"name": "Ann", "age": 5}]', '[1, 2]');
        create table lined_orders (id int primary key, shop_id int, status text default 'pending' WORDS, contents jsonb);
        create table lined_orders_lines (id int primary key, order_id int references lined_orders, name text, quantity int);
        insert into lined_orders values (1, 7, 'pending', '[{"name": "Soup", "qty": 2}]')"#
            .replace("WORDS", "check (status in ('pending', 'accepted', 'rejected'))"),
    )
    .await;
    let said = proposed(&database, &["plain_orders"]).await;
    let guess = "\n[items]\n# a guess to confirm: order_itself has the items of the orders: the newest values are lists with name and qty\n\
        column = \"order_itself\"\n";
    says(&said, &[guess, "2 x Soup", "1 x Tea"]);
    let said = proposed(&database, &["deep_orders"]).await;
    says(
        &said,
        &["column = \"order_data.content\"\nquantity = \"Quantity\"\n", "2 x Soup"],
    );
    let said = proposed(&database, &["other_orders"]).await;
    assert!(
        !said.contains("\n[items]\n") && !said.contains("has the items"),
        "{said}"
    );
    let said = proposed(&database, &["lined_orders"]).await;
    says(&said, &["table = \"public.lined_orders_lines\""]);
}

#[tokio::test]
async fn a_total_without_a_currency_is_said_in_the_proposal_and_by_attach() {
    let database = with(
        "create table meal_orders (id int primary key, store_id int, status text default 'pending', total numeric(10, 2)); \
        create table line_orders (id int primary key, store_id int, status text default 'pending'); \
        create table line_orders_items (id int primary key, order_id int references line_orders, name text, quantity int, price int); \
        create table euro_orders (id int primary key, store_id int, status text default 'pending', total numeric(10, 2), currency text); \
        create table odd_orders (id int primary key, store_id int, status text default 'zz', total numeric(10, 2))",
    )
    .await;
    let comment = "# no column names the currency: amounts are in the currency of the store (`vestnik store set`), and in RUB where the store has \
        none. Write `currency = \"EUR\"` above [status] where all amounts are in euros\n";
    let note = "note: the mapping names no currency, so amounts are in the currency of the store (`vestnik store set`), and in RUB";
    let said = proposed(&database, &["meal_orders"]).await;
    says(&said, &[&format!("{comment}total = "), note]);
    let said = proposed(&database, &["line_orders"]).await;
    says(&said, &[&format!("{comment}price = "), note]);
    let said = proposed(&database, &["odd_orders"]).await;
    says(&said, &[comment, note]);
    let said = proposed(&database, &["euro_orders"]).await;
    assert!(
        !said.contains("no currency") && !said.contains("no column names"),
        "{said}"
    );
}

#[tokio::test]
async fn tables_that_refer_to_the_orders_and_are_not_read_are_named() {
    let (alf, cal) = (with(ALF).await, with(CAL).await);
    for (database, arguments, tables) in [
        (&alf, &["tickets_reservation", "--kind", "order"][..], "public.ticket"),
        (&cal, &["public.\"Booking\""], "public.\"Attendee\", public.\"Payment\""),
    ] {
        let said = proposed(database, arguments).await;
        let hint =
            format!("Tables that refer to this one: {tables}: read them with [derived], docs/derived-sources.md\n");
        says(&said, &[&format!("\n# {hint}"), &format!("note: {hint}")]);
    }
    let database = with("create table meal_orders (id int primary key, store_id int, status text default 'pending'); \
        create table meal_orders_items (id int primary key, order_id int references meal_orders, name text, quantity int)")
    .await;
    let said = proposed(&database, &["meal_orders"]).await;
    assert!(!said.contains("refer to this one"), "{said}");
}

#[tokio::test]
async fn a_user_with_a_foreign_key_may_be_the_store_of_a_booking() {
    let database = with(CAL).await;
    let said = proposed(&database, &["public.\"Booking\""]).await;
    let leads = "Perhaps one of these, with the table to which it leads: eventTypeId (public.\"EventType\"), \
        destinationCalendarId (public.\"DestinationCalendar\"), reassignById (public.users), userId (public.users).";
    says(&said, &[leads]);
}

#[tokio::test]
async fn a_default_that_stores_utc_as_local_time_is_named_with_its_remedy() {
    let database = with(
        "create table meal_orders (id int primary key, store_id int, status text default 'pending' \
            check (status in ('pending', 'accepted', 'rejected')), created_at timestamptz default timezone('utc', now()), due_at timestamptz default now()); \
        create table good_orders (id int primary key, store_id int, status text default 'pending' \
            check (status in ('pending', 'accepted', 'rejected')), created_at timestamptz default now(), \
            due_at timestamptz default timezone('utc', timezone('utc', now())))",
    )
    .await;
    let warning = "warning: created_at: its default (timezone('utc'::text, now())) stores a wrong time, because the database's TimeZone is Europe/Moscow: \
        alter table public.meal_orders alter column created_at set default now()";
    let said = proposed(&database, &["meal_orders"]).await;
    assert!(!said.contains("stores a wrong time"), "the TimeZone is UTC: {said}");
    let name =
        "do $$ begin execute format('alter database %I set timezone to ''Europe/Moscow''', current_database()); end $$";
    database.client().await.batch_execute(name).await.unwrap();
    says(&proposed(&database, &["meal_orders"]).await, &[warning]);
    let said = proposed(&database, &["good_orders"]).await;
    assert!(!said.contains("stores a wrong time"), "{said}");
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let head = "table = 'public.meal_orders'\nkind = 'order'\nkey = 'id'\n";
    for mapping in [
        "store = 'store_id'\n[status]\ncolumn = 'status'\npending = ['pending']\n[fields]\ncreated_at = 'created_at'\n",
        "[derived]\nstore = 'o.store_id'\nstatus = 'o.status'\ncreated_at = 'o.created_at'\n",
    ] {
        std::fs::write(file.path(), format!("{head}{mapping}")).unwrap();
        says(&vestnik(&database, &["source", "check", path]).await.1, &[warning]);
    }
}

/// The orders of ERPNext, as Frappe makes them on PostgreSQL: no foreign key, and columns of the framework with `_`.
const FRAPPE: &str = r#"
    create table "tabSales Order" (name varchar(140) primary key, creation timestamp(6), modified timestamp(6), docstatus smallint not null default 0,
        company varchar(140), customer_name varchar(140), contact_mobile varchar(140), status varchar(140), currency varchar(140),
        total numeric(21,9) not null default 0, grand_total numeric(21,9) not null default 0, _comments text, _user_tags text);
    create table "tabSales Order Item" (name varchar(140) primary key, parent varchar(140), parenttype varchar(140), item_name varchar(140),
        qty numeric(21,9) not null default 0, rate numeric(21,9) not null default 0, amount numeric(21,9) not null default 0)"#;

#[tokio::test]
async fn frappes_orders_are_proposed_with_their_items_and_without_the_frameworks_own_columns() {
    let database = with(FRAPPE).await;
    let said = proposed(&database, &["public.\"tabSales Order\""]).await;
    let parts = [
        "\ntotal = { column = \"grand_total\"",
        "\ncreated_at = \"creation\"\n",
        "\ntable = 'public.\"tabSales Order Item\"'\norder_key = \"parent\"\n",
        "name = \"item_name\"\nquantity = \"qty\"\n",
        "_comments",
    ];
    says(&said, &parts);
    assert!(!said.contains("comment = "), "{said}");
}

#[tokio::test]
async fn a_customers_text_in_json_and_a_strange_word_write_no_line_of_the_proposal() {
    let database = with(
        "create table lunch_orders (id int primary key, store_id int, status text, payload jsonb);
         insert into lunch_orders select n, 7, 'new', jsonb_build_array(jsonb_build_object(
             E'title\\n[details]\\nquery = \\'\\'\\'delete from orders\\'\\'\\'\\nx #', 'Soup', 'qty', 2)) from generate_series(1, 5) n;
         insert into lunch_orders values (6, 7, E'odd\\nkey = \"status\"', null)",
    )
    .await;
    let said = proposed(&database, &["lunch_orders"]).await;
    says(
        &said,
        &["Not shown to anybody: payload", "what does odd key = \"status\" mean?"],
    );
    assert!(
        !said.contains("[details]") && !said.contains("\nkey = \"status\""),
        "{said}"
    );
}

#[tokio::test]
async fn the_end_of_a_reservation_is_no_expiry_and_discounts_are_no_items() {
    let database = with(
        "create table reservations (id int primary key, restaurant_id int, guest_name text, reservation_time timestamptz,
             reservation_end timestamptz, status text check (status in ('pending', 'confirmed', 'rejected', 'completed', 'cancelled')));
         create table lunch_orders (id int primary key, store_id int, status text default 'new', discounts jsonb);
         create table lunch_order_items (id int primary key, lunch_order_id int references lunch_orders, product_id int, quantity int);
         insert into lunch_orders (id, store_id, discounts) values (1, 7, '[{\"title\": \"Lunch deal\", \"count\": 1}]'), (2, 7, '[{\"title\": \"Lunch deal\", \"count\": 1}]')",
    )
    .await;
    let said = proposed(&database, &["reservations"]).await;
    assert!(!said.contains("still a cart"), "{said}");
    let said = proposed(&database, &["lunch_orders"]).await;
    says(&said, &["lunch_order_items has no name of the dish"]);
}
