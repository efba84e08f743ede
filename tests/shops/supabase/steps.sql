-- step: the browser orders, as a role that may read nothing
begin; set local role vestnik_test_anon;
insert into public.orders (id, restaurant_id, order_id, customer_name, total, notes, items) values ('c0ffee00-0000-4000-8000-000000000001', 'pizza-hut', 'ORD-1', 'Ann', '12.50', 'extra hot', '[{"name": "Pizza", "price": "12.50"}]');
commit;
-- press: pizza-hut orders/c0ffee00-0000-4000-8000-000000000001 {"status": "preparing"}
-- press: pizza-hut orders/c0ffee00-0000-4000-8000-000000000001 {"status": "ready"}
-- step: a total in words
begin; set local role vestnik_test_anon;
insert into public.orders (id, restaurant_id, customer_name, total) values ('c0ffee00-0000-4000-8000-000000000002', 'pizza-hut', 'Bob', 'on the house');
commit;
-- step: cancelled by the service
update public.orders set status = 'cancelled' where id = 'c0ffee00-0000-4000-8000-000000000002';
