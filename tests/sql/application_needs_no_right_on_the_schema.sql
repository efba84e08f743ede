create role vestnik_test_clerk;
grant insert (id, store_id, customer_name) on orders to vestnik_test_clerk;
set session authorization vestnik_test_clerk;
insert into orders (id, store_id, customer_name) values (1, 7, 'Иван');
insert into orders (id, store_id, customer_name) values (2, 7, 'Иван'), (3, 8, 'Пётр');
\set ON_ERROR_STOP off
select * from vestnik.event;
select vestnik.ring(1, '1', '7', 'new_order');
set vestnik.quiet = 'on';
insert into orders (id, store_id) values (4, 7);
reset session authorization;
drop owned by vestnik_test_clerk;
drop role vestnik_test_clerk;
-- What everybody may call.
select proname from pg_proc where pronamespace = 'vestnik'::regnamespace and has_function_privilege('public', oid, 'execute') order by 1;
