insert into orders (id, store_id) values (1, 7), (2, 7);
update orders set status = 'ready' where id = 1;
truncate vestnik.vst_event cascade;
update orders set id = 3 - id + 10, status = case status when 'ready' then 'completed' else 'preparing' end;
