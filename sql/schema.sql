CREATE SCHEMA vestnik;
CREATE FUNCTION vestnik.vst_at_path(value text, path text[]) RETURNS text
    LANGUAGE plpgsql STABLE
    AS $$
begin
    return value::pg_catalog.json operator(pg_catalog.#>>) path;
exception when others then
    return null;
end $$;
CREATE FUNCTION vestnik.vst_bounded(columns record) RETURNS json
    LANGUAGE plpgsql STABLE
    AS $$
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
CREATE FUNCTION vestnik.vst_key(value text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
    select case when pg_catalog.octet_length(value) operator(pg_catalog.<=) 1000 then value end
$$;
CREATE FUNCTION vestnik.vst_notify() RETURNS void
    LANGUAGE plpgsql
    AS $$
begin
    if vestnik.vst_should_notify() then
        perform pg_catalog.pg_notify('vestnik', '');
    end if;
end $$;
CREATE FUNCTION vestnik.vst_notify_enabled() RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$select true$$;
CREATE FUNCTION vestnik.vst_notify_lock_key() RETURNS integer
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$select 1986356084$$;
CREATE FUNCTION vestnik.vst_readable(value json) RETURNS json
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$select value$$;
CREATE FUNCTION vestnik.vst_readable(value text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$select value$$;
CREATE FUNCTION vestnik.vst_record_0() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    AS $$
#variable_conflict use_column
declare
    is_moved boolean;  -- to another store, or another key
begin
    -- Updates are the most frequent writes, and most of them end here, so they come first.
    if tg_op operator(pg_catalog.=) 'UPDATE' then
        -- An update of other columns ends here. Where a column is gone, or has another type, the query below looks again.
        begin
            if (row(old."round", old."store", old."status")::pg_catalog.record operator(pg_catalog.*=) row(new."round", new."store", new."status")::pg_catalog.record) then
                return null;
            end if;
            is_moved := not (row(old."round", old."store")::pg_catalog.record operator(pg_catalog.*=) row(new."round", new."store")::pg_catalog.record);
        exception when others then
            is_moved := true;
        end;
        if is_moved then
            -- A row that moves is deleted there, and inserted here.
            insert into vestnik.vst_event (source, store_id, key, type, data, old)
            select 0, written.store_id, written.key, written.type, written.data, written.old
            from (select vst_row.* from (select null::pg_catalog.text as "round", null::pg_catalog.text as "store", null::pg_catalog.text as "status") vst_gone, lateral (select "round", "store", "status" from (select old.*) old_row) vst_row) o, lateral (select vestnik.vst_short(o."round"::pg_catalog.text) as "round", vestnik.vst_short(o."store"::pg_catalog.text) as "store", vestnik.vst_short(o."status"::pg_catalog.text) as "status") o_large, (select vst_row.* from (select null::pg_catalog.text as "round", null::pg_catalog.text as "store", null::pg_catalog.text as "status") vst_gone, lateral (select "round", "store", "status" from (select new.*) new_row) vst_row) n, lateral (select vestnik.vst_short(n."round"::pg_catalog.text) as "round", vestnik.vst_short(n."store"::pg_catalog.text) as "store", vestnik.vst_short(n."status"::pg_catalog.text) as "status") n_large,
                lateral (select (row(o."round", o."store")::pg_catalog.record operator(pg_catalog.*=) row(n."round", n."store")::pg_catalog.record) as stays) pair,
                lateral (
                    select vestnik.vst_store_id(o."store"::pg_catalog.text) as store_id, vestnik.vst_key(o."round"::pg_catalog.text) as key, 'delete' as type, case when vestnik.vst_size(o."round") operator(pg_catalog.+) vestnik.vst_size(o."store") operator(pg_catalog.+) vestnik.vst_size(o."status") operator(pg_catalog.<=) 65536 then pg_catalog.row_to_json(o.*) else vestnik.vst_bounded(o_large.*) end as data, null::pg_catalog.json as old
                    where not pair.stays
                    union all
                    select vestnik.vst_store_id(n."store"::pg_catalog.text), vestnik.vst_key(n."round"::pg_catalog.text), case when pair.stays then 'update' else 'insert' end, case when vestnik.vst_size(n."round") operator(pg_catalog.+) vestnik.vst_size(n."store") operator(pg_catalog.+) vestnik.vst_size(n."status") operator(pg_catalog.<=) 65536 then pg_catalog.row_to_json(n.*) else vestnik.vst_bounded(n_large.*) end,
                           case when pair.stays then case when vestnik.vst_size(o."round") operator(pg_catalog.+) vestnik.vst_size(o."store") operator(pg_catalog.+) vestnik.vst_size(o."status") operator(pg_catalog.<=) 65536 then pg_catalog.row_to_json(o.*) else vestnik.vst_bounded(o_large.*) end end) written
            where not (row(o."round", o."store", o."status")::pg_catalog.record operator(pg_catalog.*=) row(n."round", n."store", n."status")::pg_catalog.record) and (tg_relid operator(pg_catalog.=) 'N'::pg_catalog.regclass) is not null;
        else
            insert into vestnik.vst_event (source, store_id, key, type, data, old)
            select 0, vestnik.vst_store_id(n."store"::pg_catalog.text), vestnik.vst_key(n."round"::pg_catalog.text), 'update', case when vestnik.vst_size(n."round") operator(pg_catalog.+) vestnik.vst_size(n."store") operator(pg_catalog.+) vestnik.vst_size(n."status") operator(pg_catalog.<=) 65536 then pg_catalog.row_to_json(n.*) else vestnik.vst_bounded(n_large.*) end, case when vestnik.vst_size(o."round") operator(pg_catalog.+) vestnik.vst_size(o."store") operator(pg_catalog.+) vestnik.vst_size(o."status") operator(pg_catalog.<=) 65536 then pg_catalog.row_to_json(o.*) else vestnik.vst_bounded(o_large.*) end from (select vst_row.* from (select null::pg_catalog.text as "round", null::pg_catalog.text as "store", null::pg_catalog.text as "status") vst_gone, lateral (select "round", "store", "status" from (select old.*) old_row) vst_row) o, lateral (select vestnik.vst_short(o."round"::pg_catalog.text) as "round", vestnik.vst_short(o."store"::pg_catalog.text) as "store", vestnik.vst_short(o."status"::pg_catalog.text) as "status") o_large, (select vst_row.* from (select null::pg_catalog.text as "round", null::pg_catalog.text as "store", null::pg_catalog.text as "status") vst_gone, lateral (select "round", "store", "status" from (select new.*) new_row) vst_row) n, lateral (select vestnik.vst_short(n."round"::pg_catalog.text) as "round", vestnik.vst_short(n."store"::pg_catalog.text) as "store", vestnik.vst_short(n."status"::pg_catalog.text) as "status") n_large
            where (tg_relid operator(pg_catalog.=) 'N'::pg_catalog.regclass) is not null;
        end if;
    elsif tg_op operator(pg_catalog.=) 'INSERT' then
        insert into vestnik.vst_event (source, store_id, key, type, data)
        select 0, vestnik.vst_store_id(n."store"::pg_catalog.text), vestnik.vst_key(n."round"::pg_catalog.text), 'insert', case when vestnik.vst_size(n."round") operator(pg_catalog.+) vestnik.vst_size(n."store") operator(pg_catalog.+) vestnik.vst_size(n."status") operator(pg_catalog.<=) 65536 then pg_catalog.row_to_json(n.*) else vestnik.vst_bounded(n_large.*) end from (select vst_row.* from (select null::pg_catalog.text as "round", null::pg_catalog.text as "store", null::pg_catalog.text as "status") vst_gone, lateral (select "round", "store", "status" from new_rows) vst_row) n, lateral (select vestnik.vst_short(n."round"::pg_catalog.text) as "round", vestnik.vst_short(n."store"::pg_catalog.text) as "store", vestnik.vst_short(n."status"::pg_catalog.text) as "status") n_large;
    elsif tg_op operator(pg_catalog.=) 'DELETE' then
        insert into vestnik.vst_event (source, store_id, key, type, data)
        select 0, vestnik.vst_store_id(o."store"::pg_catalog.text), vestnik.vst_key(o."round"::pg_catalog.text), 'delete', case when vestnik.vst_size(o."round") operator(pg_catalog.+) vestnik.vst_size(o."store") operator(pg_catalog.+) vestnik.vst_size(o."status") operator(pg_catalog.<=) 65536 then pg_catalog.row_to_json(o.*) else vestnik.vst_bounded(o_large.*) end from (select vst_row.* from (select null::pg_catalog.text as "round", null::pg_catalog.text as "store", null::pg_catalog.text as "status") vst_gone, lateral (select "round", "store", "status" from old_rows) vst_row) o, lateral (select vestnik.vst_short(o."round"::pg_catalog.text) as "round", vestnik.vst_short(o."store"::pg_catalog.text) as "store", vestnik.vst_short(o."status"::pg_catalog.text) as "status") o_large;
    else  -- TRUNCATE
        insert into vestnik.vst_event (source, type, data) values (0, 'truncate', '{}');
    end if;
    if found and vestnik.vst_should_notify() then
        perform pg_catalog.pg_notify('vestnik', '');
    end if;
    return null;
end $$;
CREATE FUNCTION vestnik.vst_record_1() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    AS $$
#variable_conflict use_column
declare
    is_moved boolean;  -- to another store, or another key
begin
    -- Updates are the most frequent writes, and most of them end here, so they come first.
    if tg_op operator(pg_catalog.=) 'UPDATE' then
        -- An update of other columns ends here. Where a column is gone, or has another type, the query below looks again.
        begin
            if (row(old."id", old."store_id", old."status", old."customer_name", old."customer_phone", old."reason", old."order_type", old."total", old."created_at", old."items")::pg_catalog.record operator(pg_catalog.*=) row(new."id", new."store_id", new."status", new."customer_name", new."customer_phone", new."reason", new."order_type", new."total", new."created_at", new."items")::pg_catalog.record) then
                return null;
            end if;
            is_moved := not (row(old."id", old."store_id")::pg_catalog.record operator(pg_catalog.*=) row(new."id", new."store_id")::pg_catalog.record);
        exception when others then
            is_moved := true;
        end;
        if is_moved then
            -- A row that moves is deleted there, and inserted here.
            insert into vestnik.vst_event (source, store_id, key, type, data, old)
            select 1, written.store_id, written.key, written.type, written.data, written.old
            from (select vst_row.* from (select null::pg_catalog.text as "id", null::pg_catalog.text as "store_id", null::pg_catalog.text as "status", null::pg_catalog.text as "customer_name", null::pg_catalog.text as "customer_phone", null::pg_catalog.text as "reason", null::pg_catalog.text as "order_type", null::pg_catalog.text as "total", null::pg_catalog.text as "created_at", null::pg_catalog.text as "items") vst_gone, lateral (select "id", "store_id", "status", "customer_name", "customer_phone", "reason", "order_type", "total", "created_at", "items" from (select old.*) old_row) vst_row) o, lateral (select o."id", o."store_id", vestnik.vst_short(o."status"::pg_catalog.text) as "status", vestnik.vst_short(o."customer_name"::pg_catalog.text) as "customer_name", vestnik.vst_short(o."customer_phone"::pg_catalog.text) as "customer_phone", vestnik.vst_short(o."reason"::pg_catalog.text) as "reason", vestnik.vst_short(o."order_type"::pg_catalog.text) as "order_type", o."total", o."created_at", vestnik.vst_short(o."items") as "items") o_large, (select vst_row.* from (select null::pg_catalog.text as "id", null::pg_catalog.text as "store_id", null::pg_catalog.text as "status", null::pg_catalog.text as "customer_name", null::pg_catalog.text as "customer_phone", null::pg_catalog.text as "reason", null::pg_catalog.text as "order_type", null::pg_catalog.text as "total", null::pg_catalog.text as "created_at", null::pg_catalog.text as "items") vst_gone, lateral (select "id", "store_id", "status", "customer_name", "customer_phone", "reason", "order_type", "total", "created_at", "items" from (select new.*) new_row) vst_row) n, lateral (select n."id", n."store_id", vestnik.vst_short(n."status"::pg_catalog.text) as "status", vestnik.vst_short(n."customer_name"::pg_catalog.text) as "customer_name", vestnik.vst_short(n."customer_phone"::pg_catalog.text) as "customer_phone", vestnik.vst_short(n."reason"::pg_catalog.text) as "reason", vestnik.vst_short(n."order_type"::pg_catalog.text) as "order_type", n."total", n."created_at", vestnik.vst_short(n."items") as "items") n_large,
                lateral (select (row(o."id", o."store_id")::pg_catalog.record operator(pg_catalog.*=) row(n."id", n."store_id")::pg_catalog.record) as stays) pair,
                lateral (
                    select vestnik.vst_store_id(o."store_id"::pg_catalog.text) as store_id, vestnik.vst_key(o."id"::pg_catalog.text) as key, 'delete' as type, case when vestnik.vst_size(o."status") operator(pg_catalog.+) vestnik.vst_size(o."customer_name") operator(pg_catalog.+) vestnik.vst_size(o."customer_phone") operator(pg_catalog.+) vestnik.vst_size(o."reason") operator(pg_catalog.+) vestnik.vst_size(o."order_type") operator(pg_catalog.+) vestnik.vst_size(o."items") operator(pg_catalog.<=) 65536 then pg_catalog.row_to_json(o.*) else vestnik.vst_bounded(o_large.*) end as data, null::pg_catalog.json as old
                    where not pair.stays
                    union all
                    select vestnik.vst_store_id(n."store_id"::pg_catalog.text), vestnik.vst_key(n."id"::pg_catalog.text), case when pair.stays then 'update' else 'insert' end, case when vestnik.vst_size(n."status") operator(pg_catalog.+) vestnik.vst_size(n."customer_name") operator(pg_catalog.+) vestnik.vst_size(n."customer_phone") operator(pg_catalog.+) vestnik.vst_size(n."reason") operator(pg_catalog.+) vestnik.vst_size(n."order_type") operator(pg_catalog.+) vestnik.vst_size(n."items") operator(pg_catalog.<=) 65536 then pg_catalog.row_to_json(n.*) else vestnik.vst_bounded(n_large.*) end,
                           case when pair.stays then case when vestnik.vst_size(o."status") operator(pg_catalog.+) vestnik.vst_size(o."customer_name") operator(pg_catalog.+) vestnik.vst_size(o."customer_phone") operator(pg_catalog.+) vestnik.vst_size(o."reason") operator(pg_catalog.+) vestnik.vst_size(o."order_type") operator(pg_catalog.+) vestnik.vst_size(o."items") operator(pg_catalog.<=) 65536 then pg_catalog.row_to_json(o.*) else vestnik.vst_bounded(o_large.*) end end) written
            where not (row(o."id", o."store_id", o."status", o."customer_name", o."customer_phone", o."reason", o."order_type", o."total", o."created_at", o."items")::pg_catalog.record operator(pg_catalog.*=) row(n."id", n."store_id", n."status", n."customer_name", n."customer_phone", n."reason", n."order_type", n."total", n."created_at", n."items")::pg_catalog.record) and (tg_relid operator(pg_catalog.=) 'N'::pg_catalog.regclass) is not null;
        else
            insert into vestnik.vst_event (source, store_id, key, type, data, old)
            select 1, vestnik.vst_store_id(n."store_id"::pg_catalog.text), vestnik.vst_key(n."id"::pg_catalog.text), 'update', case when vestnik.vst_size(n."status") operator(pg_catalog.+) vestnik.vst_size(n."customer_name") operator(pg_catalog.+) vestnik.vst_size(n."customer_phone") operator(pg_catalog.+) vestnik.vst_size(n."reason") operator(pg_catalog.+) vestnik.vst_size(n."order_type") operator(pg_catalog.+) vestnik.vst_size(n."items") operator(pg_catalog.<=) 65536 then pg_catalog.row_to_json(n.*) else vestnik.vst_bounded(n_large.*) end, case when vestnik.vst_size(o."status") operator(pg_catalog.+) vestnik.vst_size(o."customer_name") operator(pg_catalog.+) vestnik.vst_size(o."customer_phone") operator(pg_catalog.+) vestnik.vst_size(o."reason") operator(pg_catalog.+) vestnik.vst_size(o."order_type") operator(pg_catalog.+) vestnik.vst_size(o."items") operator(pg_catalog.<=) 65536 then pg_catalog.row_to_json(o.*) else vestnik.vst_bounded(o_large.*) end from (select vst_row.* from (select null::pg_catalog.text as "id", null::pg_catalog.text as "store_id", null::pg_catalog.text as "status", null::pg_catalog.text as "customer_name", null::pg_catalog.text as "customer_phone", null::pg_catalog.text as "reason", null::pg_catalog.text as "order_type", null::pg_catalog.text as "total", null::pg_catalog.text as "created_at", null::pg_catalog.text as "items") vst_gone, lateral (select "id", "store_id", "status", "customer_name", "customer_phone", "reason", "order_type", "total", "created_at", "items" from (select old.*) old_row) vst_row) o, lateral (select o."id", o."store_id", vestnik.vst_short(o."status"::pg_catalog.text) as "status", vestnik.vst_short(o."customer_name"::pg_catalog.text) as "customer_name", vestnik.vst_short(o."customer_phone"::pg_catalog.text) as "customer_phone", vestnik.vst_short(o."reason"::pg_catalog.text) as "reason", vestnik.vst_short(o."order_type"::pg_catalog.text) as "order_type", o."total", o."created_at", vestnik.vst_short(o."items") as "items") o_large, (select vst_row.* from (select null::pg_catalog.text as "id", null::pg_catalog.text as "store_id", null::pg_catalog.text as "status", null::pg_catalog.text as "customer_name", null::pg_catalog.text as "customer_phone", null::pg_catalog.text as "reason", null::pg_catalog.text as "order_type", null::pg_catalog.text as "total", null::pg_catalog.text as "created_at", null::pg_catalog.text as "items") vst_gone, lateral (select "id", "store_id", "status", "customer_name", "customer_phone", "reason", "order_type", "total", "created_at", "items" from (select new.*) new_row) vst_row) n, lateral (select n."id", n."store_id", vestnik.vst_short(n."status"::pg_catalog.text) as "status", vestnik.vst_short(n."customer_name"::pg_catalog.text) as "customer_name", vestnik.vst_short(n."customer_phone"::pg_catalog.text) as "customer_phone", vestnik.vst_short(n."reason"::pg_catalog.text) as "reason", vestnik.vst_short(n."order_type"::pg_catalog.text) as "order_type", n."total", n."created_at", vestnik.vst_short(n."items") as "items") n_large
            where (tg_relid operator(pg_catalog.=) 'N'::pg_catalog.regclass) is not null;
        end if;
    elsif tg_op operator(pg_catalog.=) 'INSERT' then
        insert into vestnik.vst_event (source, store_id, key, type, data)
        select 1, vestnik.vst_store_id(n."store_id"::pg_catalog.text), vestnik.vst_key(n."id"::pg_catalog.text), 'insert', case when vestnik.vst_size(n."status") operator(pg_catalog.+) vestnik.vst_size(n."customer_name") operator(pg_catalog.+) vestnik.vst_size(n."customer_phone") operator(pg_catalog.+) vestnik.vst_size(n."reason") operator(pg_catalog.+) vestnik.vst_size(n."order_type") operator(pg_catalog.+) vestnik.vst_size(n."items") operator(pg_catalog.<=) 65536 then pg_catalog.row_to_json(n.*) else vestnik.vst_bounded(n_large.*) end from (select vst_row.* from (select null::pg_catalog.text as "id", null::pg_catalog.text as "store_id", null::pg_catalog.text as "status", null::pg_catalog.text as "customer_name", null::pg_catalog.text as "customer_phone", null::pg_catalog.text as "reason", null::pg_catalog.text as "order_type", null::pg_catalog.text as "total", null::pg_catalog.text as "created_at", null::pg_catalog.text as "items") vst_gone, lateral (select "id", "store_id", "status", "customer_name", "customer_phone", "reason", "order_type", "total", "created_at", "items" from new_rows) vst_row) n, lateral (select n."id", n."store_id", vestnik.vst_short(n."status"::pg_catalog.text) as "status", vestnik.vst_short(n."customer_name"::pg_catalog.text) as "customer_name", vestnik.vst_short(n."customer_phone"::pg_catalog.text) as "customer_phone", vestnik.vst_short(n."reason"::pg_catalog.text) as "reason", vestnik.vst_short(n."order_type"::pg_catalog.text) as "order_type", n."total", n."created_at", vestnik.vst_short(n."items") as "items") n_large;
    elsif tg_op operator(pg_catalog.=) 'DELETE' then
        insert into vestnik.vst_event (source, store_id, key, type, data)
        select 1, vestnik.vst_store_id(o."store_id"::pg_catalog.text), vestnik.vst_key(o."id"::pg_catalog.text), 'delete', case when vestnik.vst_size(o."status") operator(pg_catalog.+) vestnik.vst_size(o."customer_name") operator(pg_catalog.+) vestnik.vst_size(o."customer_phone") operator(pg_catalog.+) vestnik.vst_size(o."reason") operator(pg_catalog.+) vestnik.vst_size(o."order_type") operator(pg_catalog.+) vestnik.vst_size(o."items") operator(pg_catalog.<=) 65536 then pg_catalog.row_to_json(o.*) else vestnik.vst_bounded(o_large.*) end from (select vst_row.* from (select null::pg_catalog.text as "id", null::pg_catalog.text as "store_id", null::pg_catalog.text as "status", null::pg_catalog.text as "customer_name", null::pg_catalog.text as "customer_phone", null::pg_catalog.text as "reason", null::pg_catalog.text as "order_type", null::pg_catalog.text as "total", null::pg_catalog.text as "created_at", null::pg_catalog.text as "items") vst_gone, lateral (select "id", "store_id", "status", "customer_name", "customer_phone", "reason", "order_type", "total", "created_at", "items" from old_rows) vst_row) o, lateral (select o."id", o."store_id", vestnik.vst_short(o."status"::pg_catalog.text) as "status", vestnik.vst_short(o."customer_name"::pg_catalog.text) as "customer_name", vestnik.vst_short(o."customer_phone"::pg_catalog.text) as "customer_phone", vestnik.vst_short(o."reason"::pg_catalog.text) as "reason", vestnik.vst_short(o."order_type"::pg_catalog.text) as "order_type", o."total", o."created_at", vestnik.vst_short(o."items") as "items") o_large;
    else  -- TRUNCATE
        insert into vestnik.vst_event (source, type, data) values (1, 'truncate', '{}');
    end if;
    if found and vestnik.vst_should_notify() then
        perform pg_catalog.pg_notify('vestnik', '');
    end if;
    return null;
end $$;
CREATE FUNCTION vestnik.vst_record_2() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    AS $$
#variable_conflict use_column
declare
    is_moved boolean;  -- to another store, or another key
begin
    -- Updates are the most frequent writes, and most of them end here, so they come first.
    if tg_op operator(pg_catalog.=) 'UPDATE' then
        -- An update of other columns ends here. Where a column is gone, or has another type, the query below looks again.
        begin
            if (row(old."id", old."store_id", old."status", old."customer_name", old."customer_phone", old."guests", old."reason", old."starts_at", old."created_at")::pg_catalog.record operator(pg_catalog.*=) row(new."id", new."store_id", new."status", new."customer_name", new."customer_phone", new."guests", new."reason", new."starts_at", new."created_at")::pg_catalog.record) then
                return null;
            end if;
            is_moved := not (row(old."id", old."store_id")::pg_catalog.record operator(pg_catalog.*=) row(new."id", new."store_id")::pg_catalog.record);
        exception when others then
            is_moved := true;
        end;
        if is_moved then
            -- A row that moves is deleted there, and inserted here.
            insert into vestnik.vst_event (source, store_id, key, type, data, old)
            select 2, written.store_id, written.key, written.type, written.data, written.old
            from (select vst_row.* from (select null::pg_catalog.text as "id", null::pg_catalog.text as "store_id", null::pg_catalog.text as "status", null::pg_catalog.text as "customer_name", null::pg_catalog.text as "customer_phone", null::pg_catalog.text as "guests", null::pg_catalog.text as "reason", null::pg_catalog.text as "starts_at", null::pg_catalog.text as "created_at") vst_gone, lateral (select "id", "store_id", "status", "customer_name", "customer_phone", "guests", "reason", "starts_at", "created_at" from (select old.*) old_row) vst_row) o, lateral (select o."id", o."store_id", vestnik.vst_short(o."status"::pg_catalog.text) as "status", vestnik.vst_short(o."customer_name"::pg_catalog.text) as "customer_name", vestnik.vst_short(o."customer_phone"::pg_catalog.text) as "customer_phone", o."guests", vestnik.vst_short(o."reason"::pg_catalog.text) as "reason", o."starts_at", o."created_at") o_large, (select vst_row.* from (select null::pg_catalog.text as "id", null::pg_catalog.text as "store_id", null::pg_catalog.text as "status", null::pg_catalog.text as "customer_name", null::pg_catalog.text as "customer_phone", null::pg_catalog.text as "guests", null::pg_catalog.text as "reason", null::pg_catalog.text as "starts_at", null::pg_catalog.text as "created_at") vst_gone, lateral (select "id", "store_id", "status", "customer_name", "customer_phone", "guests", "reason", "starts_at", "created_at" from (select new.*) new_row) vst_row) n, lateral (select n."id", n."store_id", vestnik.vst_short(n."status"::pg_catalog.text) as "status", vestnik.vst_short(n."customer_name"::pg_catalog.text) as "customer_name", vestnik.vst_short(n."customer_phone"::pg_catalog.text) as "customer_phone", n."guests", vestnik.vst_short(n."reason"::pg_catalog.text) as "reason", n."starts_at", n."created_at") n_large,
                lateral (select (row(o."id", o."store_id")::pg_catalog.record operator(pg_catalog.*=) row(n."id", n."store_id")::pg_catalog.record) as stays) pair,
                lateral (
                    select vestnik.vst_store_id(o."store_id"::pg_catalog.text) as store_id, vestnik.vst_key(o."id"::pg_catalog.text) as key, 'delete' as type, case when vestnik.vst_size(o."status") operator(pg_catalog.+) vestnik.vst_size(o."customer_name") operator(pg_catalog.+) vestnik.vst_size(o."customer_phone") operator(pg_catalog.+) vestnik.vst_size(o."reason") operator(pg_catalog.<=) 65536 then pg_catalog.row_to_json(o.*) else vestnik.vst_bounded(o_large.*) end as data, null::pg_catalog.json as old
                    where not pair.stays
                    union all
                    select vestnik.vst_store_id(n."store_id"::pg_catalog.text), vestnik.vst_key(n."id"::pg_catalog.text), case when pair.stays then 'update' else 'insert' end, case when vestnik.vst_size(n."status") operator(pg_catalog.+) vestnik.vst_size(n."customer_name") operator(pg_catalog.+) vestnik.vst_size(n."customer_phone") operator(pg_catalog.+) vestnik.vst_size(n."reason") operator(pg_catalog.<=) 65536 then pg_catalog.row_to_json(n.*) else vestnik.vst_bounded(n_large.*) end,
                           case when pair.stays then case when vestnik.vst_size(o."status") operator(pg_catalog.+) vestnik.vst_size(o."customer_name") operator(pg_catalog.+) vestnik.vst_size(o."customer_phone") operator(pg_catalog.+) vestnik.vst_size(o."reason") operator(pg_catalog.<=) 65536 then pg_catalog.row_to_json(o.*) else vestnik.vst_bounded(o_large.*) end end) written
            where not (row(o."id", o."store_id", o."status", o."customer_name", o."customer_phone", o."guests", o."reason", o."starts_at", o."created_at")::pg_catalog.record operator(pg_catalog.*=) row(n."id", n."store_id", n."status", n."customer_name", n."customer_phone", n."guests", n."reason", n."starts_at", n."created_at")::pg_catalog.record) and (tg_relid operator(pg_catalog.=) 'N'::pg_catalog.regclass) is not null;
        else
            insert into vestnik.vst_event (source, store_id, key, type, data, old)
            select 2, vestnik.vst_store_id(n."store_id"::pg_catalog.text), vestnik.vst_key(n."id"::pg_catalog.text), 'update', case when vestnik.vst_size(n."status") operator(pg_catalog.+) vestnik.vst_size(n."customer_name") operator(pg_catalog.+) vestnik.vst_size(n."customer_phone") operator(pg_catalog.+) vestnik.vst_size(n."reason") operator(pg_catalog.<=) 65536 then pg_catalog.row_to_json(n.*) else vestnik.vst_bounded(n_large.*) end, case when vestnik.vst_size(o."status") operator(pg_catalog.+) vestnik.vst_size(o."customer_name") operator(pg_catalog.+) vestnik.vst_size(o."customer_phone") operator(pg_catalog.+) vestnik.vst_size(o."reason") operator(pg_catalog.<=) 65536 then pg_catalog.row_to_json(o.*) else vestnik.vst_bounded(o_large.*) end from (select vst_row.* from (select null::pg_catalog.text as "id", null::pg_catalog.text as "store_id", null::pg_catalog.text as "status", null::pg_catalog.text as "customer_name", null::pg_catalog.text as "customer_phone", null::pg_catalog.text as "guests", null::pg_catalog.text as "reason", null::pg_catalog.text as "starts_at", null::pg_catalog.text as "created_at") vst_gone, lateral (select "id", "store_id", "status", "customer_name", "customer_phone", "guests", "reason", "starts_at", "created_at" from (select old.*) old_row) vst_row) o, lateral (select o."id", o."store_id", vestnik.vst_short(o."status"::pg_catalog.text) as "status", vestnik.vst_short(o."customer_name"::pg_catalog.text) as "customer_name", vestnik.vst_short(o."customer_phone"::pg_catalog.text) as "customer_phone", o."guests", vestnik.vst_short(o."reason"::pg_catalog.text) as "reason", o."starts_at", o."created_at") o_large, (select vst_row.* from (select null::pg_catalog.text as "id", null::pg_catalog.text as "store_id", null::pg_catalog.text as "status", null::pg_catalog.text as "customer_name", null::pg_catalog.text as "customer_phone", null::pg_catalog.text as "guests", null::pg_catalog.text as "reason", null::pg_catalog.text as "starts_at", null::pg_catalog.text as "created_at") vst_gone, lateral (select "id", "store_id", "status", "customer_name", "customer_phone", "guests", "reason", "starts_at", "created_at" from (select new.*) new_row) vst_row) n, lateral (select n."id", n."store_id", vestnik.vst_short(n."status"::pg_catalog.text) as "status", vestnik.vst_short(n."customer_name"::pg_catalog.text) as "customer_name", vestnik.vst_short(n."customer_phone"::pg_catalog.text) as "customer_phone", n."guests", vestnik.vst_short(n."reason"::pg_catalog.text) as "reason", n."starts_at", n."created_at") n_large
            where (tg_relid operator(pg_catalog.=) 'N'::pg_catalog.regclass) is not null;
        end if;
    elsif tg_op operator(pg_catalog.=) 'INSERT' then
        insert into vestnik.vst_event (source, store_id, key, type, data)
        select 2, vestnik.vst_store_id(n."store_id"::pg_catalog.text), vestnik.vst_key(n."id"::pg_catalog.text), 'insert', case when vestnik.vst_size(n."status") operator(pg_catalog.+) vestnik.vst_size(n."customer_name") operator(pg_catalog.+) vestnik.vst_size(n."customer_phone") operator(pg_catalog.+) vestnik.vst_size(n."reason") operator(pg_catalog.<=) 65536 then pg_catalog.row_to_json(n.*) else vestnik.vst_bounded(n_large.*) end from (select vst_row.* from (select null::pg_catalog.text as "id", null::pg_catalog.text as "store_id", null::pg_catalog.text as "status", null::pg_catalog.text as "customer_name", null::pg_catalog.text as "customer_phone", null::pg_catalog.text as "guests", null::pg_catalog.text as "reason", null::pg_catalog.text as "starts_at", null::pg_catalog.text as "created_at") vst_gone, lateral (select "id", "store_id", "status", "customer_name", "customer_phone", "guests", "reason", "starts_at", "created_at" from new_rows) vst_row) n, lateral (select n."id", n."store_id", vestnik.vst_short(n."status"::pg_catalog.text) as "status", vestnik.vst_short(n."customer_name"::pg_catalog.text) as "customer_name", vestnik.vst_short(n."customer_phone"::pg_catalog.text) as "customer_phone", n."guests", vestnik.vst_short(n."reason"::pg_catalog.text) as "reason", n."starts_at", n."created_at") n_large;
    elsif tg_op operator(pg_catalog.=) 'DELETE' then
        insert into vestnik.vst_event (source, store_id, key, type, data)
        select 2, vestnik.vst_store_id(o."store_id"::pg_catalog.text), vestnik.vst_key(o."id"::pg_catalog.text), 'delete', case when vestnik.vst_size(o."status") operator(pg_catalog.+) vestnik.vst_size(o."customer_name") operator(pg_catalog.+) vestnik.vst_size(o."customer_phone") operator(pg_catalog.+) vestnik.vst_size(o."reason") operator(pg_catalog.<=) 65536 then pg_catalog.row_to_json(o.*) else vestnik.vst_bounded(o_large.*) end from (select vst_row.* from (select null::pg_catalog.text as "id", null::pg_catalog.text as "store_id", null::pg_catalog.text as "status", null::pg_catalog.text as "customer_name", null::pg_catalog.text as "customer_phone", null::pg_catalog.text as "guests", null::pg_catalog.text as "reason", null::pg_catalog.text as "starts_at", null::pg_catalog.text as "created_at") vst_gone, lateral (select "id", "store_id", "status", "customer_name", "customer_phone", "guests", "reason", "starts_at", "created_at" from old_rows) vst_row) o, lateral (select o."id", o."store_id", vestnik.vst_short(o."status"::pg_catalog.text) as "status", vestnik.vst_short(o."customer_name"::pg_catalog.text) as "customer_name", vestnik.vst_short(o."customer_phone"::pg_catalog.text) as "customer_phone", o."guests", vestnik.vst_short(o."reason"::pg_catalog.text) as "reason", o."starts_at", o."created_at") o_large;
    else  -- TRUNCATE
        insert into vestnik.vst_event (source, type, data) values (2, 'truncate', '{}');
    end if;
    if found and vestnik.vst_should_notify() then
        perform pg_catalog.pg_notify('vestnik', '');
    end if;
    return null;
end $$;
CREATE FUNCTION vestnik.vst_short(value anyelement) RETURNS json
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    AS $$
begin
    return case when pg_catalog.pg_column_size(value) operator(pg_catalog.<=) 1048576 then pg_catalog.to_json(value)
        when value is not null then '{"vst_omitted":true}' end;
end $$;
CREATE FUNCTION vestnik.vst_short(value text) RETURNS json
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    AS $$
begin
    return case when pg_catalog.octet_length(value) operator(pg_catalog.<=) 1048576 then pg_catalog.to_json(value)
        when value is not null then '{"vst_omitted":true}' end;
end $$;
CREATE FUNCTION vestnik.vst_should_notify() RETURNS boolean
    LANGUAGE sql
    AS $$
    select vestnik.vst_notify_enabled()
       and pg_catalog.pg_try_advisory_xact_lock_shared(vestnik.vst_notify_lock_key(), 1)
$$;
CREATE FUNCTION vestnik.vst_size(value anyelement) RETURNS integer
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$ select coalesce(pg_catalog.pg_column_size(value), 0) $$;
CREATE FUNCTION vestnik.vst_skip_event_ids(skipped bigint) RETURNS bigint
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select pg_catalog.setval('vestnik.vst_event_id_seq', last_value + greatest(skipped, 0)) from vestnik.vst_event_id_seq
$$;
CREATE FUNCTION vestnik.vst_storable(value bytea) RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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
CREATE FUNCTION vestnik.vst_store_id(value text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
    select case when pg_catalog.octet_length(value) operator(pg_catalog.>) 0
        and pg_catalog.octet_length(value) operator(pg_catalog.<=) 200 then value end
$$;
CREATE FUNCTION vestnik.vst_token_changed() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    perform pg_notify('vestnik_token', '');
    return null;
end $$;
CREATE TABLE public.bookings (
    id bigint NOT NULL,
    store_id bigint NOT NULL,
    customer_name text,
    customer_phone text,
    guests integer,
    starts_at timestamp with time zone,
    status text DEFAULT 'pending'::text NOT NULL,
    reason text,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT bookings_status_known CHECK ((status = ANY (ARRAY['pending'::text, 'preparing'::text, 'ready'::text, 'completed'::text, 'rejected'::text, 'cancelled'::text])))
);
ALTER TABLE public.bookings ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.bookings_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.orders (
    id bigint NOT NULL,
    store_id bigint NOT NULL,
    customer_name text,
    customer_phone text,
    total bigint,
    order_type text,
    items jsonb,
    status text DEFAULT 'pending'::text NOT NULL,
    reason text,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT orders_delivering_is_delivery CHECK (((status <> 'delivering'::text) OR (NOT (order_type IS DISTINCT FROM 'delivery'::text)))),
    CONSTRAINT orders_order_type_check CHECK ((order_type = ANY (ARRAY['delivery'::text, 'pickup'::text]))),
    CONSTRAINT orders_status_known CHECK ((status = ANY (ARRAY['pending'::text, 'preparing'::text, 'ready'::text, 'delivering'::text, 'completed'::text, 'rejected'::text, 'cancelled'::text])))
);
ALTER TABLE public.orders ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.orders_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE vestnik.vst_acknowledgement (
    event_id bigint NOT NULL,
    token_id bigint NOT NULL,
    session text NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);
CREATE TABLE vestnik.vst_alarm (
    id bigint NOT NULL,
    store_id text NOT NULL,
    raised_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    cleared_at timestamp with time zone,
    cleared_by text,
    CONSTRAINT vst_alarm_cleared_by_check CHECK ((cleared_by = ANY (ARRAY['panel'::text, 'closing'::text])))
);
ALTER TABLE vestnik.vst_alarm ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME vestnik.vst_alarm_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE vestnik.vst_answer_request (
    source integer NOT NULL,
    key text NOT NULL,
    store_id text NOT NULL,
    id text NOT NULL,
    wish bytea NOT NULL,
    status text NOT NULL,
    answer json NOT NULL,
    asked_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    until timestamp with time zone NOT NULL
);
CREATE TABLE vestnik.vst_bot (
    sole boolean DEFAULT true NOT NULL,
    poller text,
    polled_at timestamp with time zone,
    conflict_at timestamp with time zone,
    error text,
    error_at timestamp with time zone,
    next_update bigint DEFAULT 0 NOT NULL,
    stopped_at timestamp with time zone,
    stopped_why text,
    stopped_hash bytea,
    number bigint,
    CONSTRAINT vst_bot_sole_check CHECK (sole)
);
CREATE UNLOGGED TABLE vestnik.vst_bot_node (
    id text NOT NULL,
    pid integer NOT NULL,
    seen_at timestamp with time zone NOT NULL
);
CREATE TABLE vestnik.vst_bot_slot (
    slot integer NOT NULL,
    free_at timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL
);
CREATE TABLE vestnik.vst_bot_update (
    id bigint NOT NULL,
    body text NOT NULL,
    taken_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);
CREATE TABLE vestnik.vst_canary (
    round text NOT NULL,
    store text NOT NULL,
    status text DEFAULT 'pending'::text NOT NULL,
    sent_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    until timestamp with time zone NOT NULL,
    outcome text
);
CREATE TABLE vestnik.vst_change (
    source integer NOT NULL,
    id bigint NOT NULL,
    watch smallint DEFAULT 0 NOT NULL,
    key text,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    xid xid8 DEFAULT pg_current_xact_id() NOT NULL
);
ALTER TABLE vestnik.vst_change ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME vestnik.vst_change_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE vestnik.vst_chat (
    id bigint NOT NULL,
    telegram_id bigint NOT NULL,
    title text,
    waiting boolean DEFAULT false NOT NULL,
    next_at timestamp with time zone DEFAULT now() NOT NULL,
    recent timestamp with time zone[] DEFAULT '{}'::timestamp with time zone[] NOT NULL,
    failures integer DEFAULT 0 NOT NULL,
    fence bigint DEFAULT 0 NOT NULL,
    leased_until timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    leased_by text,
    wakes_at timestamp with time zone,
    edits timestamp with time zone[] DEFAULT '{}'::timestamp with time zone[] NOT NULL,
    edit_next_at timestamp with time zone DEFAULT now() NOT NULL,
    edit_wakes_at timestamp with time zone,
    edit_leased_until timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    edit_leased_by text,
    edit_fence bigint DEFAULT 0 NOT NULL,
    error text,
    error_at timestamp with time zone,
    error_thread integer,
    disabled_at timestamp with time zone,
    disabled_why text,
    tries timestamp with time zone[] DEFAULT '{}'::timestamp with time zone[] NOT NULL,
    first_seen_at timestamp with time zone DEFAULT now() NOT NULL
);
ALTER TABLE vestnik.vst_chat ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME vestnik.vst_chat_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE vestnik.vst_chat_link (
    chat_id bigint NOT NULL,
    store_id text NOT NULL,
    mode text NOT NULL,
    language text NOT NULL,
    muted_until timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    linked_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    linked_by bigint NOT NULL,
    thread_id integer,
    quiet_from time without time zone,
    quiet_to time without time zone,
    blocked_at timestamp with time zone,
    blocked_why text,
    blocked_until timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    CONSTRAINT vst_chat_link_check CHECK (((quiet_from IS NULL) = (quiet_to IS NULL))),
    CONSTRAINT vst_chat_link_mode_check CHECK ((mode = ANY (ARRAY['mirror'::text, 'fallback'::text, 'manager'::text])))
);
CREATE TABLE vestnik.vst_holiday (
    store_id text NOT NULL,
    day date NOT NULL,
    yearly boolean DEFAULT false NOT NULL,
    opens time without time zone,
    closes time without time zone,
    CONSTRAINT vst_holiday_check CHECK (((opens IS NULL) = (closes IS NULL)))
);
CREATE TABLE vestnik.vst_opening_hours (
    store_id text NOT NULL,
    weekday smallint NOT NULL,
    opens time without time zone NOT NULL,
    closes time without time zone NOT NULL,
    CONSTRAINT vst_opening_hours_weekday_check CHECK (((weekday >= 1) AND (weekday <= 7)))
);
CREATE TABLE vestnik.vst_store (
    id text NOT NULL,
    name text,
    currency text DEFAULT 'RUB'::text NOT NULL,
    time_zone text DEFAULT 'Europe/Moscow'::text NOT NULL,
    answer_seconds integer DEFAULT 60 NOT NULL,
    webhook_url text,
    webhook_secret text,
    webhook_secret_old text,
    attended_by text DEFAULT 'panel'::text NOT NULL,
    escalates text DEFAULT 'open'::text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT vst_store_answer_seconds_check CHECK (((answer_seconds >= 5) AND (answer_seconds <= 86400))),
    CONSTRAINT vst_store_attended_by_check CHECK ((attended_by = ANY (ARRAY['panel'::text, 'chats'::text]))),
    CONSTRAINT vst_store_check CHECK (((webhook_url IS NULL) = (webhook_secret IS NULL))),
    CONSTRAINT vst_store_currency_check CHECK ((currency ~ '^[A-Z]{3}$'::text)),
    CONSTRAINT vst_store_escalates_check CHECK ((escalates = ANY (ARRAY['open'::text, 'always'::text]))),
    CONSTRAINT vst_store_id_check CHECK (((octet_length(id) >= 1) AND (octet_length(id) <= 200))),
    CONSTRAINT vst_store_time_zone_check CHECK ((timezone(time_zone, '2000-01-01 00:00:00'::timestamp without time zone) IS NOT NULL)),
    CONSTRAINT vst_store_webhook_secret_check CHECK ((octet_length(webhook_secret) >= 16)),
    CONSTRAINT vst_store_webhook_secret_old_check CHECK ((octet_length(webhook_secret_old) >= 16)),
    CONSTRAINT vst_store_webhook_url_check CHECK ((webhook_url ~ '^https?://'::text))
);
CREATE VIEW vestnik.vst_open_now AS
 SELECT s.id AS store_id
   FROM (vestnik.vst_store s
     CROSS JOIN LATERAL ( SELECT (clock_timestamp() AT TIME ZONE s.time_zone) AS at) now)
  WHERE (EXISTS ( SELECT
           FROM (( VALUES ((now.at)::date,true), (((now.at)::date - 1),false)) d(day, is_today)
             CROSS JOIN LATERAL ( SELECT h.opens,
                    h.closes
                   FROM vestnik.vst_holiday h
                  WHERE ((h.store_id = s.id) AND (((h.day = d.day) AND (NOT h.yearly)) OR (h.yearly AND (to_char((h.day)::timestamp with time zone, 'MMDD'::text) = to_char((d.day)::timestamp with time zone, 'MMDD'::text)))))
                UNION ALL
                 SELECT o.opens,
                    o.closes
                   FROM vestnik.vst_opening_hours o
                  WHERE ((o.store_id = s.id) AND ((o.weekday)::numeric = EXTRACT(isodow FROM d.day)) AND (NOT (EXISTS ( SELECT
                           FROM vestnik.vst_holiday h
                          WHERE ((h.store_id = s.id) AND (((h.day = d.day) AND (NOT h.yearly)) OR (h.yearly AND (to_char((h.day)::timestamp with time zone, 'MMDD'::text) = to_char((d.day)::timestamp with time zone, 'MMDD'::text)))))))))) span)
          WHERE
                CASE
                    WHEN d.is_today THEN (((now.at)::time without time zone >= span.opens) AND (((now.at)::time without time zone < span.closes) OR (span.closes <= span.opens)))
                    ELSE ((span.closes <= span.opens) AND ((now.at)::time without time zone < span.closes))
                END));
CREATE VIEW vestnik.vst_closed_now AS
 SELECT s.id AS store_id
   FROM (vestnik.vst_store s
     CROSS JOIN LATERAL ( SELECT ((clock_timestamp() AT TIME ZONE s.time_zone))::date AS day) today)
  WHERE (((EXISTS ( SELECT
           FROM vestnik.vst_opening_hours o
          WHERE (o.store_id = s.id))) OR (EXISTS ( SELECT
           FROM vestnik.vst_holiday h
          WHERE ((h.store_id = s.id) AND (((h.day = today.day) AND (NOT h.yearly)) OR (h.yearly AND (to_char((h.day)::timestamp with time zone, 'MMDD'::text) = to_char((today.day)::timestamp with time zone, 'MMDD'::text)))))))) AND (NOT (EXISTS ( SELECT
           FROM vestnik.vst_open_now n
          WHERE (n.store_id = s.id)))));
CREATE TABLE vestnik.vst_cluster (
    sole boolean DEFAULT true NOT NULL,
    system_identifier bigint NOT NULL,
    CONSTRAINT vst_cluster_sole_check CHECK (sole)
);
CREATE TABLE vestnik.vst_code (
    file text NOT NULL,
    fingerprint text NOT NULL,
    applied_at timestamp with time zone DEFAULT now() NOT NULL
);
CREATE TABLE vestnik.vst_delivery (
    id bigint NOT NULL,
    chat_id bigint NOT NULL,
    store_id text,
    event_id bigint,
    alarm_id bigint,
    alarm_ends boolean,
    words text,
    subject text,
    urgent boolean NOT NULL,
    stale boolean DEFAULT false NOT NULL,
    missed boolean DEFAULT false NOT NULL,
    state text DEFAULT 'pending'::text NOT NULL,
    reason text,
    waits_since timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,
    fence bigint,
    completed_at timestamp with time zone,
    due_at timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    failures integer DEFAULT 0 NOT NULL,
    refusals integer DEFAULT 0 NOT NULL,
    thread_id integer,
    buttons jsonb,
    alone boolean DEFAULT false NOT NULL,
    keyboard jsonb,
    is_list boolean DEFAULT false NOT NULL,
    message_id integer,
    note text,
    about_id bigint,
    step smallint,
    CONSTRAINT vst_delivery_check CHECK ((num_nonnulls(event_id, alarm_id, words, keyboard, note) = 1)),
    CONSTRAINT vst_delivery_check1 CHECK (((note IS NULL) = (about_id IS NULL))),
    CONSTRAINT vst_delivery_check2 CHECK (((keyboard IS NULL) OR (message_id IS NOT NULL))),
    CONSTRAINT vst_delivery_check3 CHECK (((message_id IS NULL) OR (keyboard IS NOT NULL) OR (words IS NOT NULL))),
    CONSTRAINT vst_delivery_note_check CHECK ((note = ANY (ARRAY['cancelled'::text, 'unanswered'::text, 'late'::text, 'shown'::text]))),
    CONSTRAINT vst_delivery_state_check CHECK ((state = ANY (ARRAY['pending'::text, 'sending'::text, 'retrying'::text, 'sent'::text, 'dead'::text])))
);
CREATE TABLE vestnik.vst_delivery_cursor (
    sole boolean DEFAULT true NOT NULL,
    cursor text DEFAULT ''::text NOT NULL,
    CONSTRAINT vst_delivery_cursor_sole_check CHECK (sole)
);
ALTER TABLE vestnik.vst_delivery ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME vestnik.vst_delivery_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE vestnik.vst_engine_history (
    version integer NOT NULL,
    name character varying(255),
    applied_on character varying(255),
    checksum character varying(255)
);
CREATE TABLE vestnik.vst_escalation (
    event_id bigint NOT NULL,
    store_id text NOT NULL,
    subject text NOT NULL,
    step smallint DEFAULT 0 NOT NULL,
    due_at timestamp with time zone NOT NULL,
    is_held boolean DEFAULT false NOT NULL,
    ended_at timestamp with time zone,
    outcome text,
    CONSTRAINT vst_escalation_outcome_check CHECK ((outcome = ANY (ARRAY['answered'::text, 'removed'::text, 'exhausted'::text])))
);
CREATE TABLE vestnik.vst_event (
    id bigint NOT NULL,
    xid xid8 DEFAULT pg_current_xact_id() NOT NULL,
    source integer,
    store_id text,
    key text,
    type text NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    data json NOT NULL,
    old json,
    answer json
);
ALTER TABLE vestnik.vst_event ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME vestnik.vst_event_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE vestnik.vst_idempotent_request (
    id bigint NOT NULL,
    token_id bigint NOT NULL,
    store_id text NOT NULL,
    key text NOT NULL,
    fingerprint bytea NOT NULL,
    status integer,
    body text,
    asked_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    until timestamp with time zone NOT NULL,
    fence integer DEFAULT 1 NOT NULL,
    CONSTRAINT vst_idempotent_request_check CHECK (((status IS NULL) = (body IS NULL))),
    CONSTRAINT vst_idempotent_request_fingerprint_check CHECK ((octet_length(fingerprint) = 32)),
    CONSTRAINT vst_idempotent_request_key_check CHECK (((length(key) >= 1) AND (length(key) <= 255)))
);
ALTER TABLE vestnik.vst_idempotent_request ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME vestnik.vst_idempotent_request_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE vestnik.vst_lineage (
    line uuid DEFAULT gen_random_uuid() NOT NULL,
    started_at timestamp with time zone DEFAULT pg_postmaster_start_time() NOT NULL,
    through xid8
);
CREATE TABLE vestnik.vst_link_code (
    hash bytea NOT NULL,
    store_id text NOT NULL,
    mode text NOT NULL,
    language text NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    used_at timestamp with time zone,
    CONSTRAINT vst_link_code_hash_check CHECK ((octet_length(hash) = 32)),
    CONSTRAINT vst_link_code_mode_check CHECK ((mode = ANY (ARRAY['mirror'::text, 'fallback'::text, 'manager'::text])))
);
CREATE TABLE vestnik.vst_list_button (
    chat_id bigint NOT NULL,
    message_id integer NOT NULL,
    event_id bigint NOT NULL,
    store_id text NOT NULL,
    subject text NOT NULL,
    label text NOT NULL,
    until text NOT NULL,
    CONSTRAINT vst_list_button_until_check CHECK ((until = ANY (ARRAY['answered'::text, 'closed'::text])))
);
CREATE TABLE vestnik.vst_message (
    chat_id bigint NOT NULL,
    store_id text NOT NULL,
    subject text NOT NULL,
    event_id bigint NOT NULL,
    message_id integer NOT NULL,
    asked_at timestamp with time zone,
    sent_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);
CREATE TABLE vestnik.vst_node (
    id text NOT NULL,
    until timestamp with time zone NOT NULL,
    clock_ahead_s double precision DEFAULT 0 NOT NULL
);
CREATE TABLE vestnik.vst_out_of_stock (
    store_id text NOT NULL,
    item text NOT NULL,
    since timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    until timestamp with time zone,
    stopped_by text,
    CONSTRAINT vst_out_of_stock_item_check CHECK (((length(item) >= 1) AND (length(item) <= 200))),
    CONSTRAINT vst_out_of_stock_store_id_check CHECK (((octet_length(store_id) >= 1) AND (octet_length(store_id) <= 200)))
);
CREATE VIEW vestnik.vst_out_of_stock_now AS
 SELECT vst_out_of_stock.store_id,
    vst_out_of_stock.item,
    vst_out_of_stock.since,
    vst_out_of_stock.until,
    vst_out_of_stock.stopped_by
   FROM vestnik.vst_out_of_stock
  WHERE ((vst_out_of_stock.until IS NULL) OR (vst_out_of_stock.until > clock_timestamp()));
CREATE TABLE vestnik.vst_pause (
    store_id text NOT NULL,
    since timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    until timestamp with time zone NOT NULL,
    paused_by text,
    reason text,
    CONSTRAINT vst_pause_store_id_check CHECK (((octet_length(store_id) >= 1) AND (octet_length(store_id) <= 200)))
);
CREATE VIEW vestnik.vst_paused_now AS
 SELECT vst_pause.store_id,
    vst_pause.since,
    vst_pause.until,
    vst_pause.paused_by,
    vst_pause.reason
   FROM vestnik.vst_pause
  WHERE (vst_pause.until > clock_timestamp());
CREATE TABLE vestnik.vst_presence (
    node_id text NOT NULL,
    store_id text NOT NULL
);
CREATE TABLE vestnik.vst_projection_failure (
    source integer NOT NULL,
    key text NOT NULL,
    place text NOT NULL,
    reason text NOT NULL,
    is_unseen boolean NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    tried_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);
CREATE TABLE vestnik.vst_projector (
    sole boolean DEFAULT true NOT NULL,
    holder text,
    until timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    policies text,
    CONSTRAINT vst_projector_sole_check CHECK (sole)
);
CREATE TABLE vestnik.vst_promise (
    store_id text NOT NULL,
    subject text NOT NULL,
    event_id bigint NOT NULL,
    due_at timestamp with time zone NOT NULL,
    minutes integer,
    is_told boolean DEFAULT false NOT NULL
);
CREATE TABLE vestnik.vst_receipt (
    event_id bigint NOT NULL,
    channel text NOT NULL,
    recipient text NOT NULL,
    token_id bigint DEFAULT 0 NOT NULL,
    sent_at timestamp with time zone,
    rendered_at timestamp with time zone,
    sounded_at timestamp with time zone,
    acknowledged_at timestamp with time zone,
    acknowledged_by text,
    CONSTRAINT vst_receipt_channel_check CHECK ((channel = ANY (ARRAY['websocket'::text, 'sse'::text, 'polling'::text, 'telegram'::text, 'webhook'::text])))
);
CREATE TABLE vestnik.vst_retention (
    sole boolean DEFAULT true NOT NULL,
    trimmed_through xid8 DEFAULT '0'::xid8 NOT NULL,
    CONSTRAINT vst_retention_sole_check CHECK (sole)
);
CREATE TABLE vestnik.vst_shop_history (
    version integer NOT NULL,
    name character varying(255),
    applied_on character varying(255),
    checksum character varying(255)
);
CREATE TABLE vestnik.vst_source (
    id integer NOT NULL,
    name text NOT NULL,
    table_name text NOT NULL,
    kind text NOT NULL,
    mapping text NOT NULL,
    columns jsonb NOT NULL,
    former_mapping text,
    former_columns jsonb,
    owner_trusted boolean DEFAULT false NOT NULL,
    attached_xid xid8 DEFAULT pg_current_xact_id() NOT NULL,
    attached_at timestamp with time zone DEFAULT now() NOT NULL,
    detached_at timestamp with time zone,
    CONSTRAINT vst_source_kind_check CHECK ((kind = ANY (ARRAY['order'::text, 'booking'::text]))),
    CONSTRAINT vst_source_name_check CHECK (((octet_length(name) >= 1) AND (octet_length(name) <= 200)))
);
ALTER TABLE vestnik.vst_source ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME vestnik.vst_source_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE vestnik.vst_source_version (
    sole boolean DEFAULT true NOT NULL,
    version bigint DEFAULT 1 NOT NULL,
    CONSTRAINT vst_source_version_sole_check CHECK (sole)
);
CREATE TABLE vestnik.vst_status_change (
    id bigint NOT NULL,
    source integer NOT NULL,
    key text NOT NULL,
    store_id text NOT NULL,
    previous text NOT NULL,
    status text NOT NULL,
    channel text NOT NULL,
    by_whom text NOT NULL,
    token_id bigint,
    minutes integer,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    request_id bigint,
    CONSTRAINT vst_status_change_channel_check CHECK ((channel = ANY (ARRAY['panel'::text, 'telegram'::text]))),
    CONSTRAINT vst_status_change_minutes_check CHECK (((minutes >= 1) AND (minutes <= 600)))
);
ALTER TABLE vestnik.vst_status_change ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME vestnik.vst_status_change_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE vestnik.vst_token (
    id bigint NOT NULL,
    hash bytea NOT NULL,
    label text,
    stores text[],
    scope text DEFAULT 'panel'::text NOT NULL,
    issuer text,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    expires_at timestamp with time zone,
    revoked_at timestamp with time zone,
    used_at timestamp with time zone,
    CONSTRAINT vst_token_hash_check CHECK ((octet_length(hash) = 32)),
    CONSTRAINT vst_token_scope_check CHECK ((scope = ANY (ARRAY['read'::text, 'panel'::text, 'manager'::text, 'operator'::text])))
);
ALTER TABLE vestnik.vst_token ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME vestnik.vst_token_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE vestnik.vst_token_use (
    node text NOT NULL,
    until timestamp with time zone NOT NULL,
    tokens bigint[] NOT NULL,
    sessions integer[] NOT NULL
);
CREATE TABLE vestnik.vst_turn (
    task text NOT NULL
);
CREATE TABLE vestnik.vst_unattended (
    store_id text NOT NULL,
    since timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);
CREATE TABLE vestnik.vst_wait (
    source integer NOT NULL,
    key text NOT NULL,
    since timestamp with time zone NOT NULL,
    until timestamp with time zone NOT NULL
);
CREATE TABLE vestnik.vst_webhook (
    event_id bigint NOT NULL,
    store_id text NOT NULL,
    state text DEFAULT 'pending'::text NOT NULL,
    reason text,
    attempts integer DEFAULT 0 NOT NULL,
    due_at timestamp with time zone DEFAULT now() NOT NULL,
    leased_until timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    fence bigint DEFAULT 0 NOT NULL,
    completed_at timestamp with time zone,
    CONSTRAINT vst_webhook_state_check CHECK ((state = ANY (ARRAY['pending'::text, 'sending'::text, 'retrying'::text, 'sent'::text, 'dead'::text])))
);
CREATE TABLE vestnik.vst_webhook_endpoint (
    id bigint NOT NULL,
    key text DEFAULT replace((gen_random_uuid())::text, '-'::text, ''::text) NOT NULL,
    url text NOT NULL,
    secret text NOT NULL,
    secret_old text,
    stores text[],
    types text[],
    cursor text NOT NULL,
    handled bigint,
    resync_reason text,
    resyncs integer DEFAULT 0 NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,
    refusals integer DEFAULT 0 NOT NULL,
    failing_since timestamp with time zone,
    reason text,
    due_at timestamp with time zone DEFAULT now() NOT NULL,
    leased_until timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    fence bigint DEFAULT 0 NOT NULL,
    stopped_at timestamp with time zone,
    sent bigint DEFAULT 0 NOT NULL,
    given_up bigint DEFAULT 0 NOT NULL,
    sent_at timestamp with time zone,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT vst_webhook_endpoint_secret_check CHECK ((octet_length(secret) >= 16)),
    CONSTRAINT vst_webhook_endpoint_secret_old_check CHECK ((octet_length(secret_old) >= 16)),
    CONSTRAINT vst_webhook_endpoint_stores_check CHECK ((cardinality(stores) > 0)),
    CONSTRAINT vst_webhook_endpoint_types_check CHECK ((cardinality(types) > 0)),
    CONSTRAINT vst_webhook_endpoint_url_check CHECK ((url ~ '^https?://'::text))
);
ALTER TABLE vestnik.vst_webhook_endpoint ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME vestnik.vst_webhook_endpoint_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
ALTER TABLE ONLY public.bookings
    ADD CONSTRAINT bookings_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.orders
    ADD CONSTRAINT orders_pkey PRIMARY KEY (id);
ALTER TABLE ONLY vestnik.vst_acknowledgement
    ADD CONSTRAINT vst_acknowledgement_pkey PRIMARY KEY (event_id, token_id);
ALTER TABLE ONLY vestnik.vst_alarm
    ADD CONSTRAINT vst_alarm_pkey PRIMARY KEY (id);
ALTER TABLE ONLY vestnik.vst_answer_request
    ADD CONSTRAINT vst_answer_request_pkey PRIMARY KEY (source, key, store_id);
ALTER TABLE ONLY vestnik.vst_bot_node
    ADD CONSTRAINT vst_bot_node_pkey PRIMARY KEY (id);
ALTER TABLE ONLY vestnik.vst_bot
    ADD CONSTRAINT vst_bot_pkey PRIMARY KEY (sole);
ALTER TABLE ONLY vestnik.vst_bot_slot
    ADD CONSTRAINT vst_bot_slot_pkey PRIMARY KEY (slot);
ALTER TABLE ONLY vestnik.vst_bot_update
    ADD CONSTRAINT vst_bot_update_pkey PRIMARY KEY (id);
ALTER TABLE ONLY vestnik.vst_canary
    ADD CONSTRAINT vst_canary_pkey PRIMARY KEY (round);
ALTER TABLE ONLY vestnik.vst_change
    ADD CONSTRAINT vst_change_pkey PRIMARY KEY (source, id);
ALTER TABLE ONLY vestnik.vst_chat_link
    ADD CONSTRAINT vst_chat_link_pkey PRIMARY KEY (chat_id, store_id);
ALTER TABLE ONLY vestnik.vst_chat
    ADD CONSTRAINT vst_chat_pkey PRIMARY KEY (id);
ALTER TABLE ONLY vestnik.vst_chat
    ADD CONSTRAINT vst_chat_telegram_id_key UNIQUE (telegram_id);
ALTER TABLE ONLY vestnik.vst_cluster
    ADD CONSTRAINT vst_cluster_pkey PRIMARY KEY (sole);
ALTER TABLE ONLY vestnik.vst_code
    ADD CONSTRAINT vst_code_pkey PRIMARY KEY (file);
ALTER TABLE ONLY vestnik.vst_delivery_cursor
    ADD CONSTRAINT vst_delivery_cursor_pkey PRIMARY KEY (sole);
ALTER TABLE ONLY vestnik.vst_delivery
    ADD CONSTRAINT vst_delivery_pkey PRIMARY KEY (id);
ALTER TABLE ONLY vestnik.vst_engine_history
    ADD CONSTRAINT vst_engine_history_pkey PRIMARY KEY (version);
ALTER TABLE ONLY vestnik.vst_escalation
    ADD CONSTRAINT vst_escalation_pkey PRIMARY KEY (event_id);
ALTER TABLE ONLY vestnik.vst_event
    ADD CONSTRAINT vst_event_pkey PRIMARY KEY (id);
ALTER TABLE ONLY vestnik.vst_holiday
    ADD CONSTRAINT vst_holiday_store_id_day_yearly_opens_key UNIQUE (store_id, day, yearly, opens);
ALTER TABLE ONLY vestnik.vst_idempotent_request
    ADD CONSTRAINT vst_idempotent_request_pkey PRIMARY KEY (token_id, store_id, key);
ALTER TABLE ONLY vestnik.vst_lineage
    ADD CONSTRAINT vst_lineage_pkey PRIMARY KEY (line);
ALTER TABLE ONLY vestnik.vst_link_code
    ADD CONSTRAINT vst_link_code_pkey PRIMARY KEY (hash);
ALTER TABLE ONLY vestnik.vst_list_button
    ADD CONSTRAINT vst_list_button_pkey PRIMARY KEY (chat_id, message_id, event_id);
ALTER TABLE ONLY vestnik.vst_message
    ADD CONSTRAINT vst_message_pkey PRIMARY KEY (chat_id, store_id, subject);
ALTER TABLE ONLY vestnik.vst_node
    ADD CONSTRAINT vst_node_pkey PRIMARY KEY (id);
ALTER TABLE ONLY vestnik.vst_opening_hours
    ADD CONSTRAINT vst_opening_hours_pkey PRIMARY KEY (store_id, weekday, opens);
ALTER TABLE ONLY vestnik.vst_out_of_stock
    ADD CONSTRAINT vst_out_of_stock_pkey PRIMARY KEY (store_id, item);
ALTER TABLE ONLY vestnik.vst_pause
    ADD CONSTRAINT vst_pause_pkey PRIMARY KEY (store_id);
ALTER TABLE ONLY vestnik.vst_presence
    ADD CONSTRAINT vst_presence_pkey PRIMARY KEY (node_id, store_id);
ALTER TABLE ONLY vestnik.vst_projection_failure
    ADD CONSTRAINT vst_projection_failure_pkey PRIMARY KEY (source, key, place);
ALTER TABLE ONLY vestnik.vst_projector
    ADD CONSTRAINT vst_projector_pkey PRIMARY KEY (sole);
ALTER TABLE ONLY vestnik.vst_promise
    ADD CONSTRAINT vst_promise_pkey PRIMARY KEY (store_id, subject);
ALTER TABLE ONLY vestnik.vst_receipt
    ADD CONSTRAINT vst_receipt_pkey PRIMARY KEY (event_id, channel, recipient, token_id);
ALTER TABLE ONLY vestnik.vst_retention
    ADD CONSTRAINT vst_retention_pkey PRIMARY KEY (sole);
ALTER TABLE ONLY vestnik.vst_shop_history
    ADD CONSTRAINT vst_shop_history_pkey PRIMARY KEY (version);
ALTER TABLE ONLY vestnik.vst_source
    ADD CONSTRAINT vst_source_pkey PRIMARY KEY (id);
ALTER TABLE ONLY vestnik.vst_source_version
    ADD CONSTRAINT vst_source_version_pkey PRIMARY KEY (sole);
ALTER TABLE ONLY vestnik.vst_status_change
    ADD CONSTRAINT vst_status_change_pkey PRIMARY KEY (id);
ALTER TABLE ONLY vestnik.vst_store
    ADD CONSTRAINT vst_store_pkey PRIMARY KEY (id);
ALTER TABLE ONLY vestnik.vst_token
    ADD CONSTRAINT vst_token_hash_key UNIQUE (hash);
ALTER TABLE ONLY vestnik.vst_token
    ADD CONSTRAINT vst_token_pkey PRIMARY KEY (id);
ALTER TABLE ONLY vestnik.vst_token_use
    ADD CONSTRAINT vst_token_use_pkey PRIMARY KEY (node);
ALTER TABLE ONLY vestnik.vst_turn
    ADD CONSTRAINT vst_turn_pkey PRIMARY KEY (task);
ALTER TABLE ONLY vestnik.vst_unattended
    ADD CONSTRAINT vst_unattended_pkey PRIMARY KEY (store_id);
ALTER TABLE ONLY vestnik.vst_wait
    ADD CONSTRAINT vst_wait_pkey PRIMARY KEY (source, key);
ALTER TABLE ONLY vestnik.vst_webhook_endpoint
    ADD CONSTRAINT vst_webhook_endpoint_pkey PRIMARY KEY (id);
ALTER TABLE ONLY vestnik.vst_webhook
    ADD CONSTRAINT vst_webhook_pkey PRIMARY KEY (event_id);
CREATE INDEX idx_bookings_status_created ON public.bookings USING btree (status, created_at);
CREATE INDEX idx_orders_status_created ON public.orders USING btree (status, created_at);
CREATE UNIQUE INDEX vst_alarm_open ON vestnik.vst_alarm USING btree (store_id) WHERE (cleared_at IS NULL);
CREATE INDEX vst_canary_store ON vestnik.vst_canary USING btree (store);
CREATE INDEX vst_chat_edits ON vestnik.vst_chat USING btree (edit_next_at) WHERE (waiting OR (edit_wakes_at IS NOT NULL));
CREATE INDEX vst_chat_link_store ON vestnik.vst_chat_link USING btree (store_id);
CREATE INDEX vst_chat_messages ON vestnik.vst_chat USING btree (next_at) WHERE (waiting OR (wakes_at IS NOT NULL));
CREATE UNIQUE INDEX vst_delivery_alarm ON vestnik.vst_delivery USING btree (alarm_id, chat_id, alarm_ends);
CREATE UNIQUE INDEX vst_delivery_event ON vestnik.vst_delivery USING btree (event_id, chat_id);
CREATE INDEX vst_delivery_keyboard ON vestnik.vst_delivery USING btree (chat_id, message_id) WHERE (keyboard IS NOT NULL);
CREATE UNIQUE INDEX vst_delivery_note ON vestnik.vst_delivery USING btree (about_id, chat_id, note);
CREATE INDEX vst_delivery_open ON vestnik.vst_delivery USING btree (chat_id, urgent DESC, id) WHERE (state = ANY (ARRAY['pending'::text, 'sending'::text, 'retrying'::text]));
CREATE INDEX vst_delivery_subject ON vestnik.vst_delivery USING btree (chat_id, subject);
CREATE INDEX vst_delivery_words ON vestnik.vst_delivery USING btree (waits_since) WHERE (words IS NOT NULL);
CREATE INDEX vst_escalation_due ON vestnik.vst_escalation USING btree (due_at) WHERE (ended_at IS NULL);
CREATE INDEX vst_escalation_subject ON vestnik.vst_escalation USING btree (subject);
CREATE INDEX vst_event_store_xid ON vestnik.vst_event USING btree (store_id, xid);
CREATE INDEX vst_event_xid ON vestnik.vst_event USING btree (xid);
CREATE INDEX vst_idempotent_request_asked ON vestnik.vst_idempotent_request USING btree (asked_at);
CREATE UNIQUE INDEX vst_idempotent_request_id ON vestnik.vst_idempotent_request USING btree (id);
CREATE UNIQUE INDEX vst_lineage_in_force ON vestnik.vst_lineage USING btree ((true)) WHERE (through IS NULL);
CREATE INDEX vst_list_button_event ON vestnik.vst_list_button USING btree (event_id);
CREATE INDEX vst_list_button_subject ON vestnik.vst_list_button USING btree (store_id, subject);
CREATE INDEX vst_message_event ON vestnik.vst_message USING btree (event_id);
CREATE INDEX vst_out_of_stock_until ON vestnik.vst_out_of_stock USING btree (until);
CREATE INDEX vst_pause_until ON vestnik.vst_pause USING btree (until);
CREATE INDEX vst_presence_store ON vestnik.vst_presence USING btree (store_id);
CREATE INDEX vst_projection_failure_tried ON vestnik.vst_projection_failure USING btree (source, tried_at);
CREATE INDEX vst_promise_due ON vestnik.vst_promise USING btree (due_at) WHERE (NOT is_told);
CREATE INDEX vst_promise_event ON vestnik.vst_promise USING btree (event_id);
CREATE UNIQUE INDEX vst_source_name ON vestnik.vst_source USING btree (name) WHERE (detached_at IS NULL);
CREATE UNIQUE INDEX vst_source_table ON vestnik.vst_source USING btree (table_name) WHERE (detached_at IS NULL);
CREATE INDEX vst_status_change_of ON vestnik.vst_status_change USING btree (source, key, id DESC);
CREATE UNIQUE INDEX vst_status_change_request ON vestnik.vst_status_change USING btree (request_id) WHERE (request_id IS NOT NULL);
CREATE INDEX vst_status_change_store ON vestnik.vst_status_change USING btree (store_id, at);
CREATE INDEX vst_webhook_due ON vestnik.vst_webhook USING btree (due_at) WHERE (state = ANY (ARRAY['pending'::text, 'sending'::text, 'retrying'::text]));
CREATE TRIGGER vestnik_record_delete AFTER DELETE ON public.bookings REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION vestnik.vst_record_2();
CREATE TRIGGER vestnik_record_delete AFTER DELETE ON public.orders REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION vestnik.vst_record_1();
CREATE TRIGGER vestnik_record_insert AFTER INSERT ON public.bookings REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION vestnik.vst_record_2();
CREATE TRIGGER vestnik_record_insert AFTER INSERT ON public.orders REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION vestnik.vst_record_1();
CREATE TRIGGER vestnik_record_truncate AFTER TRUNCATE ON public.bookings FOR EACH STATEMENT EXECUTE FUNCTION vestnik.vst_record_2();
CREATE TRIGGER vestnik_record_truncate AFTER TRUNCATE ON public.orders FOR EACH STATEMENT EXECUTE FUNCTION vestnik.vst_record_1();
CREATE TRIGGER vestnik_record_update AFTER UPDATE ON public.bookings FOR EACH ROW EXECUTE FUNCTION vestnik.vst_record_2();
CREATE TRIGGER vestnik_record_update AFTER UPDATE ON public.orders FOR EACH ROW EXECUTE FUNCTION vestnik.vst_record_1();
CREATE TRIGGER vestnik_record_insert AFTER INSERT ON vestnik.vst_canary REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION vestnik.vst_record_0();
CREATE TRIGGER vst_token_changed AFTER DELETE OR UPDATE OF hash, stores, scope, expires_at, revoked_at OR TRUNCATE ON vestnik.vst_token FOR EACH STATEMENT EXECUTE FUNCTION vestnik.vst_token_changed();
ALTER TABLE ONLY vestnik.vst_acknowledgement
    ADD CONSTRAINT vst_acknowledgement_event_id_fkey FOREIGN KEY (event_id) REFERENCES vestnik.vst_event(id) ON DELETE CASCADE;
ALTER TABLE ONLY vestnik.vst_alarm
    ADD CONSTRAINT vst_alarm_store_id_fkey FOREIGN KEY (store_id) REFERENCES vestnik.vst_store(id) ON DELETE CASCADE;
ALTER TABLE ONLY vestnik.vst_answer_request
    ADD CONSTRAINT vst_answer_request_source_fkey FOREIGN KEY (source) REFERENCES vestnik.vst_source(id) ON DELETE CASCADE;
ALTER TABLE ONLY vestnik.vst_chat_link
    ADD CONSTRAINT vst_chat_link_chat_id_fkey FOREIGN KEY (chat_id) REFERENCES vestnik.vst_chat(id) ON DELETE CASCADE;
ALTER TABLE ONLY vestnik.vst_chat_link
    ADD CONSTRAINT vst_chat_link_store_id_fkey FOREIGN KEY (store_id) REFERENCES vestnik.vst_store(id) ON DELETE CASCADE;
ALTER TABLE ONLY vestnik.vst_delivery
    ADD CONSTRAINT vst_delivery_about_id_fkey FOREIGN KEY (about_id) REFERENCES vestnik.vst_event(id) ON DELETE CASCADE;
ALTER TABLE ONLY vestnik.vst_delivery
    ADD CONSTRAINT vst_delivery_alarm_id_fkey FOREIGN KEY (alarm_id) REFERENCES vestnik.vst_alarm(id) ON DELETE CASCADE;
ALTER TABLE ONLY vestnik.vst_delivery
    ADD CONSTRAINT vst_delivery_chat_id_fkey FOREIGN KEY (chat_id) REFERENCES vestnik.vst_chat(id) ON DELETE CASCADE;
ALTER TABLE ONLY vestnik.vst_delivery
    ADD CONSTRAINT vst_delivery_event_id_fkey FOREIGN KEY (event_id) REFERENCES vestnik.vst_event(id) ON DELETE CASCADE;
ALTER TABLE ONLY vestnik.vst_escalation
    ADD CONSTRAINT vst_escalation_event_id_fkey FOREIGN KEY (event_id) REFERENCES vestnik.vst_event(id) ON DELETE CASCADE;
ALTER TABLE ONLY vestnik.vst_holiday
    ADD CONSTRAINT vst_holiday_store_id_fkey FOREIGN KEY (store_id) REFERENCES vestnik.vst_store(id) ON DELETE CASCADE;
ALTER TABLE ONLY vestnik.vst_link_code
    ADD CONSTRAINT vst_link_code_store_id_fkey FOREIGN KEY (store_id) REFERENCES vestnik.vst_store(id) ON DELETE CASCADE;
ALTER TABLE ONLY vestnik.vst_list_button
    ADD CONSTRAINT vst_list_button_chat_id_fkey FOREIGN KEY (chat_id) REFERENCES vestnik.vst_chat(id) ON DELETE CASCADE;
ALTER TABLE ONLY vestnik.vst_list_button
    ADD CONSTRAINT vst_list_button_event_id_fkey FOREIGN KEY (event_id) REFERENCES vestnik.vst_event(id) ON DELETE CASCADE;
ALTER TABLE ONLY vestnik.vst_message
    ADD CONSTRAINT vst_message_chat_id_fkey FOREIGN KEY (chat_id) REFERENCES vestnik.vst_chat(id) ON DELETE CASCADE;
ALTER TABLE ONLY vestnik.vst_message
    ADD CONSTRAINT vst_message_event_id_fkey FOREIGN KEY (event_id) REFERENCES vestnik.vst_event(id) ON DELETE CASCADE;
ALTER TABLE ONLY vestnik.vst_opening_hours
    ADD CONSTRAINT vst_opening_hours_store_id_fkey FOREIGN KEY (store_id) REFERENCES vestnik.vst_store(id) ON DELETE CASCADE;
ALTER TABLE ONLY vestnik.vst_presence
    ADD CONSTRAINT vst_presence_node_id_fkey FOREIGN KEY (node_id) REFERENCES vestnik.vst_node(id) ON DELETE CASCADE;
ALTER TABLE ONLY vestnik.vst_projection_failure
    ADD CONSTRAINT vst_projection_failure_source_fkey FOREIGN KEY (source) REFERENCES vestnik.vst_source(id) ON DELETE CASCADE;
ALTER TABLE ONLY vestnik.vst_promise
    ADD CONSTRAINT vst_promise_event_id_fkey FOREIGN KEY (event_id) REFERENCES vestnik.vst_event(id) ON DELETE CASCADE;
ALTER TABLE ONLY vestnik.vst_receipt
    ADD CONSTRAINT vst_receipt_event_id_fkey FOREIGN KEY (event_id) REFERENCES vestnik.vst_event(id) ON DELETE CASCADE;
ALTER TABLE ONLY vestnik.vst_status_change
    ADD CONSTRAINT vst_status_change_source_fkey FOREIGN KEY (source) REFERENCES vestnik.vst_source(id) ON DELETE CASCADE;
ALTER TABLE ONLY vestnik.vst_unattended
    ADD CONSTRAINT vst_unattended_store_id_fkey FOREIGN KEY (store_id) REFERENCES vestnik.vst_store(id) ON DELETE CASCADE;
ALTER TABLE ONLY vestnik.vst_wait
    ADD CONSTRAINT vst_wait_source_fkey FOREIGN KEY (source) REFERENCES vestnik.vst_source(id) ON DELETE CASCADE;
ALTER TABLE ONLY vestnik.vst_webhook
    ADD CONSTRAINT vst_webhook_event_id_fkey FOREIGN KEY (event_id) REFERENCES vestnik.vst_event(id) ON DELETE CASCADE;
GRANT USAGE ON SCHEMA vestnik TO vestnik_recorder;
REVOKE ALL ON FUNCTION vestnik.vst_at_path(value text, path text[]) FROM PUBLIC;
GRANT ALL ON FUNCTION vestnik.vst_at_path(value text, path text[]) TO vestnik_recorder;
GRANT ALL ON FUNCTION vestnik.vst_bounded(columns record) TO vestnik_recorder;
REVOKE ALL ON FUNCTION vestnik.vst_key(value text) FROM PUBLIC;
GRANT ALL ON FUNCTION vestnik.vst_key(value text) TO vestnik_recorder;
REVOKE ALL ON FUNCTION vestnik.vst_notify() FROM PUBLIC;
GRANT ALL ON FUNCTION vestnik.vst_notify() TO vestnik_recorder;
GRANT ALL ON FUNCTION vestnik.vst_notify_enabled() TO vestnik_recorder;
GRANT ALL ON FUNCTION vestnik.vst_notify_lock_key() TO vestnik_recorder;
GRANT ALL ON FUNCTION vestnik.vst_readable(value json) TO vestnik_recorder;
GRANT ALL ON FUNCTION vestnik.vst_readable(value text) TO vestnik_recorder;
REVOKE ALL ON FUNCTION vestnik.vst_record_0() FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.vst_record_1() FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.vst_record_2() FROM PUBLIC;
GRANT ALL ON FUNCTION vestnik.vst_short(value anyelement) TO vestnik_recorder;
GRANT ALL ON FUNCTION vestnik.vst_short(value text) TO vestnik_recorder;
REVOKE ALL ON FUNCTION vestnik.vst_should_notify() FROM PUBLIC;
GRANT ALL ON FUNCTION vestnik.vst_should_notify() TO vestnik_recorder;
REVOKE ALL ON FUNCTION vestnik.vst_size(value anyelement) FROM PUBLIC;
GRANT ALL ON FUNCTION vestnik.vst_size(value anyelement) TO vestnik_recorder;
REVOKE ALL ON FUNCTION vestnik.vst_skip_event_ids(skipped bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION vestnik.vst_storable(value bytea) TO vestnik_recorder;
REVOKE ALL ON FUNCTION vestnik.vst_store_id(value text) FROM PUBLIC;
GRANT ALL ON FUNCTION vestnik.vst_store_id(value text) TO vestnik_recorder;
REVOKE ALL ON FUNCTION vestnik.vst_token_changed() FROM PUBLIC;
GRANT ALL ON FUNCTION vestnik.vst_token_changed() TO vestnik_recorder;
GRANT INSERT(source) ON TABLE vestnik.vst_change TO vestnik_recorder;
GRANT INSERT(watch) ON TABLE vestnik.vst_change TO vestnik_recorder;
GRANT INSERT(key) ON TABLE vestnik.vst_change TO vestnik_recorder;
GRANT INSERT(source) ON TABLE vestnik.vst_event TO vestnik_recorder;
GRANT INSERT(store_id) ON TABLE vestnik.vst_event TO vestnik_recorder;
GRANT INSERT(key) ON TABLE vestnik.vst_event TO vestnik_recorder;
GRANT INSERT(type) ON TABLE vestnik.vst_event TO vestnik_recorder;
GRANT INSERT(data) ON TABLE vestnik.vst_event TO vestnik_recorder;
GRANT INSERT(old) ON TABLE vestnik.vst_event TO vestnik_recorder;
