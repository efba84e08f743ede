alter table orders alter column store_id drop not null;
insert into orders (id, store_id) values (1, null);
insert into orders (id, store_id, items) values (2, 7, jsonb_build_array(repeat('я', 1000000)));
insert into orders (id, store_id, items) values (3, 7, jsonb_build_array(repeat('z', 9000000)));
insert into orders (id, store_id, customer_name) values (4, 7, repeat('Ж', 5000000));
insert into orders (id, store_id, customer_name, total, order_type, items)
select i, 7, repeat('Ж', 5000000), 1, 'pickup', '[]' from generate_series(5, 6) i;
select id, store_id, length(data::text) > 1000000 as large, data - 'items' from vestnik.event order by id;
truncate vestnik.event cascade;
-- The same without attaching anew: told without the payload, but told.
alter table orders alter column items type json using items::json, alter column store_id type text;
insert into orders (id, store_id, items) values (8, '7', '[8]'), (9, '8', '[9]');
select vestnik.reattach_all();
insert into orders (id, store_id, items) values (10, repeat('s', 5000), '{"nul": "\u0000"}');
insert into orders (id, store_id, items) values (11, '7', '{"nul": "\u0000"}'), (12, '8', '[1]');
insert into orders (id, store_id, customer_name, total, order_type, items)
values (13, '7', 'Иван', 1, 'pickup', '{"nul": "\u0000"}'), (14, '8', 'Пётр', 2, 'pickup', '[1]');
