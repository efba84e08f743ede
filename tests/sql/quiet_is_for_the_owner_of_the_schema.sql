begin;
set local vestnik.quiet = 'on';
insert into orders (id, store_id) values (1, 7);
update orders set status = 'ready';
commit;
insert into orders (id, store_id) values (2, 7);
