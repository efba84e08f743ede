create role vestnik_test_clerk;
grant insert (id, store_id, customer_name), update (customer_name), select, delete on orders to vestnik_test_clerk;
set session authorization vestnik_test_clerk;
insert into orders (id, store_id, customer_name) values (1, 7, 'Иван');
insert into orders (id, store_id, customer_name) values (2, 7, 'Иван'), (3, 8, 'Пётр');
update orders set customer_name = 'Анна' where id = 1;
delete from orders where id = 1;
\set ON_ERROR_STOP off
select * from vestnik.vst_event;
insert into vestnik.vst_event (source, store_id, key, type, data) values (1, '7', '1', 'insert', '{}');
select vestnik.vst_notify();
reset session authorization;
drop owned by vestnik_test_clerk;
drop role vestnik_test_clerk;
-- The functions that every role may call.
select proname from pg_proc where pronamespace = 'vestnik'::regnamespace and has_function_privilege('public', oid, 'execute') order by 1, oid;
