-- Which changes of a booking are events, and what they say: the same as for orders, but that a change of status tells
-- who comes and when, too, for a booking has no list of items to be looked up by.

-- The columns of a booking, beside its id, store and status, that its payload tells, where they are there.
create or replace function vestnik.booking_columns() returns text[]
language sql immutable as $$ select array['customer_name', 'guests', 'starts_at'] $$;

-- What is certain about a new booking. `n` is the row.
create or replace function vestnik.booking_inserted_sql(id_column text, status_column text) returns text
language sql immutable as $$
    select format($sql$jsonb_strip_nulls(jsonb_build_object('booking_id', n.%1$I::text, 'status', n.%2$I::text))$sql$,
        id_column, status_column)
$$;

-- What is certain about a change of status. `o` and `n` are the rows before and after.
create or replace function vestnik.booking_changed_sql(id_column text, status_column text, reason_column text) returns text
language sql immutable as $$
    select format($sql$jsonb_strip_nulls(jsonb_build_object(
        'booking_id', n.%1$I::text, 'status', n.%2$I::text, 'previous_status', o.%2$I::text%3$s))$sql$,
        id_column, status_column, case when reason_column is null then '' else format(', ''reason'', n.%I::text', reason_column) end)
$$;

select vestnik.keep_private('{booking_columns, booking_inserted_sql, booking_changed_sql}');
