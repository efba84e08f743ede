-- The proof of the alert: who was reached by an event, by which way, when; and who answered for it.

-- One row for each event and way that it went. A panel's row begins when the panel has said that it is one.
create table vestnik.reach (
    event_id        bigint      not null references vestnik.event (id) on delete cascade,
    way             text        not null check (way in ('websocket', 'sse', 'polling', 'telegram', 'webhook')),
    recipient       text        not null,     -- the session, or the chat
    sent_at         timestamptz,
    rendered_at     timestamptz,              -- the panel's word: it stands on the screen
    rung_at         timestamptz,              -- the panel's word: the sound really played
    acknowledged_at timestamptz,
    acknowledged_by text,
    primary key (event_id, way, recipient)
);

-- Who changed an order's status by a button, of a panel or of Telegram: what a second press is told.
create table vestnik.answer (
    id       bigint      not null generated always as identity primary key,
    store_id text        not null,
    kind     text        not null check (kind in ('order', 'booking')),
    key      text        not null,            -- the order's or booking's id
    previous text        not null,
    status   text        not null,
    way      text        not null check (way in ('panel', 'telegram')),
    by_whom  text        not null,
    at       timestamptz not null default clock_timestamp()
);
create index answer_of on vestnik.answer (store_id, kind, key, id desc);
