alter table orders add column courier text;
insert into orders (id, store_id, items) values (1, 7, '[{"a": 1}]'), (2, 7, '[]');
truncate vestnik.vst_event cascade;
update orders set status = 'pending', items = items;
update orders set items = '[{"a":1}]' where id = 1;
update orders set courier = 'Олег';
update orders set updated_at = now();
update orders set status = 'ready' where false;
-- The first statement changes one of the two rows. The second statement writes both rows, but changes nothing.
update orders set total = id where id = 1 or total is null and id = 1;
update orders set total = case id when 1 then 1 end;
