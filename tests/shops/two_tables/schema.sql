-- Deliveries and pickups apart, each with numbers of its own.
create table delivery_orders (id serial primary key, store_id int, status text not null default 'pending', customer_name text, total int, order_type text, created_at timestamptz default now());
create table pickup_orders (like delivery_orders including all);
create sequence pickup_orders_id_seq; alter table pickup_orders alter id set default nextval('pickup_orders_id_seq');
insert into delivery_orders (store_id, status, order_type, created_at) values (1, 'preparing', 'delivery', '2020-01-01'), (1, 'completed', 'delivery', '2020-01-01'), (1, 'cancelled', 'delivery', '2020-01-01');
insert into pickup_orders (store_id, status, order_type, created_at) values (1, 'preparing', 'pickup', '2020-01-01'), (1, 'completed', 'pickup', '2020-01-01'), (1, 'cancelled', 'pickup', '2020-01-01');
-- attach: public.delivery_orders
-- attach: public.pickup_orders
