insert into orders (id, store_id, status) values (1, 7, 'pending'), (2, 7, 'pending');
update orders set status = 'ready';
insert into bookings (id, store_id) values (1, 7), (2, 7);
update bookings set status = 'ready';
truncate vestnik.event cascade;
alter table orders add column courier text;
alter table orders drop column reason;
alter table bookings add column hall text;
\set ON_ERROR_STOP off
insert into orders (id, store_id) values (3, 7);
insert into orders (id, store_id) values (4, 7), (5, 7);
insert into bookings (id, store_id) values (3, 7), (4, 7);
update bookings set status = 'completed';
update orders set status = 'preparing' where id = 1;
