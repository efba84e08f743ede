-- Puts the triggers on a table: writes, for the columns that the table has, a payload function that the shop may
-- replace, and trigger functions that it need not know.
--
-- Inserts fire once a statement, with all rows at hand: for a bulk load that costs about half of firing for each row.
-- Partitioned tables fire for each row, because a statement that names a partition fires the partition's triggers
-- only; so do deferred ones, because Postgres defers no statement trigger. Changes of status always fire for each row
-- whose status really changed, whatever set it: a column list would miss what another trigger sets.

-- The table's name, schema-qualified and quoted, or a clear error.
create or replace function vestnik.table_name(name text) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
    relation record;
begin
    select n.nspname, c.relname, c.relkind into relation
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.oid = case when strpos(name, '.') = 0 then coalesce(to_regclass('public.' || name), to_regclass(name))
                       else to_regclass(name) end;
    if relation is null then
        raise exception 'there is no table %', name using errcode = 'undefined_table',
            hint = 'name it with its schema, for example public.orders';
    end if;
    if relation.relkind not in ('r', 'p') then
        raise exception '% is not a table', name using errcode = 'wrong_object_type';
    end if;
    return format('%I.%I', relation.nspname, relation.relname);
end $$;

-- The column's type; a clear error where it is missing.
create or replace function vestnik.column_type(table_name text, column_name text) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
    found_type text;
begin
    select format_type(atttypid, null) into found_type from pg_attribute
    where attrelid = table_name::regclass and attname = column_name and attnum > 0 and not attisdropped;
    if found_type is null then
        raise exception '% has no column %', table_name, column_name using errcode = 'undefined_column',
            hint = 'it has ' || (select string_agg(quote_ident(attname), ', ' order by attnum) from pg_attribute
                                 where attrelid = table_name::regclass and attnum > 0 and not attisdropped);
    end if;
    return found_type;
end $$;

-- The name of one of a table's trigger functions.
create or replace function vestnik.emitter(table_name text, what text) returns text
language sql immutable as $$
    select format('vestnik.%I', case when length(name) <= 60 then name else left(name, 24) || '_' || md5(name) end)
    from (select 'emit_' || replace(replace(table_name, '"', ''), '.', '_') || '_' || what as name) n
$$;

-- The expression that tells a column in JSON. A `json` may hold what a jsonb cannot, NUL above all.
create or replace function vestnik.column_sql(column_name text, type text) returns text
language sql immutable as $$
    select case when type = 'json' then format('vestnik.jsonb_or_text(n.%I)', column_name) else format('n.%I', column_name) end
$$;

create or replace function vestnik.jsonb_or_text(value json) returns jsonb
language plpgsql immutable parallel safe as $$
begin
    return value::jsonb;
exception when others then
    return to_jsonb(value::text);
end $$;

-- The payload function that we write where the shop has not written its own.
create or replace function vestnik.payload_body(table_name text, kind text) returns text
language sql stable set search_path = pg_catalog, pg_temp as $$
    select ' select jsonb_strip_nulls(jsonb_build_object(' || coalesce(string_agg(
        format('%L, %s', told.name, vestnik.column_sql(told.name, format_type(a.atttypid, null))), ', ' order by told.place), '') || ')) '
    from unnest(case kind when 'order' then vestnik.order_columns() else vestnik.booking_columns() end)
        with ordinality told (name, place)
    join pg_attribute a on a.attrelid = table_name::regclass and a.attname = told.name and not a.attisdropped
$$;

-- Ours, or not there yet: then we may write it. A shop's own is never overwritten. Its text tells, not the comment,
-- which outlives a replacement.
create or replace function vestnik.payload_is_ours(table_name text, kind text) returns boolean
language sql stable set search_path = pg_catalog, pg_temp as $$
    select coalesce(bool_and(obj_description(p.oid, 'pg_proc') = 'written by vestnik: ' || md5(p.prosrc)), true)
    from pg_proc p
    where p.oid = to_regprocedure(format('vestnik.%s_payload(%s)', kind, table_name))
$$;

-- The SQL that attaches a table, as `vestnik attach --dry-run` prints it.
create or replace function vestnik.attach_sql(
    table_name text, kind text, id_column text default 'id', store_column text default 'store_id',
    status_column text default 'status', deferred boolean default false
) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
    target constant text := vestnik.table_name(table_name);
    payload constant text := format('vestnik.%s_payload', kind);
    reason text := (select attname from pg_attribute
                    where attrelid = target::regclass and attname = 'reason' and not attisdropped);
    by_statement constant boolean := not deferred
        and (select relkind = 'r' from pg_class where oid = target::regclass);
    partitioned constant boolean := (select relkind = 'p' from pg_class where oid = target::regclass);
    body text;
    parts text[];
begin
    if kind is null or kind not in ('order', 'booking') then
        raise exception 'kind is order or booking, not %', kind using errcode = 'invalid_parameter_value';
    end if;
    perform vestnik.column_type(target, id_column), vestnik.column_type(target, store_column),
            vestnik.column_type(target, status_column);

    if vestnik.payload_is_ours(target, kind) then
        body := vestnik.payload_body(target, kind);
        parts := parts || format($sql$
create or replace function %1$s(n %2$s) returns jsonb language sql stable as %3$L;
comment on function %1$s(%2$s) is %4$L;
revoke all on function %1$s(%2$s) from public;$sql$, payload, target, body, 'written by vestnik: ' || md5(body));
    end if;

    -- What an insert and a change say; a payload function that raises takes nothing with it.
    parts := parts || format($sql$
create or replace function %1$s(n %2$s) returns jsonb language plpgsql as $body$
begin
    return vestnik.event_data(%3$s(n), %4$s);
exception when others then
    return %4$s || jsonb_build_object('payload_error', sqlstate);
end $body$;
create or replace function %5$s(o %2$s, n %2$s) returns jsonb language plpgsql as $body$
begin
    return %6$s;
exception when others then
    return %7$s || jsonb_build_object('payload_error', sqlstate);
end $body$;
revoke all on function %1$s(%2$s), %5$s(%2$s, %2$s) from public;$sql$,
        vestnik.emitter(target, 'inserted'), target, payload,
        case kind when 'order' then vestnik.order_inserted_sql(id_column, status_column)
                  else vestnik.booking_inserted_sql(id_column, status_column) end,
        vestnik.emitter(target, 'changed'),
        case kind when 'order' then vestnik.order_changed_sql(id_column, status_column, reason)
                  else format('vestnik.event_data(%s(n), %s)', payload, vestnik.booking_changed_sql(id_column, status_column, reason)) end,
        case kind when 'order' then vestnik.order_changed_sql(id_column, status_column, null)
                  else vestnik.booking_changed_sql(id_column, status_column, null) end);

    if by_statement then
        parts := parts || vestnik.insert_statement_sql(target, kind, store_column, vestnik.emitter(target, 'inserted'));
    end if;
    parts := parts || vestnik.rows_sql(target, kind, id_column, store_column, status_column, partitioned, by_statement)
                   || vestnik.triggers_sql(target, status_column, deferred, by_statement, partitioned);
    return array_to_string(parts, E'\n');
end $$;

-- The trigger function for all rows of an INSERT at once.
create or replace function vestnik.insert_statement_sql(target text, kind text, store_column text, inserted text) returns text
language sql stable set search_path = pg_catalog, pg_temp as $$
    select format($sql$
create or replace function %1$s() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $body$
declare
    rung record;
begin
    if current_setting('vestnik.quiet', true) = 'on' and vestnik.is_quiet() then
        return null;
    end if;
    with written as (
        insert into vestnik.event (store_id, type, data)
        select vestnik.store_key(n.%2$I::text), %3$L, %4$s(row(n.*)::%5$s) from inserted_rows n
        returning id, xid, store_id, type)
    select * into rung from written limit 1;
    if rung.id is not null then
        perform vestnik.ring(rung.id, rung.xid, rung.store_id, rung.type);
    end if;
    return null;
end $body$;
revoke all on function %1$s() from public;$sql$,
        vestnik.emitter(target, 'statement'), store_column, 'new_' || kind, inserted, target)
$$;

-- The trigger function for one row. In a partitioned table a row that moves is a DELETE and then an INSERT: the first
-- leaves a note for the second, so that it does not ring as new.
create or replace function vestnik.rows_sql(
    target text, kind text, id_column text, store_column text, status_column text, partitioned boolean, by_statement boolean
) returns text
language sql stable set search_path = pg_catalog, pg_temp as $$
    select format($sql$
create or replace function %1$s() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $body$
declare
    n %2$s := new::%2$s;
    what text := case when tg_op = 'INSERT' then %3$L when new.%4$I::text = 'cancelled' then %5$L else %6$L end;
    content jsonb;
    rung record;
begin
    if current_setting('vestnik.quiet', true) = 'on' and vestnik.is_quiet() then
        return null;
    end if;
    if tg_op = 'INSERT' then
        content := %7$s(n);
    else
        content := %8$s(old::%2$s, n);
    end if;
    insert into vestnik.event (store_id, type, data)
    values (vestnik.store_key(n.%9$I::text), what, content)
    returning id, xid, store_id, type into rung;
    perform vestnik.ring(rung.id, rung.xid, rung.store_id, rung.type);
    return null;
end $body$;
revoke all on function %1$s() from public;$sql$,
        vestnik.emitter(target, 'row'), target, 'new_' || kind, status_column, kind || '_cancelled',
        kind || '_status_changed', vestnik.emitter(target, 'inserted'), vestnik.emitter(target, 'changed'),
        store_column)
$$;

create or replace function vestnik.detach_triggers_sql(target text) returns text
language sql immutable as $$
    select format($sql$
drop trigger if exists vestnik_emit_insert on %1$s;
drop trigger if exists vestnik_emit_update on %1$s;$sql$, target)
$$;

-- The triggers themselves.
create or replace function vestnik.triggers_sql(
    target text, status_column text, deferred boolean, by_statement boolean, partitioned boolean
) returns text
language sql stable set search_path = pg_catalog, pg_temp as $$
    select vestnik.detach_triggers_sql(target) || case when by_statement then format($sql$
create trigger vestnik_emit_insert after insert on %1$s
    referencing new table as inserted_rows for each statement execute function %2$s();$sql$,
        target, vestnik.emitter(target, 'statement'))
    else format($sql$
create %3$strigger vestnik_emit_insert after insert on %1$s
    %4$sfor each row execute function %2$s();$sql$,
        target, vestnik.emitter(target, 'row'), kind.word, kind.timing) end || format($sql$
create %3$strigger vestnik_emit_update after update on %1$s
    %4$sfor each row when (old.%5$I is distinct from new.%5$I) execute function %2$s();$sql$,
        target, vestnik.emitter(target, 'row'), kind.word, kind.timing, status_column)
    from (select case when deferred then 'constraint ' else '' end as word,
                 case when deferred then 'deferrable initially deferred ' else '' end as timing) kind
$$;

-- Attaches, or does nothing and takes no lock where it is attached just so already.
create or replace function vestnik.attach(
    table_name text, kind text, id_column text default 'id', store_column text default 'store_id',
    status_column text default 'status', deferred boolean default false
) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    target constant text := vestnik.table_name(table_name);
    ddl constant text := vestnik.attach_sql(table_name, kind, id_column, store_column, status_column, deferred);
    print constant text := md5(ddl);
begin
    if exists (select from vestnik.attachment a where a.table_name = target and a.fingerprint = print)
       and (select count(*) = 2 from pg_trigger t where t.tgrelid = target::regclass
            and t.tgname in ('vestnik_emit_insert', 'vestnik_emit_update') and t.tgenabled <> 'D') then
        return false;
    end if;
    execute ddl;
    insert into vestnik.attachment as a (table_name, kind, id_column, store_column, status_column, deferred, fingerprint)
    values (target, kind, id_column, store_column, status_column, deferred, print)
    on conflict on constraint attachment_pkey do update set kind = excluded.kind, id_column = excluded.id_column,
        store_column = excluded.store_column, status_column = excluded.status_column,
        deferred = excluded.deferred, fingerprint = excluded.fingerprint, attached_at = now();
    return true;
end $$;

-- Attaches again what is attached, where the code or the table's columns have changed since. How many.
create or replace function vestnik.reattach_all() returns bigint
language sql set search_path = pg_catalog, pg_temp as $$
    select count(*) filter (where vestnik.attach(a.table_name, a.kind, a.id_column, a.store_column, a.status_column, a.deferred))
    from vestnik.attachment a where to_regclass(a.table_name) is not null
$$;

-- The SQL that takes the triggers off a table; a payload function of the shop's own stays.
create or replace function vestnik.detach_sql(table_name text) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
    target constant text := vestnik.table_name(table_name);
    attached record;
begin
    select * into attached from vestnik.attachment a where a.table_name = target;
    if attached is null then
        raise exception '% is not attached', target using errcode = 'undefined_object';
    end if;
    return vestnik.detach_triggers_sql(target) || format($sql$
drop function if exists %1$s();
drop function if exists %2$s();
drop function if exists %3$s(%5$s);
drop function if exists %4$s(%5$s, %5$s);$sql$,
        vestnik.emitter(target, 'statement'), vestnik.emitter(target, 'row'), vestnik.emitter(target, 'inserted'),
        vestnik.emitter(target, 'changed'), target)
        || case when vestnik.payload_is_ours(target, attached.kind)
                then format(E'\ndrop function if exists vestnik.%s_payload(%s);', attached.kind, target) else '' end;
end $$;

create or replace function vestnik.detach(table_name text) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    execute vestnik.detach_sql(table_name);
    delete from vestnik.attachment a where a.table_name = vestnik.table_name(detach.table_name);
end $$;

do $$
declare
    ours regprocedure;
begin
    for ours in select p.oid::regprocedure from pg_proc p
                where p.pronamespace = 'vestnik'::regnamespace and p.proname in ('table_name', 'column_type', 'emitter',
                    'column_sql', 'jsonb_or_text', 'payload_body', 'payload_is_ours', 'attach_sql', 'insert_statement_sql',
                    'rows_sql', 'triggers_sql', 'detach_triggers_sql', 'attach', 'reattach_all', 'detach_sql', 'detach')
    loop
        execute format('revoke all on function %s from public', ours);
    end loop;
end $$;
