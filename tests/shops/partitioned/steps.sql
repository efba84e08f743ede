-- step: an order
insert into orders (store_id, customer, total_cents, items) values (7, 'Ann', 1250, '[{"name": "Soup"}]');
-- step: one that is written into its partition
insert into orders_live_0 (id, store_id, customer) overriding system value select 1000, store_id, 'Direct' from generate_series(1, 100) store_id
    where satisfies_hash_partition('orders_live'::regclass, 2, 0, store_id::bigint) limit 1;
-- press: 7 orders/1 {"status": "preparing"}
-- step: a partition for what is over, that comes later
create table orders_over partition of orders for values in (true);
-- step: it moves there, and nothing else
update orders set archived = true where id = 1;
-- step: it comes back, and is ready
update orders set archived = false, status = 30 where id = 1;
-- press: 7 orders/1 {"status": "completed"}
-- step: it moves there for good
update orders set archived = true where id = 1;
-- step: what is over is cut off, and written into
alter table orders detach partition orders_over;
insert into orders_over (id, store_id, customer, archived) values (1001, 7, 'nobody is told', true);
-- step: an order goes to another store, and so to another partition
insert into orders (store_id, customer) values (7, 'Bob');
update orders set store_id = (select s from generate_series(8, 100) s where satisfies_hash_partition('orders_live'::regclass, 2, 0, s::bigint)
    <> satisfies_hash_partition('orders_live'::regclass, 2, 0, 7::bigint) limit 1) where customer = 'Bob';
