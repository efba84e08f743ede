insert into orders (store_id, items) values (7, '{"a": null}');
insert into orders (store_id) values (7);
insert into orders (store_id, customer_name, items) values (7, 'Аня', '[null]'), (8, null, null);
