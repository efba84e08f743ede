-- Who may open a stream, and who answered for an event.

-- A token is kept as its SHA-256 only: whoever reads this table can open nothing.
create table vestnik.token (
    id         bigint      not null generated always as identity primary key,
    hash       bytea       not null unique check (octet_length(hash) = 32),
    label      text,
    stores     text[],                      -- null: every store
    created_at timestamptz not null default now(),
    expires_at timestamptz,                 -- null: never
    revoked_at timestamptz
);

-- An acknowledgement: which token's holder said, over which session, that this event has been seen.
-- The first word counts; saying it again changes nothing.
create table vestnik.ack (
    event_id bigint      not null references vestnik.event (id) on delete cascade,
    token_id bigint      not null references vestnik.token (id),
    session  text        not null,
    at       timestamptz not null default clock_timestamp(),
    primary key (event_id, token_id)
);
