-- Durable sends. An event is planned into one row a chat, from a stored position, so that downtime loses nothing; any
-- node sends what is planned. What Telegram allows is counted here, for all nodes together.

-- Where planning stands: a cursor, as clients keep one. Empty: at the beginning.
create table vestnik.plan (
    sole   boolean not null default true primary key check (sole),
    cursor text    not null default ''
);
insert into vestnik.plan default values;

-- A chat of Telegram. One send at a time is on its way to it, which is what keeps its order: `fence` numbers them, and
-- who holds an older number than the row's settles nothing.
create table vestnik.chat (
    id            bigint        not null generated always as identity primary key,
    telegram_id   bigint        not null unique,
    title         text,
    waiting       boolean       not null default false,      -- there may be something to send
    next_at       timestamptz   not null default now(),      -- nothing is sent before
    recent        timestamptz[] not null default '{}',       -- when the newest sends ended, the oldest first
    failures      int           not null default 0,          -- in a row
    fence         bigint        not null default 0,
    leased_until  timestamptz   not null default '-infinity',
    disabled_at   timestamptz,
    disabled_why  text,
    tries         timestamptz[] not null default '{}',       -- codes that were tried, the newest few
    first_seen_at timestamptz   not null default now()
);
create index chat_waiting on vestnik.chat (next_at) where waiting;

-- The chats of a store, and what each of them is for.
create table vestnik.link (
    chat_id     bigint      not null references vestnik.chat (id) on delete cascade,
    store_id    text        not null references vestnik.store (id) on delete cascade,
    mode        text        not null check (mode in ('mirror', 'fallback', 'manager')),
    language    text        not null,
    muted_until timestamptz not null default '-infinity',
    linked_at   timestamptz not null default clock_timestamp(),
    linked_by   bigint      not null,         -- the person's number at Telegram
    primary key (chat_id, store_id)
);
create index link_store on vestnik.link (store_id);

-- Codes that link a chat, as their SHA-256; each opens once.
create table vestnik.link_code (
    hash       bytea       not null primary key check (octet_length(hash) = 32),
    store_id   text        not null references vestnik.store (id) on delete cascade,
    mode       text        not null check (mode in ('mirror', 'fallback', 'manager')),
    language   text        not null,
    expires_at timestamptz not null,
    used_at    timestamptz
);

-- The bot: who polls for the whole fleet, and how far; and why it stopped, for the token that it stopped with.
create table vestnik.bot (
    sole         boolean     not null default true primary key check (sole),
    poller       text,
    polls_until  timestamptz not null default '-infinity',
    next_update  bigint      not null default 0,
    stopped_at   timestamptz,
    stopped_why  text,
    stopped_hash bytea                              -- SHA-256 of that token
);
insert into vestnik.bot default values;

-- What a bot may have on its way or behind it within a second: a send takes a slot before it begins, and the slot is
-- free again a second after it ended. So no second sees more sends than there are slots, whoever sends.
create table vestnik.bot_slot (
    slot    int         not null primary key,
    free_at timestamptz not null default '-infinity'
);
insert into vestnik.bot_slot (slot) select generate_series(1, 30);

-- A durable send: an event, an alarm, or an answer to somebody's command.
create table vestnik.delivery (
    id           bigint      not null generated always as identity primary key,
    chat_id      bigint      not null references vestnik.chat (id) on delete cascade,
    store_id     text,
    event_id     bigint      references vestnik.event (id) on delete cascade,
    alarm_id     bigint      references vestnik.alarm (id) on delete cascade,
    alarm_ends   boolean,                           -- the all-clear
    words        text,                              -- an answer to a command, ready to be sent
    subject      text,                              -- 'order 123': what its own message is about
    urgent       boolean     not null,              -- overtakes what is not
    stale        boolean     not null default false,-- too old when it was planned: for a digest
    state        text        not null default 'pending' check (state in ('pending', 'sending', 'retrying', 'sent', 'dead')),
    reason       text,                              -- why it is retrying, or dead
    planned_at   timestamptz not null default clock_timestamp(),
    attempts     int         not null default 0,
    fence        bigint,                            -- the chat's, at its claim
    settled_at   timestamptz,
    check (num_nonnulls(event_id, alarm_id, words) = 1)
);
create unique index delivery_event on vestnik.delivery (event_id, chat_id);
create unique index delivery_alarm on vestnik.delivery (alarm_id, chat_id, alarm_ends);
create index delivery_open on vestnik.delivery (chat_id, urgent desc, id) where state in ('pending', 'sending', 'retrying');
create index delivery_subject on vestnik.delivery (chat_id, subject) where state in ('pending', 'sending', 'retrying');

-- The message of an order in a chat: a change of its status edits it.
create table vestnik.message (
    chat_id    bigint      not null references vestnik.chat (id) on delete cascade,
    store_id   text        not null,
    subject    text        not null,
    event_id   bigint      not null references vestnik.event (id) on delete cascade,  -- the event that the message tells
    message_id int         not null,
    sent_at    timestamptz not null default clock_timestamp(),
    primary key (chat_id, store_id, subject)
);

-- The ladder of an order that nobody answers for: which rung it stands on, and when it climbs.
create table vestnik.escalation (
    event_id bigint      not null primary key references vestnik.event (id) on delete cascade,
    store_id text        not null,
    subject  text        not null,
    rung     smallint    not null default 0,        -- 1: panels rung again, 2: fallback chats, 3: manager, 4: webhook
    due_at   timestamptz not null,
    ended_at timestamptz,
    outcome  text        check (outcome in ('answered', 'exhausted'))
);
create index escalation_due on vestnik.escalation (due_at) where ended_at is null;

-- What is posted to a store's own address, signed; tried again for a day.
create table vestnik.webhook (
    event_id     bigint      not null primary key references vestnik.event (id) on delete cascade,
    store_id     text        not null,
    state        text        not null default 'pending' check (state in ('pending', 'sending', 'retrying', 'sent', 'dead')),
    reason       text,
    attempts     int         not null default 0,
    due_at       timestamptz not null default now(),
    leased_until timestamptz not null default '-infinity',
    fence        bigint      not null default 0,
    settled_at   timestamptz
);
create index webhook_due on vestnik.webhook (due_at) where state in ('pending', 'sending', 'retrying');
