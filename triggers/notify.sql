-- Notifications: they wake a node that waits, and say nothing. What a partner receives is read from the journal.
--
-- Everything here is named with its schema, operators too: the trigger functions run with the search path of whoever
-- writes an order, for to set another one would cost each order a tenth of its time.

-- Whether writers notify at all. `vestnik migrate` writes `database.notify` into the body; it is inlined and costs nothing.
do $$
begin
    if to_regprocedure('vestnik.vst_notify_enabled()') is null then
        execute 'create function vestnik.vst_notify_enabled() returns boolean language sql immutable parallel safe as ''select true''';
    end if;
end $$;

-- The first half of the keys of the two advisory locks of NOTIFY suppression: docs/notify-suppression.md. `vestnik migrate`
-- writes `database.notify_lock_key` into the body.
do $$
begin
    if to_regprocedure('vestnik.vst_notify_lock_key()') is null then
        execute 'create function vestnik.vst_notify_lock_key() returns integer language sql immutable parallel safe as ''select 1986356084''';
    end if;
end $$;

-- Whether a transaction that has written an event must notify. A transaction that notified holds one cluster-wide lock
-- through its flush, so writers do not notify while a node reads anyway: that node holds the writer lock exclusively, or
-- waits for it, and a shared one is refused. It must be asked for after the event was written: whoever is refused has a
-- transaction number by then, and the nodes wait for that one before they go idle.
create or replace function vestnik.vst_should_notify() returns boolean
language sql volatile as $$
    select vestnik.vst_notify_enabled()
       and pg_catalog.pg_try_advisory_xact_lock_shared(vestnik.vst_notify_lock_key(), 1)
$$;

-- For events that the engine writes itself; a trigger does the same in its own text. Postgres sends equal notifications of
-- one transaction once, so there is nothing to remember, and no setting by which anybody could silence them.
create or replace function vestnik.vst_notify() returns void
language plpgsql as $$
begin
    if vestnik.vst_should_notify() then
        perform pg_catalog.pg_notify('vestnik', '');
    end if;
end $$;

revoke all on function vestnik.vst_should_notify(), vestnik.vst_notify() from public;
-- Every node asks for these two.
grant execute on function vestnik.vst_notify_enabled(), vestnik.vst_notify_lock_key() to public;
