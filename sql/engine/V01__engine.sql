-- The engine's own tables. Every name in this schema begins with `vst_`: software that reads `information_schema`
-- without a schema would mistake `vestnik.event` for a table of the shop with the same name.

-- Sources: the attached tables of the shop, with their mappings.
create table vestnik.vst_source (
    id            int         not null generated always as identity primary key,
    name          text        not null check (octet_length(name) between 1 and 200),   -- the source's name in events, buttons and commands
    table_name    text        not null,          -- schema-qualified and quoted; a name, not an oid, so that a dump restores
    kind          text        not null check (kind in ('order', 'booking')),
    mapping       text        not null,          -- TOML, as a person wrote it
    columns       jsonb       not null,          -- the recorded columns in their order: [{"name": "total", "type": "numeric(10,2)"}]
    former_mapping text,                         -- the last mapping of the other kind, direct or derived: it translates the events of that time; null: there was none
    former_columns jsonb,
    owner_trusted boolean     not null default false,   -- true: attached with `attach --trust-owner`, although another role owns the table
    attached_xid  xid8        not null default pg_current_xact_id(),   -- a row that was written later has an event, unless the triggers were disabled
    attached_at   timestamptz not null default now(),
    detached_at   timestamptz                    -- not null: the source is detached; its events are read again if the table is attached again
);
create unique index vst_source_name on vestnik.vst_source (name) where detached_at is null;
create unique index vst_source_table on vestnik.vst_source (table_name) where detached_at is null;

-- Counts the changes of sources and of stores' settings. Each read of the journal returns it, so that no event is
-- translated with a mapping that has been replaced.
create table vestnik.vst_source_version (
    sole    boolean not null default true primary key check (sole),
    version bigint  not null default 1
);
insert into vestnik.vst_source_version default values;

-- The journal: one immutable row for each event, written in the transaction of the shop's own write.
--
-- Readers select rows by `xid`: the transactions that their last snapshot did not see. Selecting by `id` would skip
-- events, because an id is allocated before the commit, so a later id can become visible first. The identity must keep
-- CACHE 1, because the events of a shop's row are ordered by their ids. With a larger cache, the ids of two sessions no
-- longer follow their row locks.
create table vestnik.vst_event (
    id       bigint      not null generated always as identity (cache 1) primary key,
    xid      xid8        not null default pg_current_xact_id(),
    source   int,                           -- the source of the row; null: the engine itself wrote the event
    store_id text,                          -- null: the row has no store, or its store is longer than 200 bytes; nobody receives the event
    key      text,                          -- the key of the shop's row; null: the row has no key, or its key is longer than 1000 bytes
    type     text        not null,          -- the write (insert, update, delete, truncate), or the type of the engine's own event
    at       timestamptz not null default clock_timestamp(),
    data     json        not null,          -- the recorded columns as the shop wrote them, or the deleted row; json stores values that jsonb refuses
    old      json,                          -- the recorded columns before an update
    answer   json                           -- what a person answered, if a button caused the update: {"by", "minutes", "reason"}
);

-- The feed reads by transaction, a reconnecting session by store and transaction.
create index vst_event_xid on vestnik.vst_event (xid);
create index vst_event_store_xid on vestnik.vst_event (store_id, xid);

-- Derived sources: tables whose orders follow from expressions over several tables. Their triggers record which orders a
-- write concerns. The projector removes these keys, and appends the changed orders to the journal. The newest state of each
-- order is in a table for the source, `vst_projection_<source>`.
create table vestnik.vst_change (
    source int         not null,
    id     bigint      not null generated always as identity (cache 1),
    watch  smallint    not null default 0,   -- 0: the table of the orders; from 1 on: a watched table; -1: all rows, without events; -2: the order's row is gone; -3: the order is computed again; -4: all rows, with events
    key    text,                             -- of the order, or of a row that leads to it; null: the table was truncated, or any order may have changed
    at     timestamptz not null default clock_timestamp(),
    xid    xid8        not null default pg_current_xact_id(),   -- a key that is deleted and written by two transactions is two orders
    primary key (source, id)
);

-- New orders without items: their events are appended when items are written, or at the end of the wait.
create table vestnik.vst_wait (
    source int         not null references vestnik.vst_source (id) on delete cascade,
    key    text        not null,
    since  timestamptz not null,   -- when the order was written
    until  timestamptz not null,
    primary key (source, key)
);

-- The node that runs the projector, and the end of its lease.
create table vestnik.vst_projector (
    sole     boolean     not null default true primary key check (sole),
    holder   text,
    until    timestamptz not null default '-infinity',
    policies text   -- a digest of the policies of row level security that the projector last saw; a change may show other rows
);
insert into vestnik.vst_projector default values;

-- Orders of derived sources with an expression that fails now, or with a row that row level security hides. A row stays
-- until the value, or the order, can be read.
create table vestnik.vst_projection_failure (
    source    int         not null references vestnik.vst_source (id) on delete cascade,
    key       text        not null,   -- of the order; empty: a watched table's query for keys fails
    place     text        not null,   -- of the expression in the mapping, or: row level security
    reason    text        not null,   -- the error of Postgres, or what to do
    is_unseen boolean     not null,   -- nobody sees the order: it has no store, or is hidden; without a key: the `keys` query fails for all rows
    at        timestamptz not null default clock_timestamp(),
    tried_at  timestamptz not null default clock_timestamp(),
    primary key (source, key, place)
);
create index vst_projection_failure_tried on vestnik.vst_projection_failure (source, tried_at);

-- Synthetic orders of the nodes' self-test. Each node inserts an order at intervals, and waits for it at a session of
-- its own. The table has the trigger of a source with the number 0. A row stays until the node's next order.
create table vestnik.vst_canary (
    round     text        not null primary key,
    store     text        not null,          -- the node's own store: vestnik-canary-<node>
    status    text        not null default 'pending',
    sent_at   timestamptz not null default clock_timestamp(),
    until     timestamptz not null,          -- the node sends its next order before this time
    outcome   text                           -- the outcome of the node's newest ended round: back, or why the order did not come back; null: no round has ended
);
create index vst_canary_store on vestnik.vst_canary (store);

-- The highest transaction with an event that was trimmed. A cursor that does not cover this transaction may miss
-- trimmed events, so its client gets resync_required.
create table vestnik.vst_retention (
    sole            boolean not null default true primary key check (sole),
    trimmed_through xid8    not null default '0'
);
insert into vestnik.vst_retention default values;

-- Tasks that one node executes at a time: the node locks the row of the task. An advisory lock is not used, because any
-- role that can connect could hold it.
create table vestnik.vst_turn (
    task text not null primary key
);
insert into vestnik.vst_turn values ('trim'), ('watch');

-- The cluster of the journal's transaction ids. A journal that was restored into another cluster has
-- ids that mean nothing there; `vestnik migrate` detects this, and makes all its events history.
create table vestnik.vst_cluster (
    sole              boolean not null default true primary key check (sole),
    system_identifier bigint  not null
);
insert into vestnik.vst_cluster (system_identifier) select system_identifier from pg_control_system();

-- The lines of history of the journal's transaction ids; the current line has no `through`. Each start of
-- Postgres begins a new line: it may continue from a restored snapshot, or from a standby without the newest commits.
-- A cursor of an earlier line is valid if it covers no transaction after `through`, the newest that survived the restart.
create table vestnik.vst_lineage (
    line       uuid        not null default gen_random_uuid() primary key,
    started_at timestamptz not null default pg_postmaster_start_time(),   -- when this Postgres server started
    through    xid8
);
create unique index vst_lineage_in_force on vestnik.vst_lineage ((true)) where through is null;
insert into vestnik.vst_lineage default values;

-- Skips event ids when a line of history begins. It runs with the rights of its owner, so that the role of `vestnik serve`
-- needs no right to set the sequence.
create function vestnik.vst_skip_event_ids(skipped bigint) returns bigint
language sql security definer set search_path = pg_catalog, pg_temp as $$
    select pg_catalog.setval('vestnik.vst_event_id_seq', last_value + greatest(skipped, 0)) from vestnik.vst_event_id_seq
$$;
revoke all on function vestnik.vst_skip_event_ids(bigint) from public;

-- Functions are code, not history: each file of triggers/ is applied again when its text changed.
create table vestnik.vst_code (
    file        text        not null primary key,
    fingerprint text        not null,       -- SHA-256 of the file's text, hex
    applied_at  timestamptz not null default now()
);

-- Tokens, saved as their SHA-256 only: a reader of this table gains no access.
create table vestnik.vst_token (
    id         bigint      not null generated always as identity primary key,
    hash       bytea       not null unique check (octet_length(hash) = 32),
    label      text,
    stores     text[],                      -- null: every store
    scope      text        not null default 'panel' check (scope in ('read', 'panel', 'manager', 'operator')),
    issuer     text,                        -- the issuer of this holder's JWTs, whose subject is `label`; null: a token that Vestnik created
    created_at timestamptz not null default now(),
    expires_at timestamptz,                 -- null: never
    revoked_at timestamptz,
    used_at    timestamptz                  -- when the token was last used, to the minute; null: never
);

-- The number of sessions of each token on each node. Nodes report it periodically; a node that ended reports no more.
create table vestnik.vst_token_use (
    node     text        not null primary key,
    until    timestamptz not null,
    tokens   bigint[]    not null,
    sessions int[]       not null
);

-- Notifies every node of any change to a token's rights.
create function vestnik.vst_token_changed() returns trigger language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    perform pg_notify('vestnik_token', '');
    return null;
end $$;
revoke all on function vestnik.vst_token_changed() from public;
create trigger vst_token_changed
    after update of hash, stores, scope, expires_at, revoked_at or delete or truncate on vestnik.vst_token
    for each statement execute function vestnik.vst_token_changed();

-- Acknowledgements: a person has seen the event, as the holder of a token reported over a session. The first
-- acknowledgement counts; a repetition changes nothing.
create table vestnik.vst_acknowledgement (
    event_id bigint      not null references vestnik.vst_event (id) on delete cascade,
    token_id bigint      not null,            -- the token of the acknowledgement; no foreign key, because the row remains when the token is deleted
    session  text        not null,
    at       timestamptz not null default clock_timestamp(),
    primary key (event_id, token_id)
);

-- Receipts: how an event reached somebody. A panel's row is created when the client has identified itself as a panel.
create table vestnik.vst_receipt (
    event_id        bigint      not null references vestnik.vst_event (id) on delete cascade,
    channel         text        not null check (channel in ('websocket', 'sse', 'polling', 'telegram', 'webhook')),
    recipient       text        not null,     -- the session or chat, as the client claims
    token_id        bigint      not null default 0,   -- the token behind the claim; 0: no token, a chat or a webhook
    sent_at         timestamptz,
    rendered_at     timestamptz,              -- reported by the panel: the event is on the screen
    sounded_at      timestamptz,              -- reported by the panel: the sound was played
    acknowledged_at timestamptz,
    acknowledged_by text,
    -- Two tokens may claim the same name; each has its own receipts.
    primary key (event_id, channel, recipient, token_id)
);

-- Changes of status that a person made by a button of a panel or of Telegram.
create table vestnik.vst_status_change (
    id       bigint      not null generated always as identity primary key,
    source   int         not null references vestnik.vst_source (id) on delete cascade,
    key      text        not null,
    store_id text        not null,
    previous text        not null,            -- the canonical status before the change
    status   text        not null,
    channel  text        not null check (channel in ('panel', 'telegram')),
    by_whom  text        not null,            -- as the client claims
    token_id bigint,                          -- the token behind the claim; null: the change came from Telegram, which identifies its users
    minutes  int         check (minutes between 1 and 600),   -- the promised minutes until the order is ready
    at       timestamptz not null default clock_timestamp(),
    request_id bigint                         -- the row of vst_idempotent_request, so that a repeated request finds its change; null: the request has no key
);
create unique index vst_status_change_request on vestnik.vst_status_change (request_id) where request_id is not null;
create index vst_status_change_of on vestnik.vst_status_change (source, key, id desc);
create index vst_status_change_store on vestnik.vst_status_change (store_id, at);

-- Requests with an `Idempotency-Key`, and their answers. A repetition gets the first answer again, on any node.
create table vestnik.vst_idempotent_request (
    id          bigint      not null generated by default as identity,   -- the number of the request; a key that is used again gets a new number
    token_id    bigint      not null,         -- the token of the request; no foreign key, because the row remains when the token is deleted
    store_id    text        not null,
    key         text        not null check (length(key) between 1 and 255),
    fingerprint bytea       not null check (octet_length(fingerprint) = 32),   -- SHA-256 of the request
    status      int,                          -- the HTTP status of the answer; null: the request is running, or has failed
    body        text,
    asked_at    timestamptz not null default clock_timestamp(),
    until       timestamptz not null,         -- a node executes the request until then
    fence       int         not null default 1,   -- the number of the newest execution: only that execution saves its outcome
    check ((status is null) = (body is null)),
    primary key (token_id, store_id, key)
);
create unique index vst_idempotent_request_id on vestnik.vst_idempotent_request (id);
create index vst_idempotent_request_asked on vestnik.vst_idempotent_request (asked_at);

-- Answers that are requested from a shop's own API. After `until` the outcome of a row is unknown: a repetition of the
-- same request has the same id, so that the shop executes it once.
create table vestnik.vst_answer_request (
    source   int         not null references vestnik.vst_source (id) on delete cascade,
    key      text        not null,
    store_id text        not null,
    id       text        not null,            -- the id of the message to the shop's API
    wish     bytea       not null,            -- SHA-256 of the request
    status   text        not null,
    answer   json        not null,            -- the answer that the event of the change will have: {"by", "minutes", "reason"}
    asked_at timestamptz not null default clock_timestamp(),
    until    timestamptz not null,            -- until then no other answer to the order is requested
    primary key (source, key, store_id)
);

-- The settings of a store: currency, time zone, how long an order may wait for an answer.
-- A store without a row has panels only: no Telegram, no escalation.
create table vestnik.vst_store (
    id             text        not null primary key check (octet_length(id) between 1 and 200),
    name           text,
    currency       text        not null default 'RUB' check (currency ~ '^[A-Z]{3}$'),
    -- An unknown time zone raises an error here, and not later when a message is formatted.
    time_zone      text        not null default 'Europe/Moscow' check (timezone(time_zone, timestamp '2000-01-01') is not null),
    answer_seconds int         not null default 60 check (answer_seconds between 5 and 86400),
    webhook_url    text        check (webhook_url ~ '^https?://'),
    webhook_secret text        check (octet_length(webhook_secret) >= 16),   -- the key that signs the webhook, so it cannot be hashed
    webhook_secret_old text      check (octet_length(webhook_secret_old) >= 16),   -- the earlier key, which signs too until the rotation is finished
    check ((webhook_url is null) = (webhook_secret is null)),
    attended_by    text        not null default 'panel' check (attended_by in ('panel', 'chats')),   -- who must be reachable while the store is open
    escalates      text        not null default 'open' check (escalates in ('open', 'always')),      -- open: the escalation of a closed store's orders begins when the store opens
    created_at     timestamptz not null default now()
);

-- Opening hours, in the store's time zone. A day whose `closes` is at or before its `opens` ends after midnight. A store
-- without rows has no hours, and no alarm is sent for it.
create table vestnik.vst_opening_hours (
    store_id text     not null references vestnik.vst_store (id) on delete cascade,
    weekday  smallint not null check (weekday between 1 and 7),   -- 1: Monday
    opens    time     not null,
    closes   time     not null,
    primary key (store_id, weekday, opens)
);

-- Days whose hours differ from the weekly hours. If `opens` is null, the store is closed on that day.
create table vestnik.vst_holiday (
    store_id text    not null references vestnik.vst_store (id) on delete cascade,
    day      date    not null,                  -- if `yearly`: a date in the year 2000, of which only the month and the day count
    yearly   boolean not null default false,
    opens    time,
    closes   time,
    check ((opens is null) = (closes is null)),
    unique (store_id, day, yearly, opens)
);

-- The stores that are open now, by their own time zones. A span whose `closes` is at or before its `opens` ends after
-- midnight, so a span of yesterday may still be open.
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

-- The stores that are closed now by their hours. A store without weekly hours is closed on its holidays only.
create view vestnik.vst_closed_now as
    select s.id as store_id from vestnik.vst_store s cross join lateral (select (clock_timestamp() at time zone s.time_zone)::date as day) today
    where (exists (select from vestnik.vst_opening_hours o where o.store_id = s.id)
            or exists (select from vestnik.vst_holiday h where h.store_id = s.id
                and (h.day = today.day and not h.yearly or h.yearly and to_char(h.day, 'MMDD') = to_char(today.day, 'MMDD'))))
        and not exists (select from vestnik.vst_open_now n where n.store_id = s.id);

-- Pauses: the store takes no new orders for a while. The engine refuses no order: the shop's application reads
-- `vst_paused_now`. A row exists from the event `store_paused` to the event `store_resumed`.
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

-- The stop list: items that a store is out of. The shop's application reads `vst_out_of_stock_now`. A row exists from
-- the event `item_out_of_stock` to the event `item_in_stock`.
create table vestnik.vst_out_of_stock (
    store_id   text        not null check (octet_length(store_id) between 1 and 200),
    item       text        not null check (length(item) between 1 and 200),
    since      timestamptz not null default clock_timestamp(),
    -- null: the item is out of stock until a person removes it from the list
    until      timestamptz,
    stopped_by text,
    primary key (store_id, item)
);
create index vst_out_of_stock_until on vestnik.vst_out_of_stock (until);

-- The items that the stores are out of now.
create view vestnik.vst_out_of_stock_now as
    select store_id, item, since, until, stopped_by from vestnik.vst_out_of_stock
    where until is null or until > clock_timestamp();

-- The running nodes. A node whose heartbeat is overdue counts as ended. Then its rows in the tables below do not count
-- either.
create table vestnik.vst_node (
    id            text        not null primary key,
    until         timestamptz not null,
    clock_ahead_s float8      not null default 0   -- difference between the node's clock and that of Postgres
);

-- The stores that have a panel on a node that can ring: the tab is open, and its sound is on.
create table vestnik.vst_presence (
    node_id  text not null references vestnik.vst_node (id) on delete cascade,
    store_id text not null,
    primary key (node_id, store_id)
);
create index vst_presence_store on vestnik.vst_presence (store_id);

-- Alarms: a store is open, and no panel or chat could receive an order.
create table vestnik.vst_alarm (
    id         bigint      not null generated always as identity primary key,
    store_id   text        not null references vestnik.vst_store (id) on delete cascade,
    raised_at  timestamptz not null default clock_timestamp(),
    cleared_at timestamptz,
    cleared_by text check (cleared_by in ('panel', 'closing'))
);
create unique index vst_alarm_open on vestnik.vst_alarm (store_id) where cleared_at is null;

-- The time since which an open store has been unattended. A short absence, such as a reload of the page, raises no
-- alarm.
create table vestnik.vst_unattended (
    store_id text        not null primary key references vestnik.vst_store (id) on delete cascade,
    since    timestamptz not null default clock_timestamp()
);

-- Durable sends. An event becomes one delivery for each chat, from a stored cursor, so that downtime loses nothing; any
-- node sends enqueued deliveries. Telegram's rate limits are counted here, for all nodes together.

-- The cursor of the newest enqueued event, in the format of clients' cursors. Empty: no event of the journal has been
-- enqueued.
create table vestnik.vst_delivery_cursor (
    sole   boolean not null default true primary key check (sole),
    cursor text    not null default ''
);
insert into vestnik.vst_delivery_cursor default values;

-- Telegram chats. A chat has two lanes, messages and edits, each with at most one send in progress, which keeps its
-- order: `fence` numbers the sends, and a send with an older number cannot be completed. A lane is read when
-- a delivery is enqueued (`waiting`), and when its first delivery is due (`wakes_at`).
create table vestnik.vst_chat (
    id            bigint        not null generated always as identity primary key,
    telegram_id   bigint        not null unique,
    title         text,
    waiting       boolean       not null default false,      -- true: a delivery may be waiting for this chat
    next_at       timestamptz   not null default now(),      -- the earliest time of the next send
    recent        timestamptz[] not null default '{}',       -- when the newest sends ended, the oldest first
    failures      int           not null default 0,          -- the number of consecutive failed sends
    fence         bigint        not null default 0,
    leased_until  timestamptz   not null default '-infinity',
    leased_by     text,                                      -- the node that is sending to this chat
    wakes_at      timestamptz,
    edits         timestamptz[] not null default '{}',       -- the times in `recent` that were edits
    edit_next_at  timestamptz   not null default now(),
    edit_wakes_at timestamptz,
    edit_leased_until timestamptz not null default '-infinity',
    edit_leased_by text,
    edit_fence    bigint        not null default 0,
    error         text,                                      -- the error of the newest failed send
    error_at      timestamptz,
    error_thread  int,                                       -- the topic that the send was for
    disabled_at   timestamptz,
    disabled_why  text,
    tries         timestamptz[] not null default '{}',       -- times of the newest attempts to use a code
    first_seen_at timestamptz   not null default now()
);
create index vst_chat_messages on vestnik.vst_chat (next_at) where waiting or wakes_at is not null;
create index vst_chat_edits on vestnik.vst_chat (edit_next_at) where waiting or edit_wakes_at is not null;

-- The chats of a store, with the mode of each.
create table vestnik.vst_chat_link (
    chat_id     bigint      not null references vestnik.vst_chat (id) on delete cascade,
    store_id    text        not null references vestnik.vst_store (id) on delete cascade,
    mode        text        not null check (mode in ('mirror', 'fallback', 'manager')),
    language    text        not null,
    muted_until timestamptz not null default '-infinity',
    linked_at   timestamptz not null default clock_timestamp(),
    linked_by   bigint      not null,         -- the Telegram id of the person who linked the chat
    thread_id   int,                          -- the topic; null: the chat, or its general topic
    quiet_from  time,                         -- start of the hours without sound, in the store's time zone
    quiet_to    time,
    blocked_at  timestamptz,                  -- the time since which the bot may not write to this chat
    blocked_why text,
    blocked_until timestamptz not null default '-infinity',   -- the time of the next try to write to this chat
    check ((quiet_from is null) = (quiet_to is null)),
    primary key (chat_id, store_id)
);
create index vst_chat_link_store on vestnik.vst_chat_link (store_id);

-- Codes that link a chat, saved as their SHA-256; each is valid once.
create table vestnik.vst_link_code (
    hash       bytea       not null primary key check (octet_length(hash) = 32),
    store_id   text        not null references vestnik.vst_store (id) on delete cascade,
    mode       text        not null check (mode in ('mirror', 'fallback', 'manager')),
    language   text        not null,
    expires_at timestamptz not null,
    used_at    timestamptz
);

-- The bot: the node that polls for all nodes, the newest update, and the reason and token of a stop.
create table vestnik.vst_bot (
    sole         boolean     not null default true primary key check (sole),
    poller       text,                              -- the id of the polling node in vst_bot_node
    polled_at    timestamptz,                       -- the newest poll that Telegram answered
    conflict_at  timestamptz,                       -- the newest 409: another program polls, or a webhook is set
    error        text,                              -- the error of the newest request to Telegram; null: the request was answered
    error_at     timestamptz,
    next_update  bigint      not null default 0,
    stopped_at   timestamptz,
    stopped_why  text,
    stopped_hash bytea,                             -- the SHA-256 of the token with which the bot was stopped
    number       bigint                             -- the bot's Telegram id: another bot has other update ids
);
insert into vestnik.vst_bot default values;

-- The nodes with a bot, each with the backend of its own connection: this connection ends with the node's process.
-- Every node writes its row again each second, so a crash of Postgres may empty the table.
create unlogged table vestnik.vst_bot_node (
    id      text        not null primary key,
    pid     int         not null,             -- the process id of the backend
    seen_at timestamptz not null
);

-- Updates of Telegram (messages and button presses) that are not handled yet.
create table vestnik.vst_bot_update (
    id       bigint      not null primary key,            -- Telegram's id of the update
    body     text        not null,                        -- the JSON of the update, as text because jsonb refuses some JSON
    taken_at timestamptz not null default clock_timestamp()
);

-- The bot's limit of sends a second: a send takes a slot before it begins, and the slot is
-- free again a second after the send ended. So no second has more sends than there are slots, on all nodes together.
create table vestnik.vst_bot_slot (
    slot    int         not null primary key,
    free_at timestamptz not null default '-infinity'
);
insert into vestnik.vst_bot_slot (slot) select generate_series(1, 30);

-- Durable sends: an event, an additional message about an event, an alarm, a reply to a command, or new buttons for a
-- message.
create table vestnik.vst_delivery (
    id           bigint      not null generated always as identity primary key,
    chat_id      bigint      not null references vestnik.vst_chat (id) on delete cascade,
    store_id     text,
    event_id     bigint      references vestnik.vst_event (id) on delete cascade,
    alarm_id     bigint      references vestnik.vst_alarm (id) on delete cascade,
    alarm_ends   boolean,                           -- true: the alarm is over
    words        text,                              -- the text of a reply to a command
    subject      text,                              -- the order that the message is about: the number of its source and its key, `1 123`
    urgent       boolean     not null,              -- sent before deliveries that are not urgent
    stale        boolean     not null default false,-- true: the event was old already when it was enqueued, so it is sent in a digest
    missed       boolean     not null default false,-- true: the chat accepted no messages when the event happened
    state        text        not null default 'pending' check (state in ('pending', 'sending', 'retrying', 'sent', 'dead')),
    reason       text,                              -- the reason for the retry or for the dead letter
    waits_since  timestamptz not null default clock_timestamp(),   -- the time of the event, or of the request for this message
    attempts     int         not null default 0,
    fence        bigint,                            -- the value of the chat's `fence` when the delivery was claimed
    completed_at timestamptz,
    due_at       timestamptz not null default '-infinity',
    failures     int         not null default 0,    -- consecutive failures for which Telegram was reached
    refusals     int         not null default 0,    -- 1: sent without markup; 2: also without buttons
    thread_id    int,                               -- the topic of a reply
    buttons      jsonb,                             -- the buttons of a reply
    alone        boolean     not null default false,-- a person requested it: sent as a message of its own, not in a digest
    keyboard     jsonb,                             -- new buttons for an existing message
    is_list      boolean     not null default false,-- the message is a list of orders: its buttons are those of `vst_list_button`
    message_id   int,                               -- that message, or the one that the words replace
    note         text        check (note in ('cancelled', 'unanswered', 'late', 'shown')),   -- an additional message about the order
    about_id     bigint      references vestnik.vst_event (id) on delete cascade,   -- the event that the additional message is about
    step         smallint,                          -- the escalation step that enqueued it
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
create index vst_delivery_subject on vestnik.vst_delivery (chat_id, subject);
-- Indexes for the clean-up. Without them, each trimmed event would cost a read of the whole table.
create index vst_delivery_words on vestnik.vst_delivery (waits_since) where words is not null;

-- The message of an order in a chat. A change of the order's status edits this message.
create table vestnik.vst_message (
    chat_id    bigint      not null references vestnik.vst_chat (id) on delete cascade,
    store_id   text        not null,
    subject    text        not null,
    event_id   bigint      not null references vestnik.vst_event (id) on delete cascade,  -- the event that the message shows
    message_id int         not null,
    asked_at   timestamptz,                     -- when the bot asked for the reason of a rejection
    sent_at    timestamptz not null default clock_timestamp(),
    primary key (chat_id, store_id, subject)
);
create index vst_message_event on vestnik.vst_message (event_id);

-- The buttons of digests and of other lists of orders. Each opens one order.
create table vestnik.vst_list_button (
    chat_id    bigint not null references vestnik.vst_chat (id) on delete cascade,
    message_id int    not null,                     -- of the list
    event_id   bigint not null references vestnik.vst_event (id) on delete cascade,
    store_id   text   not null,
    subject    text   not null,                     -- the order: the source's number and the key
    label      text   not null,
    until      text   not null check (until in ('answered', 'closed')),   -- the button is shown until the order is so
    primary key (chat_id, message_id, event_id)
);
create index vst_list_button_subject on vestnik.vst_list_button (store_id, subject);
create index vst_list_button_event on vestnik.vst_list_button (event_id);

-- The escalation of an unanswered order: its last step, and the time of the next.
create table vestnik.vst_escalation (
    event_id bigint      not null primary key references vestnik.vst_event (id) on delete cascade,
    store_id text        not null,
    subject  text        not null,
    step     smallint    not null default 0,        -- 1: panels ring again, 2: fallback chats, 3: manager, 4: webhook
    due_at   timestamptz not null,
    is_held  boolean     not null default false,    -- true: the escalation begins when the store opens
    ended_at timestamptz,
    outcome  text        check (outcome in ('answered', 'removed', 'exhausted'))
);
create index vst_escalation_due on vestnik.vst_escalation (due_at) where ended_at is null;
create index vst_escalation_subject on vestnik.vst_escalation (subject);

-- Orders in preparation with their promised times. A late order is reported once.
create table vestnik.vst_promise (
    store_id text        not null,
    subject  text        not null,
    event_id bigint      not null references vestnik.vst_event (id) on delete cascade,
    due_at   timestamptz not null,
    minutes  integer,                              -- the promised minutes; null: the time is the customer's wish
    is_told  boolean     not null default false,   -- the chats were told that the order is late
    primary key (store_id, subject)
);
create index vst_promise_due on vestnik.vst_promise (due_at) where not is_told;
create index vst_promise_event on vestnik.vst_promise (event_id);

-- Signed requests to a store's webhook. A failed request is retried for a day.
create table vestnik.vst_webhook (
    event_id     bigint      not null primary key references vestnik.vst_event (id) on delete cascade,
    store_id     text        not null,
    state        text        not null default 'pending' check (state in ('pending', 'sending', 'retrying', 'sent', 'dead')),
    reason       text,
    attempts     int         not null default 0,
    due_at       timestamptz not null default now(),
    leased_until timestamptz not null default '-infinity',
    fence        bigint      not null default 0,
    completed_at timestamptz
);
create index vst_webhook_due on vestnik.vst_webhook (due_at) where state in ('pending', 'sending', 'retrying');

-- Addresses to which events are posted as they are committed. A cursor tells which events an address has, so a waiting
-- event is only in the journal, where it can be erased.
create table vestnik.vst_webhook_endpoint (
    id            bigint      not null generated always as identity primary key,
    key           text        not null default replace(gen_random_uuid()::text, '-', ''),   -- makes a message's id unique among databases
    url           text        not null check (url ~ '^https?://'),
    secret        text        not null check (octet_length(secret) >= 16),   -- signs the posts, so it cannot be hashed
    secret_old    text        check (octet_length(secret_old) >= 16),        -- signs, too, until the rotation is finished
    stores        text[]      check (cardinality(stores) > 0),               -- null: every store
    types         text[]      check (cardinality(types) > 0),                -- null: every type of event
    cursor        text        not null,
    handled       bigint,                                -- the last event that was posted or skipped, if the cursor does not cover it yet
    resync_reason text,                                  -- the reason why events may be missing, which is posted to the address first; null: no event is missing
    resyncs       int         not null default 0,
    attempts      int         not null default 0,        -- the number of consecutive failed posts
    refusals      int         not null default 0,        -- the number of these failed posts that the address refused
    failing_since timestamptz,
    reason        text,                                  -- the reason of the newest failure
    due_at        timestamptz not null default now(),
    leased_until  timestamptz not null default '-infinity',
    fence         bigint      not null default 0,
    stopped_at    timestamptz,                           -- nothing is posted until `vestnik webhook resume`
    sent          bigint      not null default 0,
    given_up      bigint      not null default 0,        -- the number of events that the address refused, and that were skipped
    sent_at       timestamptz,
    created_at    timestamptz not null default now()
);
