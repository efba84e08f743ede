-- What is over is kept apart: the key of the table must have the column that says it.
create table orders (
    id bigint generated always as identity,
    store_id bigint not null,
    status smallint not null default 10 check (status in (10, 20, 30, 40, 90)),
    customer text,
    total_cents bigint,
    items jsonb,
    created_at timestamptz not null default now(),
    archived boolean not null default false,
    primary key (id, archived, store_id)
) partition by list (archived);
create table orders_live partition of orders for values in (false) partition by hash (store_id);
create table orders_live_0 partition of orders_live for values with (modulus 2, remainder 0);
create table orders_live_1 partition of orders_live for values with (modulus 2, remainder 1);
-- attach: public.orders
