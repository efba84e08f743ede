insert into orders (id, store_id) values (1, 7), (2, 7), (3, 7);
truncate vestnik.vst_event cascade;
update orders set store_id = 8 where id = 1;
update orders set store_id = 9, status = 'ready' where id > 1;
update orders set store_id = case id when 2 then 7 else store_id end, total = 5;
