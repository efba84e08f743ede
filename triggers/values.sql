-- The functions that trigger functions call. Postgres inlines all of them, except `vst_short` and the functions that catch an
-- error. A parallel worker may not catch an error, so the functions that do are `parallel unsafe`.

-- The id of a row's store; null if the id is empty or longer than 200 bytes: such an id is no store's. Nobody receives an event
-- without a store.
create or replace function vestnik.vst_store_id(value text) returns text
language sql immutable parallel safe as $$
    select case when pg_catalog.octet_length(value) operator(pg_catalog.>) 0
        and pg_catalog.octet_length(value) operator(pg_catalog.<=) 200 then value end
$$;

-- A row's key; null if the key is longer than 1000 bytes.
create or replace function vestnik.vst_key(value text) returns text
language sql immutable parallel safe as $$
    select case when pg_catalog.octet_length(value) operator(pg_catalog.<=) 1000 then value end
$$;

-- The size of a value as Postgres stores it, possibly compressed, bytes.
create or replace function vestnik.vst_size(value anyelement) returns integer
language sql stable parallel safe as $$ select coalesce(pg_catalog.pg_column_size(value), 0) $$;

-- A text as JSON. A text of more than 1 MiB becomes a mark: to read 60 MB from the disk would delay the shop's statement by
-- seconds. Postgres knows the length of a text without reading the text. This function is not inlined: the inlined check would
-- slow down the write of every small row.
create or replace function vestnik.vst_short(value text) returns json
language plpgsql stable parallel safe as $$
begin
    return case when pg_catalog.octet_length(value) operator(pg_catalog.<=) 1048576 then pg_catalog.to_json(value)
        when value is not null then '{"vst_omitted":true}' end;
end $$;

-- Like the function above, for values of other types. Here the limit applies to the size that Postgres stores.
create or replace function vestnik.vst_short(value anyelement) returns json
language plpgsql stable parallel safe as $$
begin
    return case when pg_catalog.pg_column_size(value) operator(pg_catalog.<=) 1048576 then pg_catalog.to_json(value)
        when value is not null then '{"vst_omitted":true}' end;
end $$;

-- The recorded columns as JSON, for a large row or a row with a type that is not built into Postgres. Only in such a row can the
-- conversion to JSON fail. The function leaves out values that `vst_short` has marked, and names them in `vst_omitted`. From a row
-- of more than 1 MiB, it also leaves out each value of more than 64 KiB.
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

-- Makes a text or JSON convertible to UTF-8, so that every client can receive it. In a database with another encoding, a
-- character may be invalid or have no counterpart in UTF-8: the character becomes `?`. In a UTF-8 database, Postgres inlines
-- these functions, so a call costs nothing.
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

-- Converts a UTF-8 text of the engine to the database's encoding. Drops the characters that this encoding lacks.
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

-- The value at a path in a JSON text; null if the text is no JSON, or the value is no text of Postgres.
create or replace function vestnik.vst_at_path(value text, path text[]) returns text
language plpgsql stable parallel unsafe as $$
begin
    return value::pg_catalog.json operator(pg_catalog.#>>) path;
exception when others then
    return null;
end $$;
revoke all on function vestnik.vst_at_path(text, text[]) from public;
