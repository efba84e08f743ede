-- Writes the trigger functions of one table. Each names the table's columns as they are, so that nothing is looked up while
-- an order waits.
--
-- Triggers fire once a statement, with all rows at hand: for many rows that costs about half of firing for each row.
-- Partitioned tables fire for each row, because a statement that names a partition fires the partition's triggers
-- only; so do deferred ones, because Postgres defers no statement trigger. A change of status counts whatever set it:
-- a column list would miss what another trigger sets.

-- The column of a change's reason, if the table has one.
create or replace function vestnik.reason_column(target text) returns text
language sql stable set search_path = pg_catalog, pg_temp as $$
    select attname from pg_attribute where attrelid = target::regclass and attname = 'reason' and not attisdropped
$$;

-- The expression of a change's type.
create or replace function vestnik.changed_type_sql(kind text, status_column text) returns text
language sql immutable as $$
    select format('case when n.%I::text = ''cancelled'' then %L else %L end', status_column, kind || '_cancelled', kind || '_status_changed')
$$;

-- What a change of status says.
create or replace function vestnik.changed_sql(target text, kind text, id_column text, status_column text) returns text
language sql stable set search_path = pg_catalog, pg_temp as $$
    select case kind when 'order' then vestnik.order_changed_sql(id_column, status_column, vestnik.reason_column(target))
                else format('vestnik.event_data(vestnik.booking_payload(n), %s)',
                            vestnik.booking_changed_sql(id_column, status_column, vestnik.reason_column(target))) end
$$;

-- What an insert and a change say of one row; a payload function that raises takes nothing with it. Stable, although a
-- payload function may not be: so the rows are told where they are read, without a node of the plan between. An insert's
-- rows come as any record: naming their type would set up each of its columns for every order, and the table may be
-- called otherwise by then. A former version's function of that type would be called in place of it, and is dropped.
create or replace function vestnik.content_sql(target text, kind text, id_column text, status_column text) returns text
language sql stable set search_path = pg_catalog, pg_temp as $$
    select format($sql$
drop function if exists %1$s(%2$s), %5$s(%2$s, %2$s);
create or replace function %1$s(told record) returns jsonb language plpgsql stable as $body$
declare
    n constant %2$s := told;
begin
    return vestnik.event_data(vestnik.%3$s_payload(n), %4$s);
exception when others then
    return %4$s || jsonb_build_object('payload_error', sqlstate);
end $body$;
create or replace function %5$s(o record, %9$s record) returns jsonb language plpgsql stable as $body$
%10$sbegin
    return %6$s;
exception when others then
    return %7$s || jsonb_build_object('payload_error', sqlstate);
end $body$;
-- Depends on the payload function, so that it is replaced, and never dropped from under the triggers.
create or replace function %8$s(n %2$s) returns jsonb language sql stable
begin atomic
    select vestnik.%3$s_payload(n);
end;
revoke all on function %1$s(record), %5$s(record, record), %8$s(%2$s) from public;$sql$,
        vestnik.emitter(target, 'inserted'), target, kind,
        case kind when 'order' then vestnik.order_inserted_sql(id_column, status_column)
                  else vestnik.booking_inserted_sql(id_column, status_column) end,
        vestnik.emitter(target, 'changed'),
        vestnik.changed_sql(target, kind, id_column, status_column),
        case kind when 'order' then vestnik.order_changed_sql(id_column, status_column, null)
                  else vestnik.booking_changed_sql(id_column, status_column, null) end,
        vestnik.emitter(target, 'payload'),
        -- Only a booking's change is told by its payload, too.
        case kind when 'order' then 'n' else 'told' end,
        case kind when 'order' then '' else format(E'declare\n    n constant %s := told;\n', target) end)
$$;

-- Whether a row can be told from these columns in the insert itself: only where telling them cannot raise.
create or replace function vestnik.are_plain(target text, columns text[]) returns boolean
language sql stable set search_path = pg_catalog, pg_temp as $$
    select bool_and(t.typtype = 'e' or format_type(t.oid, null) in (
        'bigint', 'integer', 'smallint', 'numeric', 'text', 'character varying', 'boolean', 'uuid', 'jsonb',
        'timestamp with time zone', 'date'))
    from pg_attribute a join pg_type t on t.oid = a.atttypid
    where a.attrelid = target::regclass and a.attname = any (columns) and not a.attisdropped
$$;

-- Whether the payload function is the one that we wrote, by the digest of its text. Called immutable, which it is not, so
-- that it is answered when a session plans the insert, and costs an order nothing.
create or replace function vestnik.payload_is(signature text, digest text) returns boolean
language sql immutable set search_path = pg_catalog, pg_temp as $$
    select coalesce((select md5(prosrc) = digest from pg_proc where oid = to_regprocedure(signature)), false)
$$;

-- What a new row says, told in the insert itself where our own payload function tells it and the row has everything: half
-- the cost of calling what tells any row. An expression is set up anew for every order, reached or not, so there is one
-- other branch, a call. It takes what is left: a null somewhere (a sum with one is null), a long row, a payload function
-- of the shop's own.
create or replace function vestnik.told_sql(target text, kind text, id_column text, status_column text) returns text
language sql stable set search_path = pg_catalog, pg_temp as $$
    select case when vestnik.are_plain(target, array_agg(c.name)) then
        format($sql$vestnik.planned_with(case when vestnik.payload_is(%1$L, %2$L) and %3$s <= 65536%4$s
                    then jsonb_build_object(%5$s%6$s) else %7$s(n.*) end, %8$s(row(n.*)))$sql$,
            format('vestnik.%s_payload(%s)', kind, target), md5(vestnik.payload_body(target, kind)),
            coalesce(string_agg(format('pg_column_size(n.%I)', c.name), ' + ' order by c.place, c.name) filter (where c.is_long), '0'),
            coalesce(string_agg(format(' and n.%I is not null', c.name), '' order by c.place, c.name) filter (where not c.is_long), ''),
            case kind when 'order' then format('''order_ids'', jsonb_build_array(n.%I::text), ', id_column) else '' end
                || format('%L, n.%I::text, ''status'', n.%I::text', kind || '_id', id_column, status_column),
            coalesce(string_agg(', ' || c.pair, '' order by c.place) filter (where c.pair is not null), ''),
            vestnik.emitter(target, 'inserted'), vestnik.emitter(target, 'payload'))
        else format('%s(n.*)', vestnik.emitter(target, 'inserted')) end
    from (select name, place, pair, is_long from vestnik.told_columns(target, kind, 'n')
          union all
          select a.attname, 0, null, a.attlen = -1 from pg_attribute a
          where a.attrelid = target::regclass and a.attname in (id_column, status_column)) c
$$;

-- The first, and nothing else: the second is gone once a plan is made, but whoever replaces a function that it names has
-- every session plan anew.
create or replace function vestnik.planned_with(told jsonb, unused jsonb) returns jsonb
language sql immutable parallel safe as $$ select told $$;

-- What a change of an order's status says, told in the insert itself where nothing can raise, and without its reason, which
-- few have: half the cost of the call. A booking's is told by its payload function.
create or replace function vestnik.told_change_sql(target text, kind text, id_column text, status_column text) returns text
language sql stable set search_path = pg_catalog, pg_temp as $$
    select case when kind = 'order' and vestnik.are_plain(target, array[id_column, status_column, 'reason']) then
        format($sql$case when n.%1$I is not null and n.%2$I is not null and o.%2$I is not null%3$s
                    then jsonb_build_object('order_id', n.%1$I::text, 'status', n.%2$I::text, 'previous_status', o.%2$I::text)
                    else %4$s(o.*, n.*) end$sql$, id_column, status_column,
            ' and n.' || vestnik.reason_column(target) || ' is null', vestnik.emitter(target, 'changed'))
        else format('%s(o.*, n.*)', vestnik.emitter(target, 'changed')) end
$$;

-- The trigger function for all rows of an INSERT at once, without an exception block: within one, a write costs a
-- transaction number of its own. What could raise is told within a block that writes nothing.
create or replace function vestnik.insert_statement_sql(
    target text, kind text, id_column text, store_column text, status_column text
) returns text
language sql stable set search_path = pg_catalog, pg_temp as $$
    select format($sql$
create or replace function %1$s() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $body$
begin
%6$s
    insert into vestnik.event (store_id, subject, type, data)
    select %2$s, %5$s, %3$L, %4$s from inserted_rows n;
    if found and vestnik.must_ring() then
        perform vestnik.send_ring((select %2$s from inserted_rows n limit 1), %3$L);
    end if;
    return null;
end $body$;
revoke all on function %1$s() from public;$sql$,
        vestnik.emitter(target, 'insert_statement'), vestnik.store_sql(target, store_column), 'new_' || kind,
        vestnik.told_sql(target, kind, id_column, status_column), vestnik.subject_sql(target, id_column),
        vestnik.rare_sql(target, kind, id_column, store_column, status_column,
            '(select null::text as before, (r.*)::text as after from inserted_rows r) r'))
$$;

-- The trigger function for all rows of an UPDATE at once. Both transition tables hold the rows in one order, so a row of
-- before and after are found by their places: what the table calls an id may not be unique, and may change. One row,
-- which is nearly every change, needs no places.
create or replace function vestnik.update_statement_sql(
    target text, kind text, id_column text, store_column text, status_column text
) returns text
language sql stable set search_path = pg_catalog, pg_temp as $$
    select format($sql$
create or replace function %1$s() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $body$
declare
    is_changed boolean;
    are_many boolean;
    rung record;
begin
%8$s
    -- One look at the first pair, which ends here for nearly every update that leaves the status as it is.
    select o.%3$I is distinct from n.%3$I, exists (select from new_rows offset 1) into is_changed, are_many
    from old_rows o, new_rows n;
    if not found or not is_changed and not are_many then
        return null;
    end if;
    if not are_many then
        insert into vestnik.event (store_id, subject, type, data)
        select %2$s, %7$s, %4$s, %9$s from old_rows o, new_rows n;
        if vestnik.must_ring() then
            perform vestnik.send_ring(%2$s, %4$s) from new_rows n;
        end if;
        return null;
    end if;
%6$s    with written as (
        insert into vestnik.event (store_id, subject, type, data)
        select %2$s, %7$s, %4$s, %5$s(o.vestnik_row, n.vestnik_row)
        from (select *, vestnik_r as vestnik_row, row_number() over () as vestnik_place from old_rows vestnik_r) o
        join (select *, vestnik_r as vestnik_row, row_number() over () as vestnik_place from new_rows vestnik_r) n
            using (vestnik_place)
        where o.%3$I is distinct from n.%3$I
        returning id, xid, store_id, type)
    select * into rung from written limit 1;
    if rung.id is not null then
        perform vestnik.ring(rung.id, rung.xid, rung.store_id, rung.type);
    end if;
    return null;
end $body$;
revoke all on function %1$s() from public;$sql$,
        vestnik.emitter(target, 'update_statement'), vestnik.store_sql(target, store_column), status_column,
        vestnik.changed_type_sql(kind, status_column), vestnik.emitter(target, 'changed'),
        -- An order's change is told by its own columns; a booking's by a payload function, row by row.
        case kind when 'booking' then '' else format($sql$    begin
        with written as (
            insert into vestnik.event (store_id, subject, type, data)
            select %1$s, %5$s, %3$s, %4$s
            from (select *, row_number() over () as vestnik_place from old_rows) o
            join (select *, row_number() over () as vestnik_place from new_rows) n using (vestnik_place)
            where o.%2$I is distinct from n.%2$I
            returning id, xid, store_id, type)
        select * into rung from written limit 1;
        if rung.id is not null then
            perform vestnik.ring(rung.id, rung.xid, rung.store_id, rung.type);
        end if;
        return null;
    exception when others then
        null;  -- What cannot be told all at once is told row by row.
    end;
$sql$, vestnik.store_sql(target, store_column), status_column, vestnik.changed_type_sql(kind, status_column),
            vestnik.changed_sql(target, kind, id_column, status_column), vestnik.subject_sql(target, id_column)) end,
        vestnik.subject_sql(target, id_column),
        vestnik.rare_sql(target, kind, id_column, store_column, status_column,
            $sql$(select (r.*)::text as before, row_number() over () as place from old_rows r) o
            join (select (r.*)::text as after, row_number() over () as place from new_rows r) n using (place)$sql$),
        vestnik.told_change_sql(target, kind, id_column, status_column))
$$;

-- The trigger function for one changed row.
create or replace function vestnik.update_row_sql(
    target text, kind text, id_column text, store_column text, status_column text
) returns text
language sql stable set search_path = pg_catalog, pg_temp as $$
    select format($sql$
create or replace function %1$s() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $body$
declare
    n alias for new;
    rung record;
begin
%6$s
    insert into vestnik.event (store_id, subject, type, data)
    values (%2$s, %5$s, %3$s, %4$s(old::%7$s, new::%7$s))
    returning id, xid, store_id, type into rung;
    perform vestnik.ring(rung.id, rung.xid, rung.store_id, rung.type);
    return null;
end $body$;
revoke all on function %1$s() from public;$sql$,
        vestnik.emitter(target, 'update_row'), vestnik.store_sql(target, store_column),
        vestnik.changed_type_sql(kind, status_column), vestnik.emitter(target, 'changed'),
        vestnik.subject_sql(target, id_column),
        vestnik.rare_sql(target, kind, id_column, store_column, status_column, '(select old::text as before, new::text as after) r'),
        target)
$$;

-- The trigger function for one inserted row. In a partitioned table a row that moves to another partition is a DELETE
-- and an INSERT of one command: the first leaves a note, and the second tells a change of status, or nothing. A partition
-- may have its columns in another order.
create or replace function vestnik.insert_row_sql(
    target text, kind text, id_column text, store_column text, status_column text
) returns text
language sql stable set search_path = pg_catalog, pg_temp as $$
    select format($sql$
create or replace function %1$s() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $body$
declare
    n alias for new;
    o record := new;
    note constant text := current_setting('vestnik.moved', true);
    moved text;
    what text := %3$L;
    content jsonb;
    rung record;
begin
%12$s
    if note <> '' then
        moved := vestnik.moved(%2$L, n.%4$I::text);
        perform set_config('vestnik.moved', '', true);
    end if;
    if starts_with(note, moved) then
        o.%5$I := substr(note, 1 + length(moved));
        if o.%5$I is not distinct from n.%5$I then
            return null;
        end if;
        what := %6$s;
        content := %7$s(o::%2$s, n::%2$s);
    else
        content := %8$s(n::%2$s);
    end if;
    insert into vestnik.event (store_id, subject, type, data) values (%9$s, %11$s, what, content)
    returning id, xid, store_id, type into rung;
    perform vestnik.ring(rung.id, rung.xid, rung.store_id, rung.type);
    return null;
end $body$;
create or replace function %10$s() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $body$
begin
    if %13$s then
        perform set_config('vestnik.moved', vestnik.moved(%2$L, old.%4$I::text) || coalesce(old.%5$I::text, ''), true);
    end if;
    return null;
end $body$;
revoke all on function %1$s(), %10$s() from public;$sql$,
        vestnik.emitter(target, 'insert_row'), target, 'new_' || kind, id_column, status_column,
        vestnik.changed_type_sql(kind, status_column), vestnik.emitter(target, 'changed'), vestnik.emitter(target, 'inserted'),
        vestnik.store_sql(target, store_column), vestnik.emitter(target, 'delete_row'), vestnik.subject_sql(target, id_column),
        vestnik.rare_sql(target, kind, id_column, store_column, status_column, '(select null::text as before, new::text as after) r'),
        vestnik.as_attached_sql(target, kind, id_column, store_column, status_column))
$$;

-- The note that a deleted row leaves: which row, of which command.
create or replace function vestnik.moved(table_name text, id text) returns text
language sql stable set search_path = pg_catalog, pg_temp as $$
    select format('%s %s %s ', table_name, statement_timestamp(), md5(id))
$$;

select vestnik.keep_private('{
    reason_column, changed_type_sql, changed_sql, content_sql, are_plain, payload_is, told_sql, planned_with, told_change_sql, insert_statement_sql,
    update_statement_sql, update_row_sql, insert_row_sql, moved}');
