create or replace function vestnik.order_payload(n public.orders) returns jsonb language plpgsql
as $$ begin if n.total = 0 then raise 'division by nobody'; end if; return jsonb_build_object('mine', n.total); end $$;
insert into orders (id, store_id, total) values (1, 7, 0);
insert into orders (id, store_id, total) values (2, 7, 0), (3, 7, 5);
create or replace function vestnik.booking_payload(n public.bookings) returns jsonb language sql as $$ select null::jsonb $$;
insert into bookings (id, store_id) values (1, 7);
update bookings set status = 'ready';
