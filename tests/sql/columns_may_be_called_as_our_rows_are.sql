create table dishes (id bigint, store_id bigint, status text, total numeric, n int, o int, r int, before text, after text);
select vestnik.attach('dishes', 'order');
insert into dishes (id, store_id, status, total) values (1, 7, 'new', 10), (2, 7, 'new', null);
update dishes set status = 'ready' where id = 1;
update dishes set status = 'cancelled';
alter table dishes alter column total type bigint;
insert into dishes (id, store_id, status, total, n) values (3, 7, 'new', 10, 5);
update dishes set status = 'ready' where id = 3;
