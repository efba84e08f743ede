-- In the session that has planned the insert already, too.
insert into orders (id, store_id, customer_name, total, order_type, items) values (1, 7, 'Иван', 50000, 'pickup', '[{"name": null}]');
insert into orders (id, store_id, items) values (2, 7, '[{"name": null}]');
create or replace function vestnik.order_payload(placed public.orders) returns jsonb language sql stable
    as $$ select jsonb_build_object('mine', placed.id, 'status', 'not certain') $$;
insert into orders (id, store_id, customer_name) values (3, 7, 'Иван'), (4, 7, null);
-- Nobody takes it from under the triggers.
\set ON_ERROR_STOP off
drop function vestnik.order_payload(public.orders);
\set ON_ERROR_STOP on
insert into orders (id, store_id) values (5, 7);
