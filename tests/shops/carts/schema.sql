-- A cart becomes an order when it is paid: one table for both, a status for each step of the checkout.
create table orders (
    id bigserial primary key,
    store_id int,
    reference text,
    state varchar(32) not null default 'cart',
    customer_name text,
    total numeric,
    items jsonb not null default '[]',
    placed_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz
);
insert into orders (store_id, reference, state, total) values (7, 'R1', 'awaiting_payment', 10.50), (7, 'R2', 'placed', 3.25), (7, 'R3', 'confirmed', 1.00), (7, 'R4', 'complete', 2.10), (7, 'R5', 'canceled', 3.10);
-- attach: public.orders
