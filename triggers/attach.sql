-- Attaches and detaches tables: what `vestnik attach` and `vestnik detach` call, and `vestnik migrate` for the reference
-- shop. What is attached is remembered with a fingerprint of its SQL, so that the same SQL is not run again: it would
-- take a lock on the shop's table for nothing.

-- The SQL that attaches a table, as `vestnik attach --dry-run` prints it.
create or replace function vestnik.attach_sql(
    table_name text, kind text, id_column text default 'id', store_column text default 'store_id',
    status_column text default 'status', deferred boolean default false
) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
    target constant text := vestnik.table_name(table_name);
    by_statement constant boolean := not deferred
        and (select relkind = 'r' from pg_class where oid = target::regclass);
    parts text[];
begin
    if kind is null or kind not in ('order', 'booking') then
        raise exception 'kind is order or booking, not %', kind using errcode = 'invalid_parameter_value';
    end if;
    perform vestnik.column_type(target, id_column), vestnik.column_type(target, store_column),
            vestnik.column_type(target, status_column);

    if vestnik.payload_is_ours(target, kind) then
        parts := parts || vestnik.payload_sql(target, kind);
    end if;

    parts := parts || vestnik.content_sql(target, kind, id_column, status_column)
        || case when by_statement
                then vestnik.insert_statement_sql(target, kind, id_column, store_column, status_column)
                     || vestnik.update_statement_sql(target, kind, id_column, store_column, status_column)
                else vestnik.insert_row_sql(target, kind, id_column, store_column, status_column)
                     || vestnik.update_row_sql(target, kind, id_column, store_column, status_column) end
        || vestnik.triggers_sql(target, status_column, deferred, by_statement);
    return array_to_string(parts, E'\n');
end $$;

create or replace function vestnik.detach_triggers_sql(target text) returns text
language sql immutable as $$
    select format($sql$
drop trigger if exists vestnik_emit_insert on %1$s;
drop trigger if exists vestnik_emit_update on %1$s;
drop trigger if exists vestnik_emit_delete on %1$s;$sql$, target)
$$;

-- The triggers themselves.
create or replace function vestnik.triggers_sql(target text, status_column text, deferred boolean, by_statement boolean)
returns text language sql stable set search_path = pg_catalog, pg_temp as $$
    select vestnik.detach_triggers_sql(target) || case when by_statement then format($sql$
create trigger vestnik_emit_insert after insert on %1$s
    referencing new table as inserted_rows for each statement execute function %2$s();
create trigger vestnik_emit_update after update on %1$s
    referencing old table as old_rows new table as new_rows for each statement execute function %3$s();$sql$,
        target, vestnik.emitter(target, 'insert_statement'), vestnik.emitter(target, 'update_statement'))
    else format($sql$
create %5$strigger vestnik_emit_insert after insert on %1$s
    %6$sfor each row execute function %2$s();
create %5$strigger vestnik_emit_update after update on %1$s
    %6$sfor each row when (old.%4$I is distinct from new.%4$I) execute function %3$s();$sql$,
        target, vestnik.emitter(target, 'insert_row'), vestnik.emitter(target, 'update_row'), status_column, kind.word,
        kind.timing)
        || case when (select relkind = 'p' from pg_class where oid = target::regclass) then format($sql$
create %3$strigger vestnik_emit_delete after delete on %1$s
    %4$sfor each row execute function %2$s();$sql$,
        target, vestnik.emitter(target, 'delete_row'), kind.word, kind.timing) else '' end end
    from (select case when deferred then 'constraint ' else '' end as word,
                 case when deferred then 'deferrable initially deferred ' else '' end as timing) kind
$$;

-- Whether the triggers are there, and fire for what an application writes.
create or replace function vestnik.has_triggers(target regclass) returns boolean
language sql stable set search_path = pg_catalog, pg_temp as $$
    select count(*) = 2 from pg_trigger
    where tgrelid = target and tgname in ('vestnik_emit_insert', 'vestnik_emit_update') and tgenabled in ('O', 'A')
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
       and vestnik.has_triggers(target) then
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
drop function if exists %1$s(), %2$s(), %3$s(), %4$s(), %5$s(), %6$s(record), %7$s(record, record), %9$s(%8$s);$sql$,
        vestnik.emitter(target, 'insert_statement'), vestnik.emitter(target, 'update_statement'),
        vestnik.emitter(target, 'insert_row'), vestnik.emitter(target, 'update_row'), vestnik.emitter(target, 'delete_row'),
        vestnik.emitter(target, 'inserted'), vestnik.emitter(target, 'changed'), target, vestnik.emitter(target, 'payload'))
        || case when vestnik.payload_is_ours(target, attached.kind)
                then format(E'\ndrop function if exists vestnik.%s_payload(%s);', attached.kind, target) else '' end;
end $$;

-- What is not there any more is forgotten under the name that it had.
create or replace function vestnik.detach(table_name text) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    delete from vestnik.attachment a
    where to_regclass(a.table_name) is null and a.table_name in (detach.table_name, 'public.' || detach.table_name);
    if found then
        return;
    end if;
    execute vestnik.detach_sql(table_name);
    delete from vestnik.attachment a where a.table_name = vestnik.table_name(detach.table_name);
end $$;

-- What is wrong with the attached tables, and what to do: `vestnik serve` looks, and says it. A trigger's function tells how
-- its table was.
create or replace function vestnik.attachment_troubles() returns table (name text, trouble text)
language sql stable set search_path = pg_catalog, pg_temp as $$
    select told.table_name, told.trouble
    from (select a.table_name, case
              when to_regclass(a.table_name) is null
                  then 'it is not there: attach it again by the name that it has now, and detach the old one'
              when not vestnik.has_triggers(to_regclass(a.table_name))
                  then 'its triggers are gone or switched off, and nobody hears of its rows: run `vestnik migrate`'
              when exists (select from pg_trigger t join pg_proc p on p.oid = t.tgfoid
                           where t.tgrelid = to_regclass(a.table_name) and t.tgname in ('vestnik_emit_insert', 'vestnik_emit_update')
                             and strpos(p.prosrc, vestnik.as_attached_sql(
                                 a.table_name, a.kind, a.id_column, a.store_column, a.status_column)) = 0)
                  then 'it was altered, or restored from a dump, and its events cost more, and may say less: run `vestnik migrate`'
          end as trouble
          from vestnik.attachment a) told
    where told.trouble is not null
$$;

select vestnik.keep_private('{
    attach_sql, triggers_sql, detach_triggers_sql, has_triggers, attach, reattach_all, detach_sql, detach, attachment_troubles}');
