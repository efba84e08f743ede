create table carts (id bigint primary key, store_id bigint, status text);
create table cart_lines (cart_id bigint, name text);
select vestnik.attach('carts', 'order', deferred => true);
create or replace function vestnik.order_payload(n public.carts) returns jsonb language sql stable
as $$ select jsonb_build_object('items', jsonb_agg(l.name)) from public.cart_lines l where l.cart_id = n.id $$;
begin;
insert into carts values (1, 7, 'pending');
insert into cart_lines values (1, 'Борщ'), (1, 'Чай');
select count(*) from vestnik.event;
commit;
