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
