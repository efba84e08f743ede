insert into orders (id, store_id) values (1, 7), (2, 7);
truncate vestnik.event cascade;
update orders set status = 'pending';
update orders set total = 1;
update orders set status = 'ready' where false;
