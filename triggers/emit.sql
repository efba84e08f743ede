-- Appends events and rings the bell: what every attached table's trigger calls.
--
-- Nothing here may make a shop's valid write fail because of its content, so what a shop may replace (its payload
-- function) is called inside an exception block, and what does not fit is left out rather than refused. The blocks
-- write nothing: a subtransaction that writes would cost a transaction number for every order.

-- Whether the bell rings at all. `vestnik migrate` replaces the body with `false` where `database.notify = "off"`;
-- being inlined, it costs nothing.
do $$
begin
    if to_regprocedure('vestnik.rings()') is null then
        execute 'create function vestnik.rings() returns boolean language sql immutable parallel safe as ''select true''';
    end if;
end $$;

-- The first half of the keys of the two advisory locks that say whether anybody must be rung for: docs/bell.md. `vestnik
-- migrate` puts `database.bell_lock` there.
do $$
begin
    if to_regprocedure('vestnik.bell_lock()') is null then
        execute 'create function vestnik.bell_lock() returns integer language sql immutable parallel safe as ''select 1986356084''';
    end if;
end $$;

-- Rings: the one place where a notification is sent, and at most one for a transaction. All of a transaction is
-- delivered at its commit anyway, and what the notification says is only where to look. The mark is a setting local to
-- the transaction, so a savepoint that is rolled back takes back the mark together with the notification and the lock.
--
-- Notifications pass one lock, cluster-wide, through the commit's flush: so none is sent where a node reads anyway. That
-- node holds the lock exclusively, or waits for it; then a shared one is refused. It must be asked for after the event
-- was written: whoever is refused has a transaction number by then, and the nodes wait for that one before they sleep.
-- It comes before the mark: where many write at once it is refused, and a setting is looked for among hundreds.
create or replace function vestnik.must_ring() returns boolean
language sql volatile as $$
    select case when vestnik.rings()
        then case when pg_catalog.pg_try_advisory_xact_lock_shared(vestnik.bell_lock(), 1)
                  then pg_catalog.current_setting('vestnik.rung', true) is distinct from pg_catalog.pg_current_xact_id()::text
                  else false end
        else false end
$$;

-- For the event that was written last.
create or replace function vestnik.send_ring(store text, type text) returns void
language plpgsql as $$
declare
    xid constant text := pg_catalog.pg_current_xact_id()::text;
begin
    perform pg_catalog.set_config('vestnik.rung', xid, true);
    perform pg_catalog.pg_notify('vestnik', pg_catalog.json_build_object(
        'id', pg_catalog.currval('vestnik.event_id_seq')::text, 'xid', xid, 'store', store, 'type', type)::text);
end $$;

create or replace function vestnik.ring(id bigint, xid xid8, store text, type text) returns void
language plpgsql as $$
begin
    if vestnik.must_ring() then
        perform vestnik.send_ring(store, type);
    end if;
end $$;

-- Whether this transaction asked for silence and may: migrations rewrite statuses that did not change. Only a role
-- that owns the schema is believed.
create or replace function vestnik.is_quiet() returns boolean
language sql stable as $$
    select pg_catalog.current_setting('vestnik.quiet', true) = 'on'
           and coalesce(pg_catalog.pg_has_role(session_user, n.nspowner, 'usage'), false)
    from pg_catalog.pg_namespace n where n.nspname = 'vestnik'
$$;

-- A store's key as text; null, which nobody receives, where it is longer than an index can hold.
create or replace function vestnik.store_key(key text) returns text
language sql immutable parallel safe as $$
    select case when pg_catalog.octet_length(key) <= 200 then key end
$$;

-- What is certain about an event over what the payload function says, within 4 MiB: first the items go, then the rest.
create or replace function vestnik.event_data(payload jsonb, certain jsonb) returns jsonb
language plpgsql immutable parallel safe as $$
begin
    if payload is null or pg_catalog.jsonb_typeof(payload) <> 'object' then
        return certain;
    end if;
    if pg_catalog.pg_column_size(payload) > 4194304 then
        payload := (payload - 'items') || '{"items_omitted": true}';
        if pg_catalog.pg_column_size(payload) > 4194304 then
            payload := '{"payload_omitted": true}';
        end if;
    end if;
    return payload || certain;
end $$;

-- Takes functions of ours away from everybody but the schema's owner: what ends each of these files.
create or replace function vestnik.keep_private(names name[]) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    ours regprocedure;
begin
    for ours in select oid from pg_proc where pronamespace = 'vestnik'::regnamespace and proname = any (names)
    loop
        execute format('revoke all on function %s from public', ours);
    end loop;
end $$;

-- Every node asks for these two.
grant execute on function vestnik.rings(), vestnik.bell_lock() to public;
select vestnik.keep_private('{must_ring, send_ring, ring, is_quiet, store_key, event_data, keep_private}');
