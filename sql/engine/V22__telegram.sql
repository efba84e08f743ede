-- Telegram: a failure delays only what it concerns; edits have a budget of their own; topics; who is told that a chat
-- takes nothing.

-- The nodes that have a bot, each with the backend of its own session: a node whose process ends loses its session at once.
-- Every node writes its row again each second, so a crash of Postgres may empty the table.
create unlogged table vestnik.bot_node (
    id      text        not null primary key,
    pid     int         not null,             -- of the backend
    seen_at timestamptz not null
);

-- What people wrote and pressed: taken from Telegram, not dealt with yet.
create table vestnik.bot_update (
    id       bigint      not null primary key,            -- Telegram's number
    body     text        not null,                        -- its JSON; not jsonb, which refuses some of it
    taken_at timestamptz not null default clock_timestamp()
);

-- The poller is a row of bot_node now, so its lease needs no end.
alter table vestnik.bot
    drop column polls_until,
    add column polled_at   timestamptz,                   -- the newest poll that Telegram answered
    add column conflict_at timestamptz,                   -- the newest 409: another program polls, or a webhook is set
    add column error       text,                          -- why Telegram was not reached; null: it was, the last time
    add column error_at    timestamptz;

-- A chat has two lanes, messages and edits, each with a send of its own under way at most. A lane is looked at when
-- something is planned (`waiting`), and when its first delivery is due (`wakes_at`).
alter table vestnik.chat
    add column leased_by         text,                                      -- the node
    add column wakes_at          timestamptz,
    add column edits             timestamptz[] not null default '{}',       -- of `recent`, those that were edits
    add column edit_next_at      timestamptz   not null default now(),
    add column edit_wakes_at     timestamptz,
    add column edit_leased_until timestamptz   not null default '-infinity',
    add column edit_leased_by    text,
    add column edit_fence        bigint        not null default 0,
    add column error             text,                                      -- of the newest send that failed
    add column error_at          timestamptz;
drop index vestnik.chat_waiting;
create index chat_messages on vestnik.chat (next_at) where waiting or wakes_at is not null;
create index chat_edits on vestnik.chat (edit_next_at) where waiting or edit_wakes_at is not null;
update vestnik.chat set waiting = true where disabled_at is null;

-- A delivery that failed waits by itself, and stands before no other one of its chat.
alter table vestnik.delivery
    add column due_at     timestamptz not null default '-infinity',
    add column failures   int         not null default 0,     -- in a row, though Telegram was reached
    add column refusals   int         not null default 0,     -- 1: it goes without markup; 2: without buttons
    add column thread_id  int,                                -- of an answer: the topic
    add column keyboard   jsonb,                              -- buttons for a message that is there
    add column message_id int,                                -- that message
    add column note       text check (note in ('cancelled', 'unanswered')),   -- a message beside the order's own, that sounds
    add column about_id   bigint references vestnik.event (id) on delete cascade,   -- and the event that it is about
    add column step       smallint,                           -- the step of an escalation that brought the order here
    drop constraint delivery_check,
    add constraint delivery_check check (num_nonnulls(event_id, alarm_id, words, keyboard, note) = 1),
    add constraint delivery_about_check check ((note is null) = (about_id is null)),
    add constraint delivery_keyboard_check check ((keyboard is null) = (message_id is null));
create index delivery_keyboard on vestnik.delivery (chat_id, message_id) where keyboard is not null;
create unique index delivery_note on vestnik.delivery (about_id, chat_id, note);

-- A link may be to a topic; and it is blocked while the bot may not write there.
alter table vestnik.link
    add column thread_id     int,                                            -- the topic; null: the chat, or its general topic
    add column quiet_from    time,                                           -- no sound from then on, by the store's clock
    add column quiet_to      time,
    add column blocked_at    timestamptz,
    add column blocked_why   text,
    add column blocked_until timestamptz not null default '-infinity',       -- the next try
    add constraint link_quiet_check check ((quiet_from is null) = (quiet_to is null));

-- The days on which a store's hours are others than the week's; without opens it is closed.
create table vestnik.holiday (
    store_id text    not null references vestnik.store (id) on delete cascade,
    day      date    not null,                  -- of each year: in the year 2000
    yearly   boolean not null default false,
    opens    time,
    closes   time,
    check ((opens is null) = (closes is null)),
    unique (store_id, day, yearly, opens)
);

-- The stores that are open now, by their own clocks. A span that closes at or before it opens goes on after midnight, so
-- yesterday's may still be open.
create view vestnik.open_now as
    select s.id as store_id
    from vestnik.store s cross join lateral (select clock_timestamp() at time zone s.time_zone as at) now
    where exists (
        select from (values (now.at::date, true), (now.at::date - 1, false)) d (day, is_today)
        cross join lateral (
            select h.opens, h.closes from vestnik.holiday h
            where h.store_id = s.id and (h.day = d.day and not h.yearly or h.yearly and to_char(h.day, 'MMDD') = to_char(d.day, 'MMDD'))
            union all
            select o.opens, o.closes from vestnik.opening o
            where o.store_id = s.id and o.weekday = extract(isodow from d.day)
                and not exists (select from vestnik.holiday h where h.store_id = s.id
                    and (h.day = d.day and not h.yearly or h.yearly and to_char(h.day, 'MMDD') = to_char(d.day, 'MMDD')))) span
        where case when d.is_today then now.at::time >= span.opens and (now.at::time < span.closes or span.closes <= span.opens)
                   else span.closes <= span.opens and now.at::time < span.closes end);

-- Who is to hear orders while a store is open: a panel, or the chats that get each order, where there is no panel.
alter table vestnik.store add column attended_by text not null default 'panel' check (attended_by in ('panel', 'chats'));

-- While a store is closed, nobody is woken for its orders, unless it says so: their escalations wait until it opens.
alter table vestnik.store add column escalates text not null default 'open' check (escalates in ('open', 'always'));
alter table vestnik.escalation add column is_held boolean not null default false;

-- A webhook's secret of before signs beside the new one until the change is over. Which addresses may be called is a setting.
alter table vestnik.store
    add column webhook_secret_old text check (octet_length(webhook_secret_old) >= 16);
