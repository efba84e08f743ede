-- A shop's migrations do not consider Vestnik. All writes use one session, whose cached plans are older than the changes.
insert into orders (id, store_id, customer_name, total, items) values (1, 7, 'Иван', 100, '[]');
insert into bookings (id, store_id, customer_name, guests) values (1, 7, 'Анна', 2);
update orders set total = 101;
update bookings set guests = 1;
truncate vestnik.vst_event cascade;

-- Recorded columns are renamed, change their type, or are dropped.
alter table orders rename customer_name to client;
insert into orders (id, store_id, client, total, items) values (2, 7, 'Иван', 100, '[]');
update orders set status = 'ready' where id = 2;
update orders set client = 'Пётр' where id = 2;
alter table orders alter column items type json, alter column total type double precision;
insert into orders (id, store_id, total, items) values (3, 7, 'NaN', '["\u0000"]'), (4, 7, null, null);
update orders set total = 3 where id = 3;
alter table bookings drop column guests, add column hall text;
insert into bookings (id, store_id) values (2, 7);
update bookings set status = 'ready' where id = 2;

-- The columns of the key and the store change their type, are renamed, or are dropped.
alter table orders alter column id type integer, alter column store_id type text;
insert into orders (id, store_id) values (5, 'seven');
update orders set status = 'cancelled' where id = 5;
alter table orders rename id to no;
insert into orders (no, store_id) values (6, '7');
alter table bookings rename store_id to place;
insert into bookings (id, place) values (3, 7);
update bookings set status = 'ready' where id = 3;
delete from bookings where id = 3;
alter table bookings drop column place;
insert into bookings (id) values (4);

-- One table is renamed, and one moves to a different schema.
alter table bookings rename to tables;
insert into tables (id) values (5);
create schema archive;
alter table orders set schema archive;
insert into archive.orders (no, store_id) values (7, '7');
\c
insert into tables (id) values (6);
update archive.orders set status = 'ready' where no = 7;
drop table tables;
drop schema archive cascade;
