insert into orders (id, store_id) values (1, 7) on conflict (id) do nothing;
insert into orders (id, store_id) values (1, 7) on conflict (id) do nothing;
insert into orders (id, store_id) values (1, 7), (2, 7) on conflict (id) do update set status = 'ready';
insert into orders (id, store_id) values (1, 7) on conflict (id) do update set status = 'ready';
