-- `orders` is renamed, and another table takes its place.
insert into orders (id, store_id) values (1, 7);
truncate vestnik.vst_event cascade;
alter table orders rename to orders_old;
create table orders (like orders_old including all);
insert into orders (id, store_id) values (2, 7);
insert into orders_old (id, store_id) values (3, 7);
-- The old table is no longer the source. The new table's rows from before the attach are recorded now.
\! $VESTNIK attach --table public.orders
insert into orders (id, store_id) values (4, 7);
insert into orders_old (id, store_id) values (5, 7);
\! $VESTNIK detach --table public.orders
insert into orders (id, store_id) values (6, 7);
