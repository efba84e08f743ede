-- Which changes of an order are events, and what they say: written for the columns that a table has.
--
-- A new order says everything that a kitchen needs; a change of status says which order, from what, to what and why.
-- A customer's telephone number is in none of them.

-- The columns of an order, beside its id, store and status, that its payload tells, where they are there.
create or replace function vestnik.order_columns() returns text[]
language sql immutable as $$ select array['customer_name', 'total', 'order_type', 'items'] $$;

-- What is certain about a new order. `n` is the row.
create or replace function vestnik.order_inserted_sql(id_column text, status_column text) returns text
language sql immutable as $$
    select format($sql$jsonb_strip_nulls(jsonb_build_object(
        'order_ids', jsonb_build_array(n.%1$I::text), 'order_id', n.%1$I::text, 'status', n.%2$I::text))$sql$,
        id_column, status_column)
$$;

-- What is certain about a change of status. `o` and `n` are the rows before and after.
create or replace function vestnik.order_changed_sql(id_column text, status_column text, reason_column text) returns text
language sql immutable as $$
    select format($sql$jsonb_strip_nulls(jsonb_build_object(
        'order_id', n.%1$I::text, 'status', n.%2$I::text, 'previous_status', o.%2$I::text%3$s))$sql$,
        id_column, status_column, case when reason_column is null then '' else format(', ''reason'', n.%I::text', reason_column) end)
$$;

select vestnik.keep_private('{order_columns, order_inserted_sql, order_changed_sql}');
