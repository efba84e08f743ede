-- The engine's own tables. Every name in this schema begins with `vst_`: software that reads `information_schema`
-- without a schema would take `vestnik.event` for a table of the shop's that has the same name.

-- Sources: the shop's tables that carry our triggers, and what their columns mean.
create table vestnik.vst_source (
    id            int         not null generated always as identity primary key,
    name          text        not null check (octet_length(name) between 1 and 200),   -- on the wire, in buttons and commands
    table_name    text        not null,          -- schema-qualified and quoted; a name, not an oid, so that a dump restores
    kind          text        not null check (kind in ('order', 'booking')),
    mapping       text        not null,          -- TOML, as a person wrote it
    columns       jsonb       not null,          -- recorded columns in their order: [{"name": "total", "type": "numeric(10,2)"}]
    owner_trusted boolean     not null default false,   -- attached although another role owns the table: `attach --trust-owner`
    attached_xid  xid8        not null default pg_current_xact_id(),   -- rows written since have an event, or were written past the triggers
    attached_at   timestamptz not null default now(),
    detached_at   timestamptz                    -- not null: no source now; its events wait for its table to be attached again
);
create unique index vst_source_name on vestnik.vst_source (name) where detached_at is null;
create unique index vst_source_table on vestnik.vst_source (table_name) where detached_at is null;

-- Counts the changes of sources and of stores' settings. Each read of the journal brings it along, so that no event is
-- translated with a mapping that has been replaced.
create table vestnik.vst_source_version (
    sole    boolean not null default true primary key check (sole),
    version bigint  not null default 1
);
insert into vestnik.vst_source_version default values;

-- The journal: one immutable row for each event, written in the transaction of the shop's own write.
--
-- `xid` is what makes reading exact. An identity value is taken before commit, so a later id can become visible
-- first and "ids above N" would skip events; "transactions that my snapshot did not see" skips none.
-- The identity must keep CACHE 1: with a larger cache the ids of two sessions no longer follow their row locks,
-- and the order of one shop row's events is the order of their ids.
create table vestnik.vst_event (
    id       bigint      not null generated always as identity (cache 1) primary key,
    xid      xid8        not null default pg_current_xact_id(),
    source   int,                           -- null: the engine's own event
    store_id text,                          -- null: the row has none, or none of 200 bytes at most; nobody receives the event
    key      text,                          -- of the shop's row; null: it has none, or none of 1000 bytes at most
    type     text        not null,          -- a write: insert, update, delete, truncate; or the engine's own event
    at       timestamptz not null default clock_timestamp(),
    data     json        not null,          -- the recorded columns as the shop wrote them; of a delete, as they were. json keeps what jsonb refuses
    old      json,                          -- of an update: the columns before it
    answer   json                           -- of an update that a person made by a button: {"by", "minutes", "reason"}
);

-- The feed reads by transaction, a coming-back session by store and transaction.
create index vst_event_xid on vestnik.vst_event (xid);
create index vst_event_store_xid on vestnik.vst_event (store_id, xid);

-- Derived sources: tables whose orders follow from expressions over several tables. Their triggers record which orders a
-- write concerns; the projector takes the keys away, and appends what has changed to the journal. What it said last of each
-- order stands in a table of the source's own, `vst_projection_<source>`.
create table vestnik.vst_change (
    source int         not null,
    id     bigint      not null generated always as identity (cache 1),
    watch  smallint    not null default 0,   -- 0: the table of its rows; 1 and above: a watched one; -1: all rows, quietly
    key    text,                             -- of the order, or what leads to it; null: the table was truncated
    at     timestamptz not null default clock_timestamp(),
    primary key (source, id)
);

-- Orders that have no items yet: they are told when some come, or at the end of the wait.
create table vestnik.vst_wait (
    source int         not null references vestnik.vst_source (id) on delete cascade,
    key    text        not null,
    until  timestamptz not null,
    primary key (source, key)
);

-- The node that projects, and until when it may without saying so again.
create table vestnik.vst_projector (
    sole   boolean     not null default true primary key check (sole),
    holder text,
    until  timestamptz not null default '-infinity'
);
insert into vestnik.vst_projector default values;

-- Derived sources whose expressions fail now, and what Postgres says of it.
create table vestnik.vst_projection_failure (
    source  int         not null primary key references vestnik.vst_source (id) on delete cascade,
    message text        not null,
    at      timestamptz not null default clock_timestamp()
);

-- Synthetic orders of the nodes' self-test: each node inserts one at intervals, and waits for it at a session of its own.
-- The table has the trigger of a source, number 0. A row stays until the node's next one.
create table vestnik.vst_canary (
    round     text        not null primary key,
    store     text        not null,          -- the node's own: vestnik-canary-<node>
    status    text        not null default 'pending',
    sent_at   timestamptz not null default clock_timestamp(),
    until     timestamptz not null,          -- the node sends another one before
    outcome   text                           -- of the node's newest round that has ended: back, or why it did not come back; null: none has
);
create index vst_canary_store on vestnik.vst_canary (store);

-- What the trimming of old events has removed: the highest transaction of which an event is gone. A cursor that does
-- not cover it could be owed something that is no longer there, and is answered with resync_required.
create table vestnik.vst_retention (
    sole            boolean not null default true primary key check (sole),
    trimmed_through xid8    not null default '0'
);
insert into vestnik.vst_retention default values;

-- What one node at a time does: it locks the row of the task. Anybody with the right to connect may hold an advisory lock; this
-- one takes a right to the table.
create table vestnik.vst_turn (
    task text not null primary key
);
insert into vestnik.vst_turn values ('trim'), ('watch');

-- The cluster that the journal's transaction numbers belong to. A journal restored into another cluster carries
-- numbers that mean nothing there; `vestnik migrate` sees it here and makes all of them the past.
create table vestnik.vst_cluster (
    sole              boolean not null default true primary key check (sole),
    system_identifier bigint  not null
);
insert into vestnik.vst_cluster (system_identifier) select system_identifier from pg_control_system();

-- The lines of history that the journal's transaction numbers belong to; the line in force has no `through`. Each start of
-- Postgres begins a new line: it may go on from a snapshot that was put back, or from a standby without the newest commits.
-- A cursor of an earlier line is valid if it covers no transaction after `through`, the newest one that the restart kept.
create table vestnik.vst_lineage (
    line       uuid        not null default gen_random_uuid() primary key,
    started_at timestamptz not null default pg_postmaster_start_time(),   -- of Postgres
    through    xid8
);
create unique index vst_lineage_in_force on vestnik.vst_lineage ((true)) where through is null;
insert into vestnik.vst_lineage default values;

-- Functions are code, not history: each file of triggers/ is applied again when its text changed.
create table vestnik.vst_code (
    file        text        not null primary key,
    fingerprint text        not null,       -- SHA-256 of the file's text, hex
    applied_at  timestamptz not null default now()
);

-- Tokens, kept as their SHA-256 only: whoever reads this table can open nothing.
create table vestnik.vst_token (
    id         bigint      not null generated always as identity primary key,
    hash       bytea       not null unique check (octet_length(hash) = 32),
    label      text,
    stores     text[],                      -- null: every store
    scope      text        not null default 'panel' check (scope in ('read', 'panel', 'manager', 'operator')),
    issuer     text,                        -- who signs the JWTs of this holder, of whom `label` is the subject; null: a token of our own
    created_at timestamptz not null default now(),
    expires_at timestamptz,                 -- null: never
    revoked_at timestamptz,
    used_at    timestamptz                  -- when it was used last, within a minute; null: never
);

-- The sessions that each token has on each node, as the nodes say now and then. A node that is gone says nothing more.
create table vestnik.vst_token_use (
    node     text        not null primary key,
    until    timestamptz not null,
    tokens   bigint[]    not null,
    sessions int[]       not null
);

-- Whatever changes what a token opens, by whatever way, is known to every node at once.
create function vestnik.vst_token_changed() returns trigger language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    perform pg_notify('vestnik_token', '');
    return null;
end $$;
revoke all on function vestnik.vst_token_changed() from public;
create trigger vst_token_changed
    after update of hash, stores, scope, expires_at, revoked_at or delete or truncate on vestnik.vst_token
    for each statement execute function vestnik.vst_token_changed();

-- An acknowledgement: which token's holder said, over which session, that a person has seen this event. The first
-- word counts; a repetition changes nothing.
create table vestnik.vst_acknowledgement (
    event_id bigint      not null references vestnik.vst_event (id) on delete cascade,
    token_id bigint      not null,            -- stays when the token's row is deleted
    session  text        not null,
    at       timestamptz not null default clock_timestamp(),
    primary key (event_id, token_id)
);

-- Receipts: how an event reached somebody. A panel's row begins when the panel has said that it is one.
create table vestnik.vst_receipt (
    event_id        bigint      not null references vestnik.vst_event (id) on delete cascade,
    channel         text        not null check (channel in ('websocket', 'sse', 'polling', 'telegram', 'webhook')),
    recipient       text        not null,     -- the session, or the chat, as it was claimed
    token_id        bigint      not null default 0,   -- who stands behind the name; 0: no token, a chat or a webhook
    sent_at         timestamptz,
    rendered_at     timestamptz,              -- the panel's word: it stands on the screen
    sounded_at      timestamptz,              -- the panel's word: the sound really played
    acknowledged_at timestamptz,
    acknowledged_by text,
    -- Two tokens may claim one name, and neither speaks for the other.
    primary key (event_id, channel, recipient, token_id)
);

-- Who changed the status of an order or booking by a button, of a panel or of Telegram.
create table vestnik.vst_status_change (
    id       bigint      not null generated always as identity primary key,
    source   int         not null references vestnik.vst_source (id) on delete cascade,
    key      text        not null,
    store_id text        not null,
    previous text        not null,            -- canonical statuses
    status   text        not null,
    channel  text        not null check (channel in ('panel', 'telegram')),
    by_whom  text        not null,            -- as it was claimed
    token_id bigint,                          -- who stands behind the name; null: a press in Telegram, whose people have numbers
    minutes  int         check (minutes between 1 and 600),   -- until it is ready, as was promised
    at       timestamptz not null default clock_timestamp()
);
create index vst_status_change_of on vestnik.vst_status_change (source, key, id desc);
create index vst_status_change_store on vestnik.vst_status_change (store_id, at);

-- Answers that a shop's own API is asked for. A row whose `until` is over has an unknown outcome: a repetition of the
-- same wish has the same id, so that the shop does it once.
create table vestnik.vst_answer_request (
    source   int         not null references vestnik.vst_source (id) on delete cascade,
    key      text        not null,
    store_id text        not null,
    id       text        not null,            -- of the message
    wish     bytea       not null,            -- SHA-256 of what is asked
    status   text        not null,
    answer   json        not null,            -- for the event of the change: {"by", "minutes", "reason"}
    asked_at timestamptz not null default clock_timestamp(),
    until    timestamptz not null,            -- until then no other answer to the order is asked for
    primary key (source, key, store_id)
);

-- What is known of a store beside its orders: how its money and clock read, how long an order may wait for an answer.
-- A store without a row here has its panels, and nothing more: no Telegram, no escalation.
create table vestnik.vst_store (
    id             text        not null primary key check (octet_length(id) between 1 and 200),
    name           text,
    currency       text        not null default 'RUB' check (currency ~ '^[A-Z]{3}$'),
    -- The second check is the clock's own: a name that Postgres does not know raises, here rather than in a message.
    time_zone      text        not null default 'Europe/Moscow' check (timezone(time_zone, timestamp '2000-01-01') is not null),
    answer_seconds int         not null default 60 check (answer_seconds between 5 and 86400),
    webhook_url    text        check (webhook_url ~ '^https?://'),
    webhook_secret text        check (octet_length(webhook_secret) >= 16),   -- signs what is posted, so it cannot be hashed
    webhook_secret_old text      check (octet_length(webhook_secret_old) >= 16),   -- signs beside the new one until the change is over
    check ((webhook_url is null) = (webhook_secret is null)),
    attended_by    text        not null default 'panel' check (attended_by in ('panel', 'chats')),   -- who is to hear orders while it is open
    escalates      text        not null default 'open' check (escalates in ('open', 'always')),      -- while it is closed, nobody is woken for its orders
    created_at     timestamptz not null default now()
);

-- When a store is open, by its own clock. A day that closes at or before it opens goes on after midnight. A store
-- without rows has no hours, and is never missed.
create table vestnik.vst_opening_hours (
    store_id text     not null references vestnik.vst_store (id) on delete cascade,
    weekday  smallint not null check (weekday between 1 and 7),   -- 1: Monday
    opens    time     not null,
    closes   time     not null,
    primary key (store_id, weekday, opens)
);

-- The days on which a store's hours are others than the week's; without opens it is closed.
create table vestnik.vst_holiday (
    store_id text    not null references vestnik.vst_store (id) on delete cascade,
    day      date    not null,                  -- of each year: in the year 2000
    yearly   boolean not null default false,
    opens    time,
    closes   time,
    check ((opens is null) = (closes is null)),
    unique (store_id, day, yearly, opens)
);

-- The stores that are open now, by their own clocks. A span that closes at or before it opens goes on after midnight, so
-- yesterday's may still be open.
create view vestnik.vst_open_now as
    select s.id as store_id
    from vestnik.vst_store s cross join lateral (select clock_timestamp() at time zone s.time_zone as at) now
    where exists (
        select from (values (now.at::date, true), (now.at::date - 1, false)) d (day, is_today)
        cross join lateral (
            select h.opens, h.closes from vestnik.vst_holiday h
            where h.store_id = s.id and (h.day = d.day and not h.yearly or h.yearly and to_char(h.day, 'MMDD') = to_char(d.day, 'MMDD'))
            union all
            select o.opens, o.closes from vestnik.vst_opening_hours o
            where o.store_id = s.id and o.weekday = extract(isodow from d.day)
                and not exists (select from vestnik.vst_holiday h where h.store_id = s.id
                    and (h.day = d.day and not h.yearly or h.yearly and to_char(h.day, 'MMDD') = to_char(d.day, 'MMDD')))) span
        where case when d.is_today then now.at::time >= span.opens and (now.at::time < span.closes or span.closes <= span.opens)
                   else span.closes <= span.opens and now.at::time < span.closes end);

-- A pause: the store takes no new orders for a while. The engine refuses none: whatever takes the orders reads
-- `vst_paused_now`. A row is there from the event `store_paused` to the event `store_resumed`.
create table vestnik.vst_pause (
    store_id  text        not null primary key check (octet_length(store_id) between 1 and 200),
    since     timestamptz not null default clock_timestamp(),
    until     timestamptz not null,
    paused_by text,
    reason    text
);
create index vst_pause_until on vestnik.vst_pause (until);

-- The stores that are paused now.
create view vestnik.vst_paused_now as
    select store_id, since, until, paused_by, reason from vestnik.vst_pause where until > clock_timestamp();

-- The stop list: an item that a store is out of. Whatever takes the orders reads `vst_out_of_stock_now`. A row is there from
-- the event `item_out_of_stock` to the event `item_in_stock`.
create table vestnik.vst_out_of_stock (
    store_id   text        not null check (octet_length(store_id) between 1 and 200),
    item       text        not null check (length(item) between 1 and 200),
    since      timestamptz not null default clock_timestamp(),
    -- null: until somebody puts it back
    until      timestamptz,
    stopped_by text,
    primary key (store_id, item)
);
create index vst_out_of_stock_until on vestnik.vst_out_of_stock (until);

-- The items that the stores are out of now.
create view vestnik.vst_out_of_stock_now as
    select store_id, item, since, until, stopped_by from vestnik.vst_out_of_stock
    where until is null or until > clock_timestamp();

-- The nodes that are up. One that stops saying so is gone, with everything that it was the only one to know.
create table vestnik.vst_node (
    id            text        not null primary key,
    until         timestamptz not null,
    clock_ahead_s float8      not null default 0   -- of the node's clock, before that of Postgres
);

-- The stores that have a panel on a node which can ring: the tab is there, and its sound is on.
create table vestnik.vst_presence (
    node_id  text not null references vestnik.vst_node (id) on delete cascade,
    store_id text not null,
    primary key (node_id, store_id)
);
create index vst_presence_store on vestnik.vst_presence (store_id);

-- What somebody must hear of besides orders: a store is open and nobody could hear one.
create table vestnik.vst_alarm (
    id         bigint      not null generated always as identity primary key,
    store_id   text        not null references vestnik.vst_store (id) on delete cascade,
    raised_at  timestamptz not null default clock_timestamp(),
    cleared_at timestamptz,
    cleared_by text check (cleared_by in ('panel', 'closing'))
);
create unique index vst_alarm_standing on vestnik.vst_alarm (store_id) where cleared_at is null;

-- Since when an open store has had nobody: short absences, such as a page that is loaded again, are no alarm.
create table vestnik.vst_unattended (
    store_id text        not null primary key references vestnik.vst_store (id) on delete cascade,
    since    timestamptz not null default clock_timestamp()
);

-- Durable sends. An event becomes one delivery for each chat, from a stored cursor, so that downtime loses nothing; any
-- node sends what is enqueued. What Telegram allows is counted here, for all nodes together.

-- How far events have been enqueued: a cursor, as clients keep one. Empty: at the beginning.
create table vestnik.vst_delivery_cursor (
    sole   boolean not null default true primary key check (sole),
    cursor text    not null default ''
);
insert into vestnik.vst_delivery_cursor default values;

-- A chat of Telegram. It has two lanes, messages and edits, each with one send under way at most, which is what keeps its
-- order: `fence` numbers them, and who holds an older number than the row's completes nothing. A lane is looked at when
-- something is enqueued (`waiting`), and when its first delivery is due (`wakes_at`).
create table vestnik.vst_chat (
    id            bigint        not null generated always as identity primary key,
    telegram_id   bigint        not null unique,
    title         text,
    waiting       boolean       not null default false,      -- there may be something to send
    next_at       timestamptz   not null default now(),      -- nothing is sent before
    recent        timestamptz[] not null default '{}',       -- when the newest sends ended, the oldest first
    failures      int           not null default 0,          -- in a row
    fence         bigint        not null default 0,
    leased_until  timestamptz   not null default '-infinity',
    leased_by     text,                                      -- the node
    wakes_at      timestamptz,
    edits         timestamptz[] not null default '{}',       -- of `recent`, those that were edits
    edit_next_at  timestamptz   not null default now(),
    edit_wakes_at timestamptz,
    edit_leased_until timestamptz not null default '-infinity',
    edit_leased_by text,
    edit_fence    bigint        not null default 0,
    error         text,                                      -- of the newest send that failed
    error_at      timestamptz,
    disabled_at   timestamptz,
    disabled_why  text,
    tries         timestamptz[] not null default '{}',       -- codes that were tried, the newest few
    first_seen_at timestamptz   not null default now()
);
create index vst_chat_messages on vestnik.vst_chat (next_at) where waiting or wakes_at is not null;
create index vst_chat_edits on vestnik.vst_chat (edit_next_at) where waiting or edit_wakes_at is not null;

-- The chats of a store, and what each of them is for.
create table vestnik.vst_chat_link (
    chat_id     bigint      not null references vestnik.vst_chat (id) on delete cascade,
    store_id    text        not null references vestnik.vst_store (id) on delete cascade,
    mode        text        not null check (mode in ('mirror', 'fallback', 'manager')),
    language    text        not null,
    muted_until timestamptz not null default '-infinity',
    linked_at   timestamptz not null default clock_timestamp(),
    linked_by   bigint      not null,         -- the person's number at Telegram
    thread_id   int,                          -- the topic; null: the chat, or its general topic
    quiet_from  time,                         -- no sound from then on, by the store's clock
    quiet_to    time,
    blocked_at  timestamptz,                  -- the bot may not write there
    blocked_why text,
    blocked_until timestamptz not null default '-infinity',   -- the next try
    check ((quiet_from is null) = (quiet_to is null)),
    primary key (chat_id, store_id)
);
create index vst_chat_link_store on vestnik.vst_chat_link (store_id);

-- Codes that link a chat, as their SHA-256; each opens once.
create table vestnik.vst_link_code (
    hash       bytea       not null primary key check (octet_length(hash) = 32),
    store_id   text        not null references vestnik.vst_store (id) on delete cascade,
    mode       text        not null check (mode in ('mirror', 'fallback', 'manager')),
    language   text        not null,
    expires_at timestamptz not null,
    used_at    timestamptz
);

-- The bot: who polls for all nodes, and how far; and why it stopped, for the token that it stopped with.
create table vestnik.vst_bot (
    sole         boolean     not null default true primary key check (sole),
    poller       text,                              -- a row of vst_bot_node
    polled_at    timestamptz,                       -- the newest poll that Telegram answered
    conflict_at  timestamptz,                       -- the newest 409: another program polls, or a webhook is set
    error        text,                              -- why Telegram was not reached; null: it was, the last time
    error_at     timestamptz,
    next_update  bigint      not null default 0,
    stopped_at   timestamptz,
    stopped_why  text,
    stopped_hash bytea,                             -- SHA-256 of that token
    number       bigint                             -- the bot's own at Telegram: another bot numbers its updates anew
);
insert into vestnik.vst_bot default values;

-- The nodes that have a bot, each with the backend of its own session: a node whose process ends loses its session at once.
-- Every node writes its row again each second, so a crash of Postgres may empty the table.
create unlogged table vestnik.vst_bot_node (
    id      text        not null primary key,
    pid     int         not null,             -- of the backend
    seen_at timestamptz not null
);

-- What people wrote and pressed: taken from Telegram, not dealt with yet.
create table vestnik.vst_bot_update (
    id       bigint      not null primary key,            -- Telegram's number
    body     text        not null,                        -- its JSON; not jsonb, which refuses some of it
    taken_at timestamptz not null default clock_timestamp()
);

-- What a bot may have on its way or behind it within a second: a send takes a slot before it begins, and the slot is
-- free again a second after it ended. So no second sees more sends than there are slots, whoever sends.
create table vestnik.vst_bot_slot (
    slot    int         not null primary key,
    free_at timestamptz not null default '-infinity'
);
insert into vestnik.vst_bot_slot (slot) select generate_series(1, 30);

-- A durable send: an event, a note about one, an alarm, a reply to somebody's command, or buttons.
create table vestnik.vst_delivery (
    id           bigint      not null generated always as identity primary key,
    chat_id      bigint      not null references vestnik.vst_chat (id) on delete cascade,
    store_id     text,
    event_id     bigint      references vestnik.vst_event (id) on delete cascade,
    alarm_id     bigint      references vestnik.vst_alarm (id) on delete cascade,
    alarm_ends   boolean,                           -- the all-clear
    words        text,                              -- an answer to a command, ready to be sent
    subject      text,                              -- what its own message is about: the source's number and the key, `1 123`
    urgent       boolean     not null,              -- overtakes what is not
    stale        boolean     not null default false,-- too old when it was enqueued: for a digest
    state        text        not null default 'pending' check (state in ('pending', 'sending', 'retrying', 'sent', 'dead')),
    reason       text,                              -- why it is retrying, or dead
    planned_at   timestamptz not null default clock_timestamp(),
    attempts     int         not null default 0,
    fence        bigint,                            -- the chat's, at its claim
    settled_at   timestamptz,
    due_at       timestamptz not null default '-infinity',
    failures     int         not null default 0,    -- in a row, though Telegram was reached
    refusals     int         not null default 0,    -- 1: it goes without markup; 2: without buttons
    thread_id    int,                               -- of an answer: the topic
    buttons      jsonb,                             -- below an answer
    alone        boolean     not null default false,-- somebody asked for it: a message of its own, whatever waits
    keyboard     jsonb,                             -- buttons for a message that is there
    message_id   int,                               -- that message, or the one that the words replace
    note         text        check (note in ('cancelled', 'unanswered', 'late', 'shown')),   -- a message beside the order's own
    about_id     bigint      references vestnik.vst_event (id) on delete cascade,   -- and the event that it is about
    step         smallint,                          -- the step of an escalation that brought the order here
    check (num_nonnulls(event_id, alarm_id, words, keyboard, note) = 1),
    check ((note is null) = (about_id is null)),
    check (keyboard is null or message_id is not null),
    check (message_id is null or keyboard is not null or words is not null)
);
create index vst_delivery_keyboard on vestnik.vst_delivery (chat_id, message_id) where keyboard is not null;
create unique index vst_delivery_note on vestnik.vst_delivery (about_id, chat_id, note);
create unique index vst_delivery_event on vestnik.vst_delivery (event_id, chat_id);
create unique index vst_delivery_alarm on vestnik.vst_delivery (alarm_id, chat_id, alarm_ends);
create index vst_delivery_open on vestnik.vst_delivery (chat_id, urgent desc, id) where state in ('pending', 'sending', 'retrying');
create index vst_delivery_subject on vestnik.vst_delivery (chat_id, subject) where state in ('pending', 'sending', 'retrying');
-- What is kept no longer than it is needed: without these, each event that is trimmed reads all of them.
create index vst_delivery_chat on vestnik.vst_delivery (chat_id);
create index vst_delivery_words on vestnik.vst_delivery (planned_at) where words is not null;

-- The message of an order in a chat: a change of its status edits it.
create table vestnik.vst_message (
    chat_id    bigint      not null references vestnik.vst_chat (id) on delete cascade,
    store_id   text        not null,
    subject    text        not null,
    event_id   bigint      not null references vestnik.vst_event (id) on delete cascade,  -- the event that the message tells
    message_id int         not null,
    asked_at   timestamptz,                     -- somebody was asked why it is rejected
    sent_at    timestamptz not null default clock_timestamp(),
    primary key (chat_id, store_id, subject)
);
create index vst_message_event on vestnik.vst_message (event_id);

-- The escalation of an order that nobody answers: which step it has taken, and when it takes the next.
create table vestnik.vst_escalation (
    event_id bigint      not null primary key references vestnik.vst_event (id) on delete cascade,
    store_id text        not null,
    subject  text        not null,
    step     smallint    not null default 0,        -- 1: panels ring again, 2: fallback chats, 3: manager, 4: webhook
    due_at   timestamptz not null,
    is_held  boolean     not null default false,    -- until its store opens
    ended_at timestamptz,
    outcome  text        check (outcome in ('answered', 'removed', 'exhausted'))
);
create index vst_escalation_due on vestnik.vst_escalation (due_at) where ended_at is null;
create index vst_escalation_subject on vestnik.vst_escalation (subject);

-- What a store has promised: orders that are being prepared, and when they are to be ready. Late ones are told once.
create table vestnik.vst_promise (
    store_id text        not null,
    subject  text        not null,
    event_id bigint      not null references vestnik.vst_event (id) on delete cascade,
    due_at   timestamptz not null,
    primary key (store_id, subject)
);
create index vst_promise_due on vestnik.vst_promise (due_at);
create index vst_promise_event on vestnik.vst_promise (event_id);

-- What is posted to a store's own address, signed; tried again for a day.
create table vestnik.vst_webhook (
    event_id     bigint      not null primary key references vestnik.vst_event (id) on delete cascade,
    store_id     text        not null,
    state        text        not null default 'pending' check (state in ('pending', 'sending', 'retrying', 'sent', 'dead')),
    reason       text,
    attempts     int         not null default 0,
    due_at       timestamptz not null default now(),
    leased_until timestamptz not null default '-infinity',
    fence        bigint      not null default 0,
    settled_at   timestamptz
);
create index vst_webhook_due on vestnik.vst_webhook (due_at) where state in ('pending', 'sending', 'retrying');
