-- `left_out`: the names of the values that were too large to be recorded. `head`: the beginning of the recorded data.
alter table orders alter column store_id drop not null;
insert into orders (id, store_id) values (1, null);
insert into orders (id, store_id, items) values (2, 7, jsonb_build_array(repeat('я', 1000000)));
insert into orders (id, store_id, items) values (3, 7, jsonb_build_array(repeat('z', 60000000)));
insert into orders (id, store_id, customer_name) values (4, 7, repeat('Ж', 30000000));
insert into orders (id, store_id, customer_name, customer_phone) select i, 7, repeat('Ж', 5000000), '1' from generate_series(5, 6) i;
update orders set customer_name = repeat('Й', 5000000) where id in (5, 6);
update orders set customer_name = repeat('Ё', 5000000) where id = 5;
delete from orders where id = 5;
alter table orders alter column items type json using items::json, alter column store_id type text, alter column total type double precision;
insert into orders (id, store_id, items) values (8, '7', '{"nul": "\u0000", "half": "\ud800", "huge": 1e400}');
insert into orders (id, store_id, items) values (9, '7', (repeat('[', 2000) || repeat(']', 2000))::json);
insert into orders (id, store_id, items, total) values (10, repeat('s', 5000), '{"nul": "\u0000"}', 'Infinity'), (11, '7', '1e400', 'NaN');
update orders set items = '{"nul": "\u0000\u0000"}', total = '-Infinity' where id in (8, 11);
select key, type, length(store_id) as store, substring(data::text from '"vst_omitted"[^]]*.') as left_out, length(data::text) < 1200000 as bounded, left(data::text, 60) as head
from vestnik.vst_event order by id;
truncate vestnik.vst_event cascade;
