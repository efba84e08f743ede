insert into orders (id, store_id) values (1, 7), (2, 7);
truncate vestnik.event cascade;
delete from orders where id = 1;
truncate orders;
