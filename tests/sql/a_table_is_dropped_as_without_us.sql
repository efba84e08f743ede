insert into orders (id, store_id) values (1, 7);
truncate vestnik.vst_event cascade;
drop table orders;
create table orders (id bigserial primary key, store_id int, status text);
insert into orders (store_id, status) values (7, 'pending');
\! $VESTNIK detach --table public.orders
insert into orders (store_id, status) values (7, 'pending');
