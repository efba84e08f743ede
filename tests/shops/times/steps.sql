-- step: now, in UTC
insert into orders (store_id, created_at, updated_at) values (7, now() at time zone 'UTC', now() at time zone 'UTC');
-- press: 7 orders/1 {"status": "preparing", "source": "orders"}
-- step: a table at seven in Moscow, written in UTC
insert into bookings (store_id, starts_at) values (7, '2020-11-28 16:00');
-- press: 7 bookings/1 {"status": "preparing"}
-- step: seconds since 1970
insert into epoch_orders (store_id, ready_by, created_at) values (7, 1606579200, extract(epoch from now()));
-- press: 7 orders/1 {"status": "preparing", "source": "epoch_orders"}
