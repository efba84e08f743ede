-- What the generated functions are made of: the names of a table and its columns, the expressions that tell them, and the
-- payload function of each table, which the shop may replace.

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
                                 where attrelid = table_name::regclass and attnum > 0 and not attisdropped)
                   || '; `vestnik attach --help` says how to name the one that is meant';
    end if;
    return found_type;
end $$;

-- The name of one of a table's functions.
create or replace function vestnik.emitter(table_name text, what text) returns text
language sql immutable as $$
    select format('vestnik.%I', case when length(name) <= 60 then name else left(name, 24) || '_' || md5(name) end)
    from (select 'emit_' || replace(replace(table_name, '"', ''), '.', '_') || '_' || what as name) n
$$;

-- Of a former version.
drop function if exists vestnik.told_columns(text, text), vestnik.column_sql(text, text), vestnik.payload_body(text, text),
    vestnik.payload_is_plain(text, text);

-- The expression that tells a column of `row_name` in JSON. A `json` may hold what a jsonb cannot, NUL above all.
create or replace function vestnik.column_sql(row_name text, column_name text, type text) returns text
language sql immutable as $$
    select format(case when type = 'json' then 'vestnik.jsonb_or_text(%s.%I)' else '%s.%I' end, row_name, column_name)
$$;

create or replace function vestnik.jsonb_or_text(value json) returns jsonb
language plpgsql immutable parallel safe as $$
begin
    return value::jsonb;
exception when others then
    return to_jsonb(value::text);
end $$;

-- The expression of a row's key as text. A text may be longer than an index can hold, which `shortened` mends; a number or
-- uuid may not.
create or replace function vestnik.key_sql(target text, key_column text, shortened text) returns text
language sql stable set search_path = pg_catalog, pg_temp as $$
    select format(case when vestnik.column_type(target, key_column) in ('bigint', 'integer', 'smallint', 'uuid')
                       then 'n.%I::text' else shortened end, key_column)
$$;

-- The expression of a row's store.
create or replace function vestnik.store_sql(target text, store_column text) returns text
language sql stable set search_path = pg_catalog, pg_temp as $$
    select vestnik.key_sql(target, store_column, 'vestnik.store_key(n.%I::text)')
$$;

-- The expression of a row's subject.
create or replace function vestnik.subject_sql(target text, id_column text) returns text
language sql stable set search_path = pg_catalog, pg_temp as $$
    select vestnik.key_sql(target, id_column, 'left(n.%I::text, 64)')
$$;

-- The columns of `row_name` that a payload tells, as far as the table has them.
create or replace function vestnik.told_columns(
    table_name text, kind text, row_name text,
    out name text, out place bigint, out expression text, out pair text, out is_json boolean, out is_long boolean
) returns setof record
language sql stable set search_path = pg_catalog, pg_temp as $$
    select told.name, told.place, e.expression, format('%L, %s', told.name, e.expression),
           a.atttypid in ('json'::regtype, 'jsonb'::regtype), a.attlen = -1
    from unnest(case kind when 'order' then vestnik.order_columns() else vestnik.booking_columns() end)
        with ordinality told (name, place)
    join pg_attribute a on a.attrelid = table_name::regclass and a.attname = told.name and not a.attisdropped
    cross join lateral (select vestnik.column_sql(row_name, told.name, format_type(a.atttypid, null)) as expression) e
$$;

-- The payload function that we write where the shop has not written its own. Nulls are left out, but only ours: what
-- stands within a column of JSON is the shop's.
create or replace function vestnik.payload_body(table_name text, kind text, row_name text default '$1') returns text
language sql stable set search_path = pg_catalog, pg_temp as $$
    select ' select jsonb_strip_nulls(jsonb_build_object('
        || coalesce(string_agg(told.pair, ', ' order by told.place) filter (where not told.is_json), '') || '))'
        || coalesce(string_agg(format($sql$ || case when %s is null then '{}'::jsonb else jsonb_build_object(%s) end$sql$,
               told.expression, told.pair), '' order by told.place) filter (where told.is_json), '') || ' '
    from vestnik.told_columns(table_name, kind, row_name) told
$$;

-- Writes it. Its parameter has no name, so that a shop's own may call it as it likes: Postgres lets nobody rename one. A
-- former version named it, and is dropped.
create or replace function vestnik.payload_sql(target text, kind text) returns text
language sql stable set search_path = pg_catalog, pg_temp as $$
    select format($sql$
do $body$
begin
    if exists (select from pg_proc where oid = to_regprocedure(%6$L) and proargnames is not null) then
        drop function if exists %5$s(%2$s);
        drop function %1$s(%2$s);
    end if;
end $body$;
create or replace function %1$s(%2$s) returns jsonb language sql stable as %3$L;
comment on function %1$s(%2$s) is %4$L;
revoke all on function %1$s(%2$s) from public;$sql$,
        format('vestnik.%s_payload', kind), target, body, 'written by vestnik: ' || md5(body),
        vestnik.emitter(target, 'payload'), format('vestnik.%s_payload(%s)', kind, target))
    from vestnik.payload_body(target, kind) body
$$;

-- Ours, or not there yet: then we may write it. A shop's own is never overwritten. Its text tells, not the comment,
-- which outlives a replacement.
create or replace function vestnik.payload_is_ours(table_name text, kind text) returns boolean
language sql stable set search_path = pg_catalog, pg_temp as $$
    select coalesce(bool_and(obj_description(p.oid, 'pg_proc') = 'written by vestnik: ' || md5(p.prosrc)), true)
    from pg_proc p
    where p.oid = to_regprocedure(format('vestnik.%s_payload(%s)', kind, table_name))
$$;

select vestnik.keep_private('{
    table_name, column_type, emitter, column_sql, jsonb_or_text, key_sql, store_sql, subject_sql, told_columns,
    payload_body, payload_sql, payload_is_ours}');
