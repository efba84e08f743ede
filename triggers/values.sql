-- The functions that trigger functions call. Postgres inlines all of them, except `vst_short` and those that catch an error.
-- No parallel worker may catch an error, so the latter are `parallel unsafe`.

-- A row's store; null if it is longer than an index can hold. Nobody receives an event without a store.
create or replace function vestnik.vst_store_id(value text) returns text
language sql immutable parallel safe as $$
    select case when pg_catalog.octet_length(value) operator(pg_catalog.<=) 200 then value end
$$;

-- A row's key; null if it is longer than 1000 bytes.
create or replace function vestnik.vst_key(value text) returns text
language sql immutable parallel safe as $$
    select case when pg_catalog.octet_length(value) operator(pg_catalog.<=) 1000 then value end
$$;

-- The size of a value as it is stored, compressed or not, bytes.
create or replace function vestnik.vst_size(value anyelement) returns integer
language sql stable parallel safe as $$ select coalesce(pg_catalog.pg_column_size(value), 0) $$;

-- A value as JSON, or a mark if it is longer than 1 MiB: reading 60 MB from the disk would cost the shop's statement seconds.
-- Postgres knows the length of a text without reading it. Not inlined, because nearly every row is small and would pay for it.
create or replace function vestnik.vst_short(value text) returns json
language plpgsql stable parallel safe as $$
begin
    return case when pg_catalog.octet_length(value) operator(pg_catalog.<=) 1048576 then pg_catalog.to_json(value)
        when value is not null then '{"vst_omitted":true}' end;
end $$;

-- Like the function above for values of other types, by the size of the value as it is stored.
create or replace function vestnik.vst_short(value anyelement) returns json
language plpgsql stable parallel safe as $$
begin
    return case when pg_catalog.pg_column_size(value) operator(pg_catalog.<=) 1048576 then pg_catalog.to_json(value)
        when value is not null then '{"vst_omitted":true}' end;
end $$;

-- The recorded columns of a large row, or of a row with a type that is not built into Postgres. Only this function may
-- meet an error. Values that `vst_short` marked, and those of more than 64 KiB in a row of more than 1 MiB, are left out and named.
create or replace function vestnik.vst_bounded(columns record) returns json
language plpgsql stable parallel unsafe as $$
declare
    whole text;
    is_large boolean;
begin
    whole := pg_catalog.row_to_json(columns);
    is_large := pg_catalog.octet_length(whole) operator(pg_catalog.>) 1048576;
    if not is_large and pg_catalog.strpos(whole, '{"vst_omitted":true}') operator(pg_catalog.=) 0 then
        return whole;
    end if;
    return (
        with part as materialized (
            select key as name, value,
                value::pg_catalog.text operator(pg_catalog.=) '{"vst_omitted":true}'
                or is_large and pg_catalog.octet_length(value::pg_catalog.text) operator(pg_catalog.>) 65536 as is_omitted
            from pg_catalog.json_each(whole::pg_catalog.json))
        select pg_catalog.json_object_agg(named.name, named.value)
        from (
            select name, value from part where not is_omitted
            union all
            select 'vst_omitted', pg_catalog.json_agg(name) from part where is_omitted having pg_catalog.count(*) operator(pg_catalog.>) 0) named);
exception when others then
    return pg_catalog.json_build_object('vst_unreadable', sqlstate);
end $$;

-- A text that can be sent to every client. In a database with another encoding than UTF-8, a character may be invalid or have
-- no counterpart: it becomes `?`, and the rest is kept. In a UTF-8 database these functions are inlined and cost nothing.
do $$
begin
    if getdatabaseencoding() = 'UTF8' then
        create or replace function vestnik.vst_readable(value text) returns text
        language sql immutable parallel safe as 'select value';
    else
        create or replace function vestnik.vst_readable(value text) returns text
        language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $readable$
        begin
            perform convert_to(value, 'UTF8');
            return value;
        exception when others then
            if length(value) <= 1 then
                return '?';
            end if;
            return vestnik.vst_readable(left(value, length(value) / 2)) || vestnik.vst_readable(substr(value, length(value) / 2 + 1));
        end $readable$;
    end if;
end $$;
do $$
begin
    if getdatabaseencoding() = 'UTF8' then
        create or replace function vestnik.vst_readable(value json) returns json
        language sql immutable parallel safe as 'select value';
    else
        create or replace function vestnik.vst_readable(value json) returns json
        language sql stable parallel unsafe as 'select vestnik.vst_readable(value::pg_catalog.text)::pg_catalog.json';
    end if;
end $$;

-- The reverse direction: a UTF-8 text of the engine, without the characters that the database's encoding lacks.
create or replace function vestnik.vst_storable(value bytea) returns text
language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp as $$
begin
    return convert_from(value, 'UTF8');
exception when others then
    declare
        half int := length(value) / 2;
    begin
        -- To the beginning of a character, before the middle or else behind it.
        while half > 0 and get_byte(value, half) between 128 and 191 loop
            half := half - 1;
        end loop;
        if half = 0 then
            half := 1;
            while half < length(value) and get_byte(value, half) between 128 and 191 loop
                half := half + 1;
            end loop;
        end if;
        if half >= length(value) then
            return '';
        end if;
        return vestnik.vst_storable(substr(value, 1, half)) || vestnik.vst_storable(substr(value, half + 1));
    end;
end $$;

revoke all on function vestnik.vst_store_id(text), vestnik.vst_key(text), vestnik.vst_size(anyelement) from public;
grant execute on function vestnik.vst_short(text), vestnik.vst_short(anyelement), vestnik.vst_bounded(record),
    vestnik.vst_readable(text), vestnik.vst_readable(json), vestnik.vst_storable(bytea) to public;
