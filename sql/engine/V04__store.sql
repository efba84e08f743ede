-- What is known of a store beside its orders: how its money and clock read, when it is open, how long an order may wait
-- for an answer, and who could hear one now. A store without a row here has its panels, and nothing more: no Telegram,
-- no ladder of escalation.

create table vestnik.store (
    id             text        not null primary key check (octet_length(id) between 1 and 200),
    name           text,
    currency       text        not null default 'RUB' check (currency ~ '^[A-Z]{3}$'),
    -- The second check is the clock's own: a name that Postgres does not know raises, here rather than in a message.
    time_zone      text        not null default 'Europe/Moscow' check (timezone(time_zone, timestamp '2000-01-01') is not null),
    answer_seconds int         not null default 60 check (answer_seconds between 5 and 86400),
    webhook_url    text        check (webhook_url ~ '^https?://'),
    webhook_secret text        check (octet_length(webhook_secret) >= 16),   -- signs what is posted, so it cannot be hashed
    check ((webhook_url is null) = (webhook_secret is null)),
    created_at     timestamptz not null default now()
);

-- When a store is open, by its own clock. A day that closes at or before it opens goes on after midnight. A store
-- without rows has no hours, and is never missed.
create table vestnik.opening (
    store_id text     not null references vestnik.store (id) on delete cascade,
    weekday  smallint not null check (weekday between 1 and 7),   -- 1: Monday
    opens    time     not null,
    closes   time     not null,
    primary key (store_id, weekday, opens)
);

-- The nodes that are up. One that stops saying so is gone, with everything that it was the only one to know.
create table vestnik.node (
    id    text        not null primary key,
    until timestamptz not null
);

-- The stores that have a panel on a node which can ring: the tab is there, and its sound is on.
create table vestnik.presence (
    node_id  text not null references vestnik.node (id) on delete cascade,
    store_id text not null,
    primary key (node_id, store_id)
);
create index presence_store on vestnik.presence (store_id);

-- What somebody must hear of besides orders: a store is open and nobody could hear one.
create table vestnik.alarm (
    id         bigint      not null generated always as identity primary key,
    store_id   text        not null references vestnik.store (id) on delete cascade,
    raised_at  timestamptz not null default clock_timestamp(),
    cleared_at timestamptz,
    cleared_by text check (cleared_by in ('panel', 'closing'))
);
create unique index alarm_standing on vestnik.alarm (store_id) where cleared_at is null;

-- Since when an open store has had nobody: short absences, such as a page that is loaded again, are no alarm.
create table vestnik.unattended (
    store_id text        not null primary key references vestnik.store (id) on delete cascade,
    since    timestamptz not null default clock_timestamp()
);
