-- A table that was altered since it was attached, or restored from a dump. Shops rename, drop and retype their columns, and
-- know nothing of us: an order is taken all the same, and told as far as the columns go, until the table is attached again.

-- Whether a table is as its trigger functions name it. Called immutable, which it is not, so that it is answered when a
-- session plans, and costs an order nothing; that `target` is a regclass has Postgres plan anew when the table is altered.
create or replace function vestnik.is_as_attached(target regclass, table_name text, columns text[]) returns boolean
language sql immutable set search_path = pg_catalog, pg_temp as $$
    select coalesce(to_regclass(table_name) = target and columns <@ array_agg(attname || ' ' || format_type(atttypid, null)), false)
    from pg_attribute where attrelid = target and attnum > 0 and not attisdropped
$$;

-- The expression that asks it. By the table's number, for its name may be another by then: a literal that names no table is
-- an error.
create or replace function vestnik.as_attached_sql(target text, kind text, id_column text, store_column text, status_column text)
returns text language sql stable set search_path = pg_catalog, pg_temp as $$
    select format('vestnik.is_as_attached(%L, %L, %L)', target::regclass::oid, target,
                  array_agg(attname || ' ' || format_type(atttypid, null) order by attnum))
    from pg_attribute
    where attrelid = target::regclass and attnum > 0 and not attisdropped
      and (attname in (id_column, store_column, status_column, 'reason')
           or attname in (select name from vestnik.told_columns(target, kind, 'n')))
$$;

-- What is rare, and comes first in each trigger function: a transaction that is quiet, and a table that was altered since.
-- `rows` reads the rows `before` and `after`, as text.
create or replace function vestnik.rare_sql(
    target text, kind text, id_column text, store_column text, status_column text, rows text
) returns text
language sql stable set search_path = pg_catalog, pg_temp as $$
    select format($sql$    if current_setting('vestnik.quiet', true) = 'on' or not %1$s then
        if vestnik.is_quiet() then
            return null;
        end if;
        if not %1$s then
            perform vestnik.emit_altered(tg_relid, %2$L, %3$L, before, after) from %4$s;
            return null;
        end if;
    end if;$sql$, vestnik.as_attached_sql(target, kind, id_column, store_column, status_column), kind,
        array[id_column, store_column, status_column, 'reason'], rows)
$$;

-- Tells a row of such a table: slower, but no write fails for what its table and its columns are called by now.
create or replace function vestnik.emit_altered(target regclass, kind text, columns text[], before text, after text) returns void
language plpgsql as $$
declare
    attached constant regclass := coalesce(pg_partition_root(target), target);
    row_sql constant text := format('($1::%s)::%s', target, attached);
    cells_sql constant text := (
        select format('select array[%s]', string_agg(
            case when a.attname is null then 'null' else format('(%s).%I::text', row_sql, c.name) end, ', ' order by c.place))
        from unnest(columns) with ordinality c (name, place)
        left join pg_attribute a on a.attrelid = attached and a.attname = c.name and not a.attisdropped);
    o text[];  -- id, store, status, reason
    n text[];
    certain jsonb;
    payload jsonb;
    rung record;
begin
    execute cells_sql into n using after;
    if before is not null then
        execute cells_sql into o using before;
        if n[3] is not distinct from o[3] then
            return;
        end if;
    end if;
    certain := jsonb_build_object(kind || '_id', n[1], 'status', n[3])
        || case when before is not null then jsonb_build_object('previous_status', o[3], 'reason', n[4])
                when kind = 'order' then jsonb_build_object('order_ids', jsonb_build_array(n[1])) else '{}' end;
    if before is null or kind = 'booking' then
        begin
            execute case when vestnik.payload_is_ours(attached::text, kind)
                         then vestnik.payload_body(attached::text, kind, format('(%s)', row_sql))
                         else format('select vestnik.%s_payload(%s)', kind, row_sql) end into payload using after;
        exception when others then
            payload := jsonb_build_object('payload_error', sqlstate);
        end;
    end if;
    insert into vestnik.event (store_id, subject, type, data)
    values (vestnik.store_key(n[2]), left(n[1], 64),
            case when before is null then 'new_' || kind
                 when n[3] = 'cancelled' then kind || '_cancelled' else kind || '_status_changed' end,
            vestnik.event_data(payload, jsonb_strip_nulls(certain)))
    returning id, xid, store_id, type into rung;
    perform vestnik.ring(rung.id, rung.xid, rung.store_id, rung.type);
end $$;

select vestnik.keep_private('{is_as_attached, as_attached_sql, rare_sql, emit_altered}');
