CREATE SCHEMA vestnik;
CREATE FUNCTION vestnik.are_plain(target text, columns text[]) RETURNS boolean
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select bool_and(t.typtype = 'e' or format_type(t.oid, null) in (
        'bigint', 'integer', 'smallint', 'numeric', 'text', 'character varying', 'boolean', 'uuid', 'jsonb',
        'timestamp with time zone', 'date'))
    from pg_attribute a join pg_type t on t.oid = a.atttypid
    where a.attrelid = target::regclass and a.attname = any (columns) and not a.attisdropped
$$;
CREATE FUNCTION vestnik.as_attached_sql(target text, kind text, id_column text, store_column text, status_column text) RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select format('vestnik.is_as_attached(%L, %L, %L)', target::regclass::oid, target,
                  array_agg(attname || ' ' || format_type(atttypid, null) order by attnum))
    from pg_attribute
    where attrelid = target::regclass and attnum > 0 and not attisdropped
      and (attname in (id_column, store_column, status_column, 'reason')
           or attname in (select name from vestnik.told_columns(target, kind, 'n')))
$$;
CREATE FUNCTION vestnik.attach(table_name text, kind text, id_column text DEFAULT 'id'::text, store_column text DEFAULT 'store_id'::text, status_column text DEFAULT 'status'::text, deferred boolean DEFAULT false) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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
CREATE FUNCTION vestnik.attach_sql(table_name text, kind text, id_column text DEFAULT 'id'::text, store_column text DEFAULT 'store_id'::text, status_column text DEFAULT 'status'::text, deferred boolean DEFAULT false) RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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
CREATE FUNCTION vestnik.attachment_troubles() RETURNS TABLE(name text, trouble text)
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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
CREATE FUNCTION vestnik.bell_lock() RETURNS integer
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$select 1986356084$$;
CREATE FUNCTION vestnik.booking_changed_sql(id_column text, status_column text, reason_column text) RETURNS text
    LANGUAGE sql IMMUTABLE
    AS $_$
    select format($sql$jsonb_strip_nulls(jsonb_build_object(
        'booking_id', n.%1$I::text, 'status', n.%2$I::text, 'previous_status', o.%2$I::text%3$s))$sql$,
        id_column, status_column, case when reason_column is null then '' else format(', ''reason'', n.%I::text', reason_column) end)
$_$;
CREATE FUNCTION vestnik.booking_columns() RETURNS text[]
    LANGUAGE sql IMMUTABLE
    AS $$ select array['customer_name', 'guests', 'starts_at'] $$;
CREATE FUNCTION vestnik.booking_inserted_sql(id_column text, status_column text) RETURNS text
    LANGUAGE sql IMMUTABLE
    AS $_$
    select format($sql$jsonb_strip_nulls(jsonb_build_object('booking_id', n.%1$I::text, 'status', n.%2$I::text))$sql$,
        id_column, status_column)
$_$;
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
CREATE FUNCTION vestnik.booking_payload(public.bookings) RETURNS jsonb
    LANGUAGE sql STABLE
    AS $_$ select jsonb_strip_nulls(jsonb_build_object('customer_name', $1.customer_name, 'guests', $1.guests, 'starts_at', $1.starts_at)) $_$;
COMMENT ON FUNCTION vestnik.booking_payload(public.bookings) IS 'written by vestnik: 14b69687830ed3fe996e1f22e7ff7428';
CREATE FUNCTION vestnik.changed_sql(target text, kind text, id_column text, status_column text) RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select case kind when 'order' then vestnik.order_changed_sql(id_column, status_column, vestnik.reason_column(target))
                else format('vestnik.event_data(vestnik.booking_payload(n), %s)',
                            vestnik.booking_changed_sql(id_column, status_column, vestnik.reason_column(target))) end
$$;
CREATE FUNCTION vestnik.changed_type_sql(kind text, status_column text) RETURNS text
    LANGUAGE sql IMMUTABLE
    AS $$
    select format('case when n.%I::text = ''cancelled'' then %L else %L end', status_column, kind || '_cancelled', kind || '_status_changed')
$$;
CREATE FUNCTION vestnik.clock(moment text, zone text) RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    return to_char(moment::timestamptz at time zone zone, 'DD.MM. HH24:MI');
exception when others then
    return null;
end $$;
CREATE FUNCTION vestnik.column_sql(row_name text, column_name text, type text) RETURNS text
    LANGUAGE sql IMMUTABLE
    AS $$
    select format(case when type = 'json' then 'vestnik.jsonb_or_text(%s.%I)' else '%s.%I' end, row_name, column_name)
$$;
CREATE FUNCTION vestnik.column_type(table_name text, column_name text) RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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
CREATE FUNCTION vestnik.content_sql(target text, kind text, id_column text, status_column text) RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
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
$_$;
CREATE FUNCTION vestnik.detach(table_name text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    delete from vestnik.attachment a
    where to_regclass(a.table_name) is null and a.table_name in (detach.table_name, 'public.' || detach.table_name);
    if found then
        return;
    end if;
    execute vestnik.detach_sql(table_name);
    delete from vestnik.attachment a where a.table_name = vestnik.table_name(detach.table_name);
end $$;
CREATE FUNCTION vestnik.detach_sql(table_name text) RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
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
end $_$;
CREATE FUNCTION vestnik.detach_triggers_sql(target text) RETURNS text
    LANGUAGE sql IMMUTABLE
    AS $_$
    select format($sql$
drop trigger if exists vestnik_emit_insert on %1$s;
drop trigger if exists vestnik_emit_update on %1$s;
drop trigger if exists vestnik_emit_delete on %1$s;$sql$, target)
$_$;
CREATE FUNCTION vestnik.emit_altered(target regclass, kind text, columns text[], before text, after text) RETURNS void
    LANGUAGE plpgsql
    AS $_$
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
end $_$;
CREATE FUNCTION vestnik.emit_public_bookings_changed(o record, told record) RETURNS jsonb
    LANGUAGE plpgsql STABLE
    AS $$
declare
    n constant public.bookings := told;
begin
    return vestnik.event_data(vestnik.booking_payload(n), jsonb_strip_nulls(jsonb_build_object(
        'booking_id', n.id::text, 'status', n.status::text, 'previous_status', o.status::text, 'reason', n.reason::text)));
exception when others then
    return jsonb_strip_nulls(jsonb_build_object(
        'booking_id', n.id::text, 'status', n.status::text, 'previous_status', o.status::text)) || jsonb_build_object('payload_error', sqlstate);
end $$;
CREATE FUNCTION vestnik.emit_public_bookings_insert_statement() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    if current_setting('vestnik.quiet', true) = 'on' or not vestnik.is_as_attached('N', 'public.bookings', '{"id bigint","store_id bigint","customer_name text","guests integer","starts_at timestamp with time zone","status text","reason text"}') then
        if vestnik.is_quiet() then
            return null;
        end if;
        if not vestnik.is_as_attached('N', 'public.bookings', '{"id bigint","store_id bigint","customer_name text","guests integer","starts_at timestamp with time zone","status text","reason text"}') then
            perform vestnik.emit_altered(tg_relid, 'booking', '{id,store_id,status,reason}', before, after) from (select null::text as before, (r.*)::text as after from inserted_rows r) r;
            return null;
        end if;
    end if;
    insert into vestnik.event (store_id, subject, type, data)
    select n.store_id::text, n.id::text, 'new_booking', vestnik.planned_with(case when vestnik.payload_is('vestnik.booking_payload(public.bookings)', '14b69687830ed3fe996e1f22e7ff7428') and pg_column_size(n.status) + pg_column_size(n.customer_name) <= 65536 and n.id is not null and n.guests is not null and n.starts_at is not null
                    then jsonb_build_object('booking_id', n.id::text, 'status', n.status::text, 'customer_name', n.customer_name, 'guests', n.guests, 'starts_at', n.starts_at) else vestnik.emit_public_bookings_inserted(n.*) end, vestnik.emit_public_bookings_payload(row(n.*))) from inserted_rows n;
    if found and vestnik.must_ring() then
        perform vestnik.send_ring((select n.store_id::text from inserted_rows n limit 1), 'new_booking');
    end if;
    return null;
end $$;
CREATE FUNCTION vestnik.emit_public_bookings_inserted(told record) RETURNS jsonb
    LANGUAGE plpgsql STABLE
    AS $$
declare
    n constant public.bookings := told;
begin
    return vestnik.event_data(vestnik.booking_payload(n), jsonb_strip_nulls(jsonb_build_object('booking_id', n.id::text, 'status', n.status::text)));
exception when others then
    return jsonb_strip_nulls(jsonb_build_object('booking_id', n.id::text, 'status', n.status::text)) || jsonb_build_object('payload_error', sqlstate);
end $$;
CREATE FUNCTION vestnik.emit_public_bookings_payload(n public.bookings) RETURNS jsonb
    LANGUAGE sql STABLE
    BEGIN ATOMIC
 SELECT vestnik.booking_payload(n) AS booking_payload;
END;
CREATE FUNCTION vestnik.emit_public_bookings_update_statement() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    is_changed boolean;
    are_many boolean;
    rung record;
begin
    if current_setting('vestnik.quiet', true) = 'on' or not vestnik.is_as_attached('N', 'public.bookings', '{"id bigint","store_id bigint","customer_name text","guests integer","starts_at timestamp with time zone","status text","reason text"}') then
        if vestnik.is_quiet() then
            return null;
        end if;
        if not vestnik.is_as_attached('N', 'public.bookings', '{"id bigint","store_id bigint","customer_name text","guests integer","starts_at timestamp with time zone","status text","reason text"}') then
            perform vestnik.emit_altered(tg_relid, 'booking', '{id,store_id,status,reason}', before, after) from (select (r.*)::text as before, row_number() over () as place from old_rows r) o
            join (select (r.*)::text as after, row_number() over () as place from new_rows r) n using (place);
            return null;
        end if;
    end if;
    -- One look at the first pair, which ends here for nearly every update that leaves the status as it is.
    select o.status is distinct from n.status, exists (select from new_rows offset 1) into is_changed, are_many
    from old_rows o, new_rows n;
    if not found or not is_changed and not are_many then
        return null;
    end if;
    if not are_many then
        insert into vestnik.event (store_id, subject, type, data)
        select n.store_id::text, n.id::text, case when n.status::text = 'cancelled' then 'booking_cancelled' else 'booking_status_changed' end, vestnik.emit_public_bookings_changed(o.*, n.*) from old_rows o, new_rows n;
        if vestnik.must_ring() then
            perform vestnik.send_ring(n.store_id::text, case when n.status::text = 'cancelled' then 'booking_cancelled' else 'booking_status_changed' end) from new_rows n;
        end if;
        return null;
    end if;
    with written as (
        insert into vestnik.event (store_id, subject, type, data)
        select n.store_id::text, n.id::text, case when n.status::text = 'cancelled' then 'booking_cancelled' else 'booking_status_changed' end, vestnik.emit_public_bookings_changed(o.vestnik_row, n.vestnik_row)
        from (select *, vestnik_r as vestnik_row, row_number() over () as vestnik_place from old_rows vestnik_r) o
        join (select *, vestnik_r as vestnik_row, row_number() over () as vestnik_place from new_rows vestnik_r) n
            using (vestnik_place)
        where o.status is distinct from n.status
        returning id, xid, store_id, type)
    select * into rung from written limit 1;
    if rung.id is not null then
        perform vestnik.ring(rung.id, rung.xid, rung.store_id, rung.type);
    end if;
    return null;
end $$;
CREATE FUNCTION vestnik.emit_public_orders_changed(o record, n record) RETURNS jsonb
    LANGUAGE plpgsql STABLE
    AS $$
begin
    return jsonb_strip_nulls(jsonb_build_object(
        'order_id', n.id::text, 'status', n.status::text, 'previous_status', o.status::text, 'reason', n.reason::text));
exception when others then
    return jsonb_strip_nulls(jsonb_build_object(
        'order_id', n.id::text, 'status', n.status::text, 'previous_status', o.status::text)) || jsonb_build_object('payload_error', sqlstate);
end $$;
CREATE FUNCTION vestnik.emit_public_orders_insert_statement() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    if current_setting('vestnik.quiet', true) = 'on' or not vestnik.is_as_attached('N', 'public.orders', '{"id bigint","store_id bigint","customer_name text","total bigint","order_type text","items jsonb","status text","reason text"}') then
        if vestnik.is_quiet() then
            return null;
        end if;
        if not vestnik.is_as_attached('N', 'public.orders', '{"id bigint","store_id bigint","customer_name text","total bigint","order_type text","items jsonb","status text","reason text"}') then
            perform vestnik.emit_altered(tg_relid, 'order', '{id,store_id,status,reason}', before, after) from (select null::text as before, (r.*)::text as after from inserted_rows r) r;
            return null;
        end if;
    end if;
    insert into vestnik.event (store_id, subject, type, data)
    select n.store_id::text, n.id::text, 'new_order', vestnik.planned_with(case when vestnik.payload_is('vestnik.order_payload(public.orders)', 'a24c02ddb4d36e0f339a9fd32e1eb3d3') and pg_column_size(n.status) + pg_column_size(n.customer_name) + pg_column_size(n.order_type) + pg_column_size(n.items) <= 65536 and n.id is not null and n.total is not null
                    then jsonb_build_object('order_ids', jsonb_build_array(n.id::text), 'order_id', n.id::text, 'status', n.status::text, 'customer_name', n.customer_name, 'total', n.total, 'order_type', n.order_type, 'items', n.items) else vestnik.emit_public_orders_inserted(n.*) end, vestnik.emit_public_orders_payload(row(n.*))) from inserted_rows n;
    if found and vestnik.must_ring() then
        perform vestnik.send_ring((select n.store_id::text from inserted_rows n limit 1), 'new_order');
    end if;
    return null;
end $$;
CREATE FUNCTION vestnik.emit_public_orders_inserted(told record) RETURNS jsonb
    LANGUAGE plpgsql STABLE
    AS $$
declare
    n constant public.orders := told;
begin
    return vestnik.event_data(vestnik.order_payload(n), jsonb_strip_nulls(jsonb_build_object(
        'order_ids', jsonb_build_array(n.id::text), 'order_id', n.id::text, 'status', n.status::text)));
exception when others then
    return jsonb_strip_nulls(jsonb_build_object(
        'order_ids', jsonb_build_array(n.id::text), 'order_id', n.id::text, 'status', n.status::text)) || jsonb_build_object('payload_error', sqlstate);
end $$;
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
CREATE FUNCTION vestnik.order_payload(public.orders) RETURNS jsonb
    LANGUAGE sql STABLE
    AS $_$ select jsonb_strip_nulls(jsonb_build_object('customer_name', $1.customer_name, 'total', $1.total, 'order_type', $1.order_type)) || case when $1.items is null then '{}'::jsonb else jsonb_build_object('items', $1.items) end $_$;
COMMENT ON FUNCTION vestnik.order_payload(public.orders) IS 'written by vestnik: a24c02ddb4d36e0f339a9fd32e1eb3d3';
CREATE FUNCTION vestnik.emit_public_orders_payload(n public.orders) RETURNS jsonb
    LANGUAGE sql STABLE
    BEGIN ATOMIC
 SELECT vestnik.order_payload(n) AS order_payload;
END;
CREATE FUNCTION vestnik.emit_public_orders_update_statement() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    is_changed boolean;
    are_many boolean;
    rung record;
begin
    if current_setting('vestnik.quiet', true) = 'on' or not vestnik.is_as_attached('N', 'public.orders', '{"id bigint","store_id bigint","customer_name text","total bigint","order_type text","items jsonb","status text","reason text"}') then
        if vestnik.is_quiet() then
            return null;
        end if;
        if not vestnik.is_as_attached('N', 'public.orders', '{"id bigint","store_id bigint","customer_name text","total bigint","order_type text","items jsonb","status text","reason text"}') then
            perform vestnik.emit_altered(tg_relid, 'order', '{id,store_id,status,reason}', before, after) from (select (r.*)::text as before, row_number() over () as place from old_rows r) o
            join (select (r.*)::text as after, row_number() over () as place from new_rows r) n using (place);
            return null;
        end if;
    end if;
    -- One look at the first pair, which ends here for nearly every update that leaves the status as it is.
    select o.status is distinct from n.status, exists (select from new_rows offset 1) into is_changed, are_many
    from old_rows o, new_rows n;
    if not found or not is_changed and not are_many then
        return null;
    end if;
    if not are_many then
        insert into vestnik.event (store_id, subject, type, data)
        select n.store_id::text, n.id::text, case when n.status::text = 'cancelled' then 'order_cancelled' else 'order_status_changed' end, case when n.id is not null and n.status is not null and o.status is not null and n.reason is null
                    then jsonb_build_object('order_id', n.id::text, 'status', n.status::text, 'previous_status', o.status::text)
                    else vestnik.emit_public_orders_changed(o.*, n.*) end from old_rows o, new_rows n;
        if vestnik.must_ring() then
            perform vestnik.send_ring(n.store_id::text, case when n.status::text = 'cancelled' then 'order_cancelled' else 'order_status_changed' end) from new_rows n;
        end if;
        return null;
    end if;
    begin
        with written as (
            insert into vestnik.event (store_id, subject, type, data)
            select n.store_id::text, n.id::text, case when n.status::text = 'cancelled' then 'order_cancelled' else 'order_status_changed' end, jsonb_strip_nulls(jsonb_build_object(
        'order_id', n.id::text, 'status', n.status::text, 'previous_status', o.status::text, 'reason', n.reason::text))
            from (select *, row_number() over () as vestnik_place from old_rows) o
            join (select *, row_number() over () as vestnik_place from new_rows) n using (vestnik_place)
            where o.status is distinct from n.status
            returning id, xid, store_id, type)
        select * into rung from written limit 1;
        if rung.id is not null then
            perform vestnik.ring(rung.id, rung.xid, rung.store_id, rung.type);
        end if;
        return null;
    exception when others then
        null;  -- What cannot be told all at once is told row by row.
    end;
    with written as (
        insert into vestnik.event (store_id, subject, type, data)
        select n.store_id::text, n.id::text, case when n.status::text = 'cancelled' then 'order_cancelled' else 'order_status_changed' end, vestnik.emit_public_orders_changed(o.vestnik_row, n.vestnik_row)
        from (select *, vestnik_r as vestnik_row, row_number() over () as vestnik_place from old_rows vestnik_r) o
        join (select *, vestnik_r as vestnik_row, row_number() over () as vestnik_place from new_rows vestnik_r) n
            using (vestnik_place)
        where o.status is distinct from n.status
        returning id, xid, store_id, type)
    select * into rung from written limit 1;
    if rung.id is not null then
        perform vestnik.ring(rung.id, rung.xid, rung.store_id, rung.type);
    end if;
    return null;
end $$;
CREATE FUNCTION vestnik.emitter(table_name text, what text) RETURNS text
    LANGUAGE sql IMMUTABLE
    AS $$
    select format('vestnik.%I', case when length(name) <= 60 then name else left(name, 24) || '_' || md5(name) end)
    from (select 'emit_' || replace(replace(table_name, '"', ''), '.', '_') || '_' || what as name) n
$$;
CREATE FUNCTION vestnik.event_data(payload jsonb, certain jsonb) RETURNS jsonb
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    AS $$
begin
    if payload is null or pg_catalog.jsonb_typeof(payload) <> 'object' then
        return certain;
    end if;
    if pg_catalog.pg_column_size(payload) > 4194304 then
        payload := (payload - 'items') || '{"items_omitted": true}';
        if pg_catalog.pg_column_size(payload) > 4194304 then
            payload := '{"payload_omitted": true}';
        end if;
    end if;
    return payload || certain;
end $$;
CREATE FUNCTION vestnik.has_triggers(target regclass) RETURNS boolean
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select count(*) = 2 from pg_trigger
    where tgrelid = target and tgname in ('vestnik_emit_insert', 'vestnik_emit_update') and tgenabled in ('O', 'A')
$$;
CREATE FUNCTION vestnik.insert_row_sql(target text, kind text, id_column text, store_column text, status_column text) RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
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
$_$;
CREATE FUNCTION vestnik.insert_statement_sql(target text, kind text, id_column text, store_column text, status_column text) RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
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
$_$;
CREATE FUNCTION vestnik.is_as_attached(target regclass, table_name text, columns text[]) RETURNS boolean
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select coalesce(to_regclass(table_name) = target and columns <@ array_agg(attname || ' ' || format_type(atttypid, null)), false)
    from pg_attribute where attrelid = target and attnum > 0 and not attisdropped
$$;
CREATE FUNCTION vestnik.is_quiet() RETURNS boolean
    LANGUAGE sql STABLE
    AS $$
    select pg_catalog.current_setting('vestnik.quiet', true) = 'on'
           and coalesce(pg_catalog.pg_has_role(session_user, n.nspowner, 'usage'), false)
    from pg_catalog.pg_namespace n where n.nspname = 'vestnik'
$$;
CREATE FUNCTION vestnik.jsonb_or_text(value json) RETURNS jsonb
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    AS $$
begin
    return value::jsonb;
exception when others then
    return to_jsonb(value::text);
end $$;
CREATE FUNCTION vestnik.keep_private(names name[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    ours regprocedure;
begin
    for ours in select oid from pg_proc where pronamespace = 'vestnik'::regnamespace and proname = any (names)
    loop
        execute format('revoke all on function %s from public', ours);
    end loop;
end $$;
CREATE FUNCTION vestnik.key_sql(target text, key_column text, shortened text) RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select format(case when vestnik.column_type(target, key_column) in ('bigint', 'integer', 'smallint', 'uuid')
                       then 'n.%I::text' else shortened end, key_column)
$$;
CREATE FUNCTION vestnik.moment(moment timestamp with time zone, zone text) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$
    select to_char(moment at time zone zone, 'YYYY-MM-DD HH24:MI:SS.MS')
$$;
CREATE FUNCTION vestnik.moved(table_name text, id text) RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select format('%s %s %s ', table_name, statement_timestamp(), md5(id))
$$;
CREATE FUNCTION vestnik.must_ring() RETURNS boolean
    LANGUAGE sql
    AS $$
    select case when vestnik.rings()
        then case when pg_catalog.pg_try_advisory_xact_lock_shared(vestnik.bell_lock(), 1)
                  then pg_catalog.current_setting('vestnik.rung', true) is distinct from pg_catalog.pg_current_xact_id()::text
                  else false end
        else false end
$$;
CREATE FUNCTION vestnik.order_changed_sql(id_column text, status_column text, reason_column text) RETURNS text
    LANGUAGE sql IMMUTABLE
    AS $_$
    select format($sql$jsonb_strip_nulls(jsonb_build_object(
        'order_id', n.%1$I::text, 'status', n.%2$I::text, 'previous_status', o.%2$I::text%3$s))$sql$,
        id_column, status_column, case when reason_column is null then '' else format(', ''reason'', n.%I::text', reason_column) end)
$_$;
CREATE FUNCTION vestnik.order_columns() RETURNS text[]
    LANGUAGE sql IMMUTABLE
    AS $$ select array['customer_name', 'total', 'order_type', 'items'] $$;
CREATE FUNCTION vestnik.order_inserted_sql(id_column text, status_column text) RETURNS text
    LANGUAGE sql IMMUTABLE
    AS $_$
    select format($sql$jsonb_strip_nulls(jsonb_build_object(
        'order_ids', jsonb_build_array(n.%1$I::text), 'order_id', n.%1$I::text, 'status', n.%2$I::text))$sql$,
        id_column, status_column)
$_$;
CREATE FUNCTION vestnik.payload_body(table_name text, kind text, row_name text DEFAULT '$1'::text) RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
    select ' select jsonb_strip_nulls(jsonb_build_object('
        || coalesce(string_agg(told.pair, ', ' order by told.place) filter (where not told.is_json), '') || '))'
        || coalesce(string_agg(format($sql$ || case when %s is null then '{}'::jsonb else jsonb_build_object(%s) end$sql$,
               told.expression, told.pair), '' order by told.place) filter (where told.is_json), '') || ' '
    from vestnik.told_columns(table_name, kind, row_name) told
$_$;
CREATE FUNCTION vestnik.payload_is(signature text, digest text) RETURNS boolean
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select coalesce((select md5(prosrc) = digest from pg_proc where oid = to_regprocedure(signature)), false)
$$;
CREATE FUNCTION vestnik.payload_is_ours(table_name text, kind text) RETURNS boolean
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select coalesce(bool_and(obj_description(p.oid, 'pg_proc') = 'written by vestnik: ' || md5(p.prosrc)), true)
    from pg_proc p
    where p.oid = to_regprocedure(format('vestnik.%s_payload(%s)', kind, table_name))
$$;
CREATE FUNCTION vestnik.payload_sql(target text, kind text) RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
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
$_$;
CREATE FUNCTION vestnik.planned_with(told jsonb, unused jsonb) RETURNS jsonb
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ select told $$;
CREATE FUNCTION vestnik.rare_sql(target text, kind text, id_column text, store_column text, status_column text, rows text) RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
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
$_$;
CREATE FUNCTION vestnik.reason_column(target text) RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select attname from pg_attribute where attrelid = target::regclass and attname = 'reason' and not attisdropped
$$;
CREATE FUNCTION vestnik.reattach_all() RETURNS bigint
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select count(*) filter (where vestnik.attach(a.table_name, a.kind, a.id_column, a.store_column, a.status_column, a.deferred))
    from vestnik.attachment a where to_regclass(a.table_name) is not null
$$;
CREATE FUNCTION vestnik.ring(id bigint, xid xid8, store text, type text) RETURNS void
    LANGUAGE plpgsql
    AS $$
begin
    if vestnik.must_ring() then
        perform vestnik.send_ring(store, type);
    end if;
end $$;
CREATE FUNCTION vestnik.rings() RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$select true$$;
CREATE FUNCTION vestnik.send_ring(store text, type text) RETURNS void
    LANGUAGE plpgsql
    AS $$
declare
    xid constant text := pg_catalog.pg_current_xact_id()::text;
begin
    perform pg_catalog.set_config('vestnik.rung', xid, true);
    perform pg_catalog.pg_notify('vestnik', pg_catalog.json_build_object(
        'id', pg_catalog.currval('vestnik.event_id_seq')::text, 'xid', xid, 'store', store, 'type', type)::text);
end $$;
CREATE FUNCTION vestnik.store_key(key text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
    select case when pg_catalog.octet_length(key) <= 200 then key end
$$;
CREATE FUNCTION vestnik.store_sql(target text, store_column text) RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select vestnik.key_sql(target, store_column, 'vestnik.store_key(n.%I::text)')
$$;
CREATE FUNCTION vestnik.subject_sql(target text, id_column text) RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select vestnik.key_sql(target, id_column, 'left(n.%I::text, 64)')
$$;
CREATE FUNCTION vestnik.table_name(name text) RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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
CREATE FUNCTION vestnik.told_change_sql(target text, kind text, id_column text, status_column text) RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
    select case when kind = 'order' and vestnik.are_plain(target, array[id_column, status_column, 'reason']) then
        format($sql$case when n.%1$I is not null and n.%2$I is not null and o.%2$I is not null%3$s
                    then jsonb_build_object('order_id', n.%1$I::text, 'status', n.%2$I::text, 'previous_status', o.%2$I::text)
                    else %4$s(o.*, n.*) end$sql$, id_column, status_column,
            ' and n.' || vestnik.reason_column(target) || ' is null', vestnik.emitter(target, 'changed'))
        else format('%s(o.*, n.*)', vestnik.emitter(target, 'changed')) end
$_$;
CREATE FUNCTION vestnik.told_columns(table_name text, kind text, row_name text, OUT name text, OUT place bigint, OUT expression text, OUT pair text, OUT is_json boolean, OUT is_long boolean) RETURNS SETOF record
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select told.name, told.place, e.expression, format('%L, %s', told.name, e.expression),
           a.atttypid in ('json'::regtype, 'jsonb'::regtype), a.attlen = -1
    from unnest(case kind when 'order' then vestnik.order_columns() else vestnik.booking_columns() end)
        with ordinality told (name, place)
    join pg_attribute a on a.attrelid = table_name::regclass and a.attname = told.name and not a.attisdropped
    cross join lateral (select vestnik.column_sql(row_name, told.name, format_type(a.atttypid, null)) as expression) e
$$;
CREATE FUNCTION vestnik.told_sql(target text, kind text, id_column text, status_column text) RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
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
$_$;
CREATE FUNCTION vestnik.triggers_sql(target text, status_column text, deferred boolean, by_statement boolean) RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
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
$_$;
CREATE FUNCTION vestnik.update_row_sql(target text, kind text, id_column text, store_column text, status_column text) RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
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
$_$;
CREATE FUNCTION vestnik.update_statement_sql(target text, kind text, id_column text, store_column text, status_column text) RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
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
$_$;
ALTER TABLE public.bookings ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.bookings_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
ALTER TABLE public.orders ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.orders_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE vestnik.ack (
    event_id bigint NOT NULL,
    token_id bigint NOT NULL,
    session text NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);
CREATE TABLE vestnik.alarm (
    id bigint NOT NULL,
    store_id text NOT NULL,
    raised_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    cleared_at timestamp with time zone,
    cleared_by text,
    CONSTRAINT alarm_cleared_by_check CHECK ((cleared_by = ANY (ARRAY['panel'::text, 'closing'::text])))
);
ALTER TABLE vestnik.alarm ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME vestnik.alarm_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE vestnik.answer (
    id bigint NOT NULL,
    store_id text NOT NULL,
    kind text NOT NULL,
    key text NOT NULL,
    previous text NOT NULL,
    status text NOT NULL,
    way text NOT NULL,
    by_whom text NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    minutes integer,
    CONSTRAINT answer_kind_check CHECK ((kind = ANY (ARRAY['order'::text, 'booking'::text]))),
    CONSTRAINT answer_minutes_check CHECK (((minutes >= 1) AND (minutes <= 600))),
    CONSTRAINT answer_way_check CHECK ((way = ANY (ARRAY['panel'::text, 'telegram'::text])))
);
ALTER TABLE vestnik.answer ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME vestnik.answer_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE vestnik.attachment (
    table_name text NOT NULL,
    kind text NOT NULL,
    id_column text DEFAULT 'id'::text NOT NULL,
    store_column text DEFAULT 'store_id'::text NOT NULL,
    status_column text DEFAULT 'status'::text NOT NULL,
    deferred boolean DEFAULT false NOT NULL,
    fingerprint text NOT NULL,
    attached_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT attachment_kind_check CHECK ((kind = ANY (ARRAY['order'::text, 'booking'::text])))
);
CREATE TABLE vestnik.bot (
    sole boolean DEFAULT true NOT NULL,
    poller text,
    next_update bigint DEFAULT 0 NOT NULL,
    stopped_at timestamp with time zone,
    stopped_why text,
    stopped_hash bytea,
    number bigint,
    polled_at timestamp with time zone,
    conflict_at timestamp with time zone,
    error text,
    error_at timestamp with time zone,
    CONSTRAINT bot_sole_check CHECK (sole)
);
CREATE UNLOGGED TABLE vestnik.bot_node (
    id text NOT NULL,
    pid integer NOT NULL,
    seen_at timestamp with time zone NOT NULL
);
CREATE TABLE vestnik.bot_slot (
    slot integer NOT NULL,
    free_at timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL
);
CREATE TABLE vestnik.bot_update (
    id bigint NOT NULL,
    body text NOT NULL,
    taken_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);
CREATE TABLE vestnik.chat (
    id bigint NOT NULL,
    telegram_id bigint NOT NULL,
    title text,
    waiting boolean DEFAULT false NOT NULL,
    next_at timestamp with time zone DEFAULT now() NOT NULL,
    recent timestamp with time zone[] DEFAULT '{}'::timestamp with time zone[] NOT NULL,
    failures integer DEFAULT 0 NOT NULL,
    fence bigint DEFAULT 0 NOT NULL,
    leased_until timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    disabled_at timestamp with time zone,
    disabled_why text,
    tries timestamp with time zone[] DEFAULT '{}'::timestamp with time zone[] NOT NULL,
    first_seen_at timestamp with time zone DEFAULT now() NOT NULL,
    leased_by text,
    wakes_at timestamp with time zone,
    edits timestamp with time zone[] DEFAULT '{}'::timestamp with time zone[] NOT NULL,
    edit_next_at timestamp with time zone DEFAULT now() NOT NULL,
    edit_wakes_at timestamp with time zone,
    edit_leased_until timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    edit_leased_by text,
    edit_fence bigint DEFAULT 0 NOT NULL,
    error text,
    error_at timestamp with time zone
);
ALTER TABLE vestnik.chat ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME vestnik.chat_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE vestnik.cluster (
    sole boolean DEFAULT true NOT NULL,
    system_identifier bigint NOT NULL,
    CONSTRAINT cluster_sole_check CHECK (sole)
);
CREATE TABLE vestnik.code (
    file text NOT NULL,
    fingerprint text NOT NULL,
    applied_at timestamp with time zone DEFAULT now() NOT NULL
);
CREATE TABLE vestnik.delivery (
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
    state text DEFAULT 'pending'::text NOT NULL,
    reason text,
    planned_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,
    fence bigint,
    settled_at timestamp with time zone,
    due_at timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    failures integer DEFAULT 0 NOT NULL,
    refusals integer DEFAULT 0 NOT NULL,
    thread_id integer,
    keyboard jsonb,
    message_id integer,
    note text,
    about_id bigint,
    step smallint,
    CONSTRAINT delivery_about_check CHECK (((note IS NULL) = (about_id IS NULL))),
    CONSTRAINT delivery_check CHECK ((num_nonnulls(event_id, alarm_id, words, keyboard, note) = 1)),
    CONSTRAINT delivery_keyboard_check CHECK (((keyboard IS NULL) = (message_id IS NULL))),
    CONSTRAINT delivery_note_check CHECK ((note = ANY (ARRAY['cancelled'::text, 'unanswered'::text]))),
    CONSTRAINT delivery_state_check CHECK ((state = ANY (ARRAY['pending'::text, 'sending'::text, 'retrying'::text, 'sent'::text, 'dead'::text])))
);
ALTER TABLE vestnik.delivery ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME vestnik.delivery_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE vestnik.engine_history (
    version integer NOT NULL,
    name character varying(255),
    applied_on character varying(255),
    checksum character varying(255)
);
CREATE TABLE vestnik.escalation (
    event_id bigint NOT NULL,
    store_id text NOT NULL,
    subject text NOT NULL,
    rung smallint DEFAULT 0 NOT NULL,
    due_at timestamp with time zone NOT NULL,
    ended_at timestamp with time zone,
    outcome text,
    is_held boolean DEFAULT false NOT NULL,
    CONSTRAINT escalation_outcome_check CHECK ((outcome = ANY (ARRAY['answered'::text, 'exhausted'::text])))
);
CREATE TABLE vestnik.event (
    id bigint NOT NULL,
    xid xid8 DEFAULT pg_current_xact_id() NOT NULL,
    store_id text,
    type text NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    data jsonb NOT NULL,
    subject text
);
ALTER TABLE vestnik.event ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME vestnik.event_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE vestnik.holiday (
    store_id text NOT NULL,
    day date NOT NULL,
    yearly boolean DEFAULT false NOT NULL,
    opens time without time zone,
    closes time without time zone,
    CONSTRAINT holiday_check CHECK (((opens IS NULL) = (closes IS NULL)))
);
CREATE TABLE vestnik.link (
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
    CONSTRAINT link_mode_check CHECK ((mode = ANY (ARRAY['mirror'::text, 'fallback'::text, 'manager'::text]))),
    CONSTRAINT link_quiet_check CHECK (((quiet_from IS NULL) = (quiet_to IS NULL)))
);
CREATE TABLE vestnik.link_code (
    hash bytea NOT NULL,
    store_id text NOT NULL,
    mode text NOT NULL,
    language text NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    used_at timestamp with time zone,
    CONSTRAINT link_code_hash_check CHECK ((octet_length(hash) = 32)),
    CONSTRAINT link_code_mode_check CHECK ((mode = ANY (ARRAY['mirror'::text, 'fallback'::text, 'manager'::text])))
);
CREATE TABLE vestnik.message (
    chat_id bigint NOT NULL,
    store_id text NOT NULL,
    subject text NOT NULL,
    event_id bigint NOT NULL,
    message_id integer NOT NULL,
    sent_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);
CREATE TABLE vestnik.node (
    id text NOT NULL,
    until timestamp with time zone NOT NULL
);
CREATE TABLE vestnik.opening (
    store_id text NOT NULL,
    weekday smallint NOT NULL,
    opens time without time zone NOT NULL,
    closes time without time zone NOT NULL,
    CONSTRAINT opening_weekday_check CHECK (((weekday >= 1) AND (weekday <= 7)))
);
CREATE TABLE vestnik.store (
    id text NOT NULL,
    name text,
    currency text DEFAULT 'RUB'::text NOT NULL,
    time_zone text DEFAULT 'Europe/Moscow'::text NOT NULL,
    answer_seconds integer DEFAULT 60 NOT NULL,
    webhook_url text,
    webhook_secret text,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    attended_by text DEFAULT 'panel'::text NOT NULL,
    escalates text DEFAULT 'open'::text NOT NULL,
    webhook_secret_old text,
    CONSTRAINT store_answer_seconds_check CHECK (((answer_seconds >= 5) AND (answer_seconds <= 86400))),
    CONSTRAINT store_attended_by_check CHECK ((attended_by = ANY (ARRAY['panel'::text, 'chats'::text]))),
    CONSTRAINT store_check CHECK (((webhook_url IS NULL) = (webhook_secret IS NULL))),
    CONSTRAINT store_currency_check CHECK ((currency ~ '^[A-Z]{3}$'::text)),
    CONSTRAINT store_escalates_check CHECK ((escalates = ANY (ARRAY['open'::text, 'always'::text]))),
    CONSTRAINT store_id_check CHECK (((octet_length(id) >= 1) AND (octet_length(id) <= 200))),
    CONSTRAINT store_time_zone_check CHECK ((timezone(time_zone, '2000-01-01 00:00:00'::timestamp without time zone) IS NOT NULL)),
    CONSTRAINT store_webhook_secret_check CHECK ((octet_length(webhook_secret) >= 16)),
    CONSTRAINT store_webhook_secret_old_check CHECK ((octet_length(webhook_secret_old) >= 16)),
    CONSTRAINT store_webhook_url_check CHECK ((webhook_url ~ '^https?://'::text))
);
CREATE VIEW vestnik.open_now AS
 SELECT s.id AS store_id
   FROM (vestnik.store s
     CROSS JOIN LATERAL ( SELECT (clock_timestamp() AT TIME ZONE s.time_zone) AS at) now)
  WHERE (EXISTS ( SELECT
           FROM (( VALUES ((now.at)::date,true), (((now.at)::date - 1),false)) d(day, is_today)
             CROSS JOIN LATERAL ( SELECT h.opens,
                    h.closes
                   FROM vestnik.holiday h
                  WHERE ((h.store_id = s.id) AND (((h.day = d.day) AND (NOT h.yearly)) OR (h.yearly AND (to_char((h.day)::timestamp with time zone, 'MMDD'::text) = to_char((d.day)::timestamp with time zone, 'MMDD'::text)))))
                UNION ALL
                 SELECT o.opens,
                    o.closes
                   FROM vestnik.opening o
                  WHERE ((o.store_id = s.id) AND ((o.weekday)::numeric = EXTRACT(isodow FROM d.day)) AND (NOT (EXISTS ( SELECT
                           FROM vestnik.holiday h
                          WHERE ((h.store_id = s.id) AND (((h.day = d.day) AND (NOT h.yearly)) OR (h.yearly AND (to_char((h.day)::timestamp with time zone, 'MMDD'::text) = to_char((d.day)::timestamp with time zone, 'MMDD'::text)))))))))) span)
          WHERE
                CASE
                    WHEN d.is_today THEN (((now.at)::time without time zone >= span.opens) AND (((now.at)::time without time zone < span.closes) OR (span.closes <= span.opens)))
                    ELSE ((span.closes <= span.opens) AND ((now.at)::time without time zone < span.closes))
                END));
CREATE TABLE vestnik.plan (
    sole boolean DEFAULT true NOT NULL,
    cursor text DEFAULT ''::text NOT NULL,
    CONSTRAINT plan_sole_check CHECK (sole)
);
CREATE TABLE vestnik.presence (
    node_id text NOT NULL,
    store_id text NOT NULL
);
CREATE TABLE vestnik.reach (
    event_id bigint NOT NULL,
    way text NOT NULL,
    recipient text NOT NULL,
    sent_at timestamp with time zone,
    rendered_at timestamp with time zone,
    rung_at timestamp with time zone,
    acknowledged_at timestamp with time zone,
    acknowledged_by text,
    CONSTRAINT reach_way_check CHECK ((way = ANY (ARRAY['websocket'::text, 'sse'::text, 'polling'::text, 'telegram'::text, 'webhook'::text])))
);
CREATE TABLE vestnik.retention (
    sole boolean DEFAULT true NOT NULL,
    trimmed_through xid8 DEFAULT '0'::xid8 NOT NULL,
    CONSTRAINT retention_sole_check CHECK (sole)
);
CREATE TABLE vestnik.shop_history (
    version integer NOT NULL,
    name character varying(255),
    applied_on character varying(255),
    checksum character varying(255)
);
CREATE TABLE vestnik.token (
    id bigint NOT NULL,
    hash bytea NOT NULL,
    label text,
    stores text[],
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    expires_at timestamp with time zone,
    revoked_at timestamp with time zone,
    CONSTRAINT token_hash_check CHECK ((octet_length(hash) = 32))
);
ALTER TABLE vestnik.token ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME vestnik.token_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE vestnik.unattended (
    store_id text NOT NULL,
    since timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);
CREATE TABLE vestnik.webhook (
    event_id bigint NOT NULL,
    store_id text NOT NULL,
    state text DEFAULT 'pending'::text NOT NULL,
    reason text,
    attempts integer DEFAULT 0 NOT NULL,
    due_at timestamp with time zone DEFAULT now() NOT NULL,
    leased_until timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    fence bigint DEFAULT 0 NOT NULL,
    settled_at timestamp with time zone,
    CONSTRAINT webhook_state_check CHECK ((state = ANY (ARRAY['pending'::text, 'sending'::text, 'retrying'::text, 'sent'::text, 'dead'::text])))
);
ALTER TABLE ONLY public.bookings
    ADD CONSTRAINT bookings_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.orders
    ADD CONSTRAINT orders_pkey PRIMARY KEY (id);
ALTER TABLE ONLY vestnik.ack
    ADD CONSTRAINT ack_pkey PRIMARY KEY (event_id, token_id);
ALTER TABLE ONLY vestnik.alarm
    ADD CONSTRAINT alarm_pkey PRIMARY KEY (id);
ALTER TABLE ONLY vestnik.answer
    ADD CONSTRAINT answer_pkey PRIMARY KEY (id);
ALTER TABLE ONLY vestnik.attachment
    ADD CONSTRAINT attachment_pkey PRIMARY KEY (table_name);
ALTER TABLE ONLY vestnik.bot_node
    ADD CONSTRAINT bot_node_pkey PRIMARY KEY (id);
ALTER TABLE ONLY vestnik.bot
    ADD CONSTRAINT bot_pkey PRIMARY KEY (sole);
ALTER TABLE ONLY vestnik.bot_slot
    ADD CONSTRAINT bot_slot_pkey PRIMARY KEY (slot);
ALTER TABLE ONLY vestnik.bot_update
    ADD CONSTRAINT bot_update_pkey PRIMARY KEY (id);
ALTER TABLE ONLY vestnik.chat
    ADD CONSTRAINT chat_pkey PRIMARY KEY (id);
ALTER TABLE ONLY vestnik.chat
    ADD CONSTRAINT chat_telegram_id_key UNIQUE (telegram_id);
ALTER TABLE ONLY vestnik.cluster
    ADD CONSTRAINT cluster_pkey PRIMARY KEY (sole);
ALTER TABLE ONLY vestnik.code
    ADD CONSTRAINT code_pkey PRIMARY KEY (file);
ALTER TABLE ONLY vestnik.delivery
    ADD CONSTRAINT delivery_pkey PRIMARY KEY (id);
ALTER TABLE ONLY vestnik.engine_history
    ADD CONSTRAINT engine_history_pkey PRIMARY KEY (version);
ALTER TABLE ONLY vestnik.escalation
    ADD CONSTRAINT escalation_pkey PRIMARY KEY (event_id);
ALTER TABLE ONLY vestnik.event
    ADD CONSTRAINT event_pkey PRIMARY KEY (id);
ALTER TABLE ONLY vestnik.holiday
    ADD CONSTRAINT holiday_store_id_day_yearly_opens_key UNIQUE (store_id, day, yearly, opens);
ALTER TABLE ONLY vestnik.link_code
    ADD CONSTRAINT link_code_pkey PRIMARY KEY (hash);
ALTER TABLE ONLY vestnik.link
    ADD CONSTRAINT link_pkey PRIMARY KEY (chat_id, store_id);
ALTER TABLE ONLY vestnik.message
    ADD CONSTRAINT message_pkey PRIMARY KEY (chat_id, store_id, subject);
ALTER TABLE ONLY vestnik.node
    ADD CONSTRAINT node_pkey PRIMARY KEY (id);
ALTER TABLE ONLY vestnik.opening
    ADD CONSTRAINT opening_pkey PRIMARY KEY (store_id, weekday, opens);
ALTER TABLE ONLY vestnik.plan
    ADD CONSTRAINT plan_pkey PRIMARY KEY (sole);
ALTER TABLE ONLY vestnik.presence
    ADD CONSTRAINT presence_pkey PRIMARY KEY (node_id, store_id);
ALTER TABLE ONLY vestnik.reach
    ADD CONSTRAINT reach_pkey PRIMARY KEY (event_id, way, recipient);
ALTER TABLE ONLY vestnik.retention
    ADD CONSTRAINT retention_pkey PRIMARY KEY (sole);
ALTER TABLE ONLY vestnik.shop_history
    ADD CONSTRAINT shop_history_pkey PRIMARY KEY (version);
ALTER TABLE ONLY vestnik.store
    ADD CONSTRAINT store_pkey PRIMARY KEY (id);
ALTER TABLE ONLY vestnik.token
    ADD CONSTRAINT token_hash_key UNIQUE (hash);
ALTER TABLE ONLY vestnik.token
    ADD CONSTRAINT token_pkey PRIMARY KEY (id);
ALTER TABLE ONLY vestnik.unattended
    ADD CONSTRAINT unattended_pkey PRIMARY KEY (store_id);
ALTER TABLE ONLY vestnik.webhook
    ADD CONSTRAINT webhook_pkey PRIMARY KEY (event_id);
CREATE INDEX idx_bookings_status_created ON public.bookings USING btree (status, created_at);
CREATE INDEX idx_orders_status_created ON public.orders USING btree (status, created_at);
CREATE UNIQUE INDEX alarm_standing ON vestnik.alarm USING btree (store_id) WHERE (cleared_at IS NULL);
CREATE INDEX answer_of ON vestnik.answer USING btree (store_id, kind, key, id DESC);
CREATE INDEX chat_edits ON vestnik.chat USING btree (edit_next_at) WHERE (waiting OR (edit_wakes_at IS NOT NULL));
CREATE INDEX chat_messages ON vestnik.chat USING btree (next_at) WHERE (waiting OR (wakes_at IS NOT NULL));
CREATE UNIQUE INDEX delivery_alarm ON vestnik.delivery USING btree (alarm_id, chat_id, alarm_ends);
CREATE INDEX delivery_chat ON vestnik.delivery USING btree (chat_id);
CREATE UNIQUE INDEX delivery_event ON vestnik.delivery USING btree (event_id, chat_id);
CREATE INDEX delivery_keyboard ON vestnik.delivery USING btree (chat_id, message_id) WHERE (keyboard IS NOT NULL);
CREATE UNIQUE INDEX delivery_note ON vestnik.delivery USING btree (about_id, chat_id, note);
CREATE INDEX delivery_open ON vestnik.delivery USING btree (chat_id, urgent DESC, id) WHERE (state = ANY (ARRAY['pending'::text, 'sending'::text, 'retrying'::text]));
CREATE INDEX delivery_subject ON vestnik.delivery USING btree (chat_id, subject) WHERE (state = ANY (ARRAY['pending'::text, 'sending'::text, 'retrying'::text]));
CREATE INDEX delivery_words ON vestnik.delivery USING btree (planned_at) WHERE (words IS NOT NULL);
CREATE INDEX escalation_due ON vestnik.escalation USING btree (due_at) WHERE (ended_at IS NULL);
CREATE INDEX escalation_open ON vestnik.escalation USING btree (store_id, subject) WHERE (ended_at IS NULL);
CREATE INDEX event_store_subject ON vestnik.event USING btree (store_id, subject, id);
CREATE INDEX event_store_xid ON vestnik.event USING btree (store_id, xid);
CREATE INDEX event_xid ON vestnik.event USING btree (xid);
CREATE INDEX link_store ON vestnik.link USING btree (store_id);
CREATE INDEX message_event ON vestnik.message USING btree (event_id);
CREATE INDEX presence_store ON vestnik.presence USING btree (store_id);
CREATE INDEX webhook_due ON vestnik.webhook USING btree (due_at) WHERE (state = ANY (ARRAY['pending'::text, 'sending'::text, 'retrying'::text]));
CREATE TRIGGER vestnik_emit_insert AFTER INSERT ON public.bookings REFERENCING NEW TABLE AS inserted_rows FOR EACH STATEMENT EXECUTE FUNCTION vestnik.emit_public_bookings_insert_statement();
CREATE TRIGGER vestnik_emit_insert AFTER INSERT ON public.orders REFERENCING NEW TABLE AS inserted_rows FOR EACH STATEMENT EXECUTE FUNCTION vestnik.emit_public_orders_insert_statement();
CREATE TRIGGER vestnik_emit_update AFTER UPDATE ON public.bookings REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION vestnik.emit_public_bookings_update_statement();
CREATE TRIGGER vestnik_emit_update AFTER UPDATE ON public.orders REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION vestnik.emit_public_orders_update_statement();
ALTER TABLE ONLY vestnik.ack
    ADD CONSTRAINT ack_event_id_fkey FOREIGN KEY (event_id) REFERENCES vestnik.event(id) ON DELETE CASCADE;
ALTER TABLE ONLY vestnik.ack
    ADD CONSTRAINT ack_token_id_fkey FOREIGN KEY (token_id) REFERENCES vestnik.token(id);
ALTER TABLE ONLY vestnik.alarm
    ADD CONSTRAINT alarm_store_id_fkey FOREIGN KEY (store_id) REFERENCES vestnik.store(id) ON DELETE CASCADE;
ALTER TABLE ONLY vestnik.delivery
    ADD CONSTRAINT delivery_about_id_fkey FOREIGN KEY (about_id) REFERENCES vestnik.event(id) ON DELETE CASCADE;
ALTER TABLE ONLY vestnik.delivery
    ADD CONSTRAINT delivery_alarm_id_fkey FOREIGN KEY (alarm_id) REFERENCES vestnik.alarm(id) ON DELETE CASCADE;
ALTER TABLE ONLY vestnik.delivery
    ADD CONSTRAINT delivery_chat_id_fkey FOREIGN KEY (chat_id) REFERENCES vestnik.chat(id) ON DELETE CASCADE;
ALTER TABLE ONLY vestnik.delivery
    ADD CONSTRAINT delivery_event_id_fkey FOREIGN KEY (event_id) REFERENCES vestnik.event(id) ON DELETE CASCADE;
ALTER TABLE ONLY vestnik.escalation
    ADD CONSTRAINT escalation_event_id_fkey FOREIGN KEY (event_id) REFERENCES vestnik.event(id) ON DELETE CASCADE;
ALTER TABLE ONLY vestnik.holiday
    ADD CONSTRAINT holiday_store_id_fkey FOREIGN KEY (store_id) REFERENCES vestnik.store(id) ON DELETE CASCADE;
ALTER TABLE ONLY vestnik.link
    ADD CONSTRAINT link_chat_id_fkey FOREIGN KEY (chat_id) REFERENCES vestnik.chat(id) ON DELETE CASCADE;
ALTER TABLE ONLY vestnik.link_code
    ADD CONSTRAINT link_code_store_id_fkey FOREIGN KEY (store_id) REFERENCES vestnik.store(id) ON DELETE CASCADE;
ALTER TABLE ONLY vestnik.link
    ADD CONSTRAINT link_store_id_fkey FOREIGN KEY (store_id) REFERENCES vestnik.store(id) ON DELETE CASCADE;
ALTER TABLE ONLY vestnik.message
    ADD CONSTRAINT message_chat_id_fkey FOREIGN KEY (chat_id) REFERENCES vestnik.chat(id) ON DELETE CASCADE;
ALTER TABLE ONLY vestnik.message
    ADD CONSTRAINT message_event_id_fkey FOREIGN KEY (event_id) REFERENCES vestnik.event(id) ON DELETE CASCADE;
ALTER TABLE ONLY vestnik.opening
    ADD CONSTRAINT opening_store_id_fkey FOREIGN KEY (store_id) REFERENCES vestnik.store(id) ON DELETE CASCADE;
ALTER TABLE ONLY vestnik.presence
    ADD CONSTRAINT presence_node_id_fkey FOREIGN KEY (node_id) REFERENCES vestnik.node(id) ON DELETE CASCADE;
ALTER TABLE ONLY vestnik.reach
    ADD CONSTRAINT reach_event_id_fkey FOREIGN KEY (event_id) REFERENCES vestnik.event(id) ON DELETE CASCADE;
ALTER TABLE ONLY vestnik.unattended
    ADD CONSTRAINT unattended_store_id_fkey FOREIGN KEY (store_id) REFERENCES vestnik.store(id) ON DELETE CASCADE;
ALTER TABLE ONLY vestnik.webhook
    ADD CONSTRAINT webhook_event_id_fkey FOREIGN KEY (event_id) REFERENCES vestnik.event(id) ON DELETE CASCADE;
REVOKE ALL ON FUNCTION vestnik.are_plain(target text, columns text[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.as_attached_sql(target text, kind text, id_column text, store_column text, status_column text) FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.attach(table_name text, kind text, id_column text, store_column text, status_column text, deferred boolean) FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.attach_sql(table_name text, kind text, id_column text, store_column text, status_column text, deferred boolean) FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.attachment_troubles() FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.booking_changed_sql(id_column text, status_column text, reason_column text) FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.booking_columns() FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.booking_inserted_sql(id_column text, status_column text) FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.booking_payload(public.bookings) FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.changed_sql(target text, kind text, id_column text, status_column text) FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.changed_type_sql(kind text, status_column text) FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.clock(moment text, zone text) FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.column_sql(row_name text, column_name text, type text) FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.column_type(table_name text, column_name text) FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.content_sql(target text, kind text, id_column text, status_column text) FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.detach(table_name text) FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.detach_sql(table_name text) FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.detach_triggers_sql(target text) FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.emit_altered(target regclass, kind text, columns text[], before text, after text) FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.emit_public_bookings_changed(o record, told record) FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.emit_public_bookings_insert_statement() FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.emit_public_bookings_inserted(told record) FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.emit_public_bookings_payload(n public.bookings) FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.emit_public_bookings_update_statement() FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.emit_public_orders_changed(o record, n record) FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.emit_public_orders_insert_statement() FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.emit_public_orders_inserted(told record) FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.order_payload(public.orders) FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.emit_public_orders_payload(n public.orders) FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.emit_public_orders_update_statement() FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.emitter(table_name text, what text) FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.event_data(payload jsonb, certain jsonb) FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.has_triggers(target regclass) FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.insert_row_sql(target text, kind text, id_column text, store_column text, status_column text) FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.insert_statement_sql(target text, kind text, id_column text, store_column text, status_column text) FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.is_as_attached(target regclass, table_name text, columns text[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.is_quiet() FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.jsonb_or_text(value json) FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.keep_private(names name[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.key_sql(target text, key_column text, shortened text) FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.moment(moment timestamp with time zone, zone text) FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.moved(table_name text, id text) FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.must_ring() FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.order_changed_sql(id_column text, status_column text, reason_column text) FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.order_columns() FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.order_inserted_sql(id_column text, status_column text) FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.payload_body(table_name text, kind text, row_name text) FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.payload_is(signature text, digest text) FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.payload_is_ours(table_name text, kind text) FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.payload_sql(target text, kind text) FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.planned_with(told jsonb, unused jsonb) FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.rare_sql(target text, kind text, id_column text, store_column text, status_column text, rows text) FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.reason_column(target text) FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.reattach_all() FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.ring(id bigint, xid xid8, store text, type text) FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.send_ring(store text, type text) FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.store_key(key text) FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.store_sql(target text, store_column text) FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.subject_sql(target text, id_column text) FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.table_name(name text) FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.told_change_sql(target text, kind text, id_column text, status_column text) FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.told_columns(table_name text, kind text, row_name text, OUT name text, OUT place bigint, OUT expression text, OUT pair text, OUT is_json boolean, OUT is_long boolean) FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.told_sql(target text, kind text, id_column text, status_column text) FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.triggers_sql(target text, status_column text, deferred boolean, by_statement boolean) FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.update_row_sql(target text, kind text, id_column text, store_column text, status_column text) FROM PUBLIC;
REVOKE ALL ON FUNCTION vestnik.update_statement_sql(target text, kind text, id_column text, store_column text, status_column text) FROM PUBLIC;
