insert into orders (id, store_id) values (1, 7), (2, 7), (3, 8);
truncate vestnik.vst_event cascade;
delete from orders where id = 1;
delete from orders where id > 1;
delete from orders;
truncate orders;
