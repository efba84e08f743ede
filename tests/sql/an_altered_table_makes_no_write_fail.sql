-- A shop's own migrations know nothing of ours: whatever they rename, drop or retype, its orders are taken, and told as
-- far as the columns go.
create table tickets (id int, store_id text, status text, total int, day int) partition by list (day);
create table tickets_1 partition of tickets for values in (1);
create table tickets_2 partition of tickets for values in (2);
select vestnik.attach('tickets', 'order');
insert into orders (id, store_id, customer_name, total, items) values (1, 7, 'Иван', 100, '[]');
insert into bookings (id, store_id, customer_name, guests) values (1, 7, 'Анна', 2);
insert into tickets values (1, '7', 'pending', 100, 1);
truncate vestnik.event cascade;
\set ON_ERROR_STOP off

-- A column that the payload tells gets another name, another type, and goes.
alter table orders rename customer_name to client;
alter table bookings rename customer_name to client;
insert into orders (id, store_id, client, total, items) values (2, 7, 'Иван', 100, '[]');
insert into bookings (id, store_id, client, guests) values (2, 7, 'Анна', 2);
update orders set status = 'ready', reason = 'soon';
update bookings set status = 'ready' where id = 2;
update orders set total = 200;
alter table orders alter column items type json, alter column total type double precision;
alter table bookings drop column guests;
insert into orders (id, store_id, client, total, items) values (3, 7, 'Иван', 'NaN', '["\u0000"]'), (4, 7, null, null, null);
insert into bookings (id, store_id, client) values (3, 7, 'Анна');

-- Keys get another type.
alter table orders alter column id type integer, alter column store_id type text;
insert into orders (id, store_id) values (5, 'seven');
update orders set status = 'cancelled' where id = 5;
alter table tickets alter column total type numeric;
insert into tickets values (2, '7', 'pending', 1.5, 1);
update tickets set day = 2 where id = 2;
update tickets set status = 'ready', day = 1 where id = 2;
update tickets set status = 'cancelled' where id = 2;
delete from tickets where id = 2;

-- The columns without which nobody can be told: what is left of the event is kept.
alter table bookings rename store_id to place;
insert into bookings (id, place) values (4, 7);
alter table orders rename status to state;
insert into orders (id, store_id) values (6, 7);
update orders set state = 'preparing' where id = 6;

-- The table itself.
alter table bookings rename to tables;
insert into tables (id, place) values (5, 7);
update tables set status = 'ready' where id = 5;
\c
insert into tables (id, place) values (6, 7);
alter table tickets rename to old_tickets;
insert into old_tickets values (3, '7', 'pending', 2, 2);
update old_tickets set status = 'ready' where id = 3;

-- Attached again, all is as it was.
select vestnik.attach('orders', 'order', status_column => 'state');
insert into orders (id, store_id, total, order_type) values (8, 7, 300, 'pickup');
update orders set state = 'ready' where id = 8;
