-- What a token allows, who holds it, and which words it stands behind.

alter table vestnik.token
    add column scope   text not null default 'panel' check (scope in ('read', 'panel', 'manager', 'operator')),
    add column issuer  text,                -- who signs the JWTs of this holder, of whom `label` is the subject; null: a token of our own
    add column used_at timestamptz;         -- when it was used last, within a minute; null: never

-- Of whoever answered, acknowledged or reported: what stands beside it is a name that somebody claimed.
alter table vestnik.answer add column token_id bigint;      -- null: a press in Telegram, whose people have numbers of their own
alter table vestnik.reach add column token_id bigint not null default 0;   -- 0: no token's, a chat or a webhook
-- Two tokens may claim one name, and neither speaks for the other.
alter table vestnik.reach drop constraint reach_pkey, add primary key (event_id, way, recipient, token_id);
-- A token whose row is deleted has answered all the same.
alter table vestnik.ack drop constraint ack_token_id_fkey;

-- The sessions that each token has on each node, as the nodes say now and then. A node that is gone says nothing more.
create table vestnik.token_use (
    node     text        not null primary key,
    until    timestamptz not null,
    tokens   bigint[]    not null,
    sessions int[]       not null
);

-- Whatever changes what a token opens, by whatever way, is known to every node at once.
create function vestnik.token_changed() returns trigger language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    perform pg_notify('vestnik_token', '');
    return null;
end $$;
create trigger token_changed
    after update of hash, stores, scope, expires_at, revoked_at or delete or truncate on vestnik.token
    for each statement execute function vestnik.token_changed();
