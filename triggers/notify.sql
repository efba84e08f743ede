-- Notifications wake an idle node, and carry no data: nodes read events from the journal.
--
-- Every name here has its schema, operators too: the trigger functions run with the search path of the writer. Setting
-- another search path would cost each order a tenth of its time.

-- Whether writers notify at all. `vestnik migrate` writes `database.notify` into the body; Postgres inlines it at no
-- cost.
do $$
begin
    if to_regprocedure('vestnik.vst_notify_enabled()') is null then
        execute 'create function vestnik.vst_notify_enabled() returns boolean language sql immutable parallel safe as ''select true''';
    end if;
end $$;

-- The first half of the keys of the two advisory locks of NOTIFY suppression: docs/notify-suppression.md. `vestnik
-- migrate` writes `database.notify_lock_key` into the body.
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

-- Notifies for events that the engine writes itself. The trigger functions contain the same code. Postgres sends equal
-- notifications of one transaction once, so no state is needed, and no setting can suppress them.
create or replace function vestnik.vst_notify() returns void
language plpgsql as $$
begin
    if vestnik.vst_should_notify() then
        perform pg_catalog.pg_notify('vestnik', '');
    end if;
end $$;

revoke all on function vestnik.vst_should_notify(), vestnik.vst_notify() from public;
-- Every node calls these two functions.
grant execute on function vestnik.vst_notify_enabled(), vestnik.vst_notify_lock_key() to public;
