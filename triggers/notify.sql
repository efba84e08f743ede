-- Notifications wake an idle node, and carry no data: nodes read events from the journal.
--
-- The trigger functions run with the search path of the writer, so each name here states its schema, and each operator
-- too. A search path of their own would make each write of an order about a tenth slower.

-- Whether writers notify at all. `vestnik migrate` writes the setting `database.notify` into the body. Postgres inlines
-- the function, so a call costs nothing.
do $$
begin
    if to_regprocedure('vestnik.vst_notify_enabled()') is null then
        execute 'create function vestnik.vst_notify_enabled() returns boolean language sql immutable parallel safe as ''select true''';
    end if;
end $$;

-- The two advisory locks of NOTIFY suppression (docs/notify-suppression.md) share the first half of their keys. This
-- function returns that half. `vestnik migrate` writes the setting `database.notify_lock_key` into the body.
do $$
begin
    if to_regprocedure('vestnik.vst_notify_lock_key()') is null then
        execute 'create function vestnik.vst_notify_lock_key() returns integer language sql immutable parallel safe as ''select 1986356084''';
    end if;
end $$;

-- Whether a transaction that has written an event must notify. While a node polls anyway, writers do not notify,
-- because a notification makes a transaction hold a cluster-wide lock through its flush. A polling node holds the
-- writer lock exclusively or waits for it, so a writer's shared request is denied. The writer must request the lock
-- after it wrote the event. Then a denied writer has a transaction id, and nodes wait for that transaction before they
-- go idle.
create or replace function vestnik.vst_should_notify() returns boolean
language sql volatile as $$
    select vestnik.vst_notify_enabled()
       and pg_catalog.pg_try_advisory_xact_lock_shared(vestnik.vst_notify_lock_key(), 1)
$$;

-- Notifies the nodes of events that the engine writes itself. The trigger functions contain the same code. The function
-- need not remember whether its transaction has notified: Postgres sends equal notifications of a transaction once.
create or replace function vestnik.vst_notify() returns void
language plpgsql as $$
begin
    if vestnik.vst_should_notify() then
        perform pg_catalog.pg_notify('vestnik', '');
    end if;
end $$;

revoke all on function vestnik.vst_should_notify(), vestnik.vst_notify() from public;
-- Nodes call these two functions under any role, so every role may execute them.
grant execute on function vestnik.vst_notify_enabled(), vestnik.vst_notify_lock_key() to public;
