alter table orders enable replica trigger vestnik_record_insert;
alter table bookings disable trigger vestnik_record_update;
insert into orders (id, store_id) values (1, 7);
\! $VESTNIK source list
\! $VESTNIK attach --table public.orders
\! $VESTNIK attach --table public.bookings
\! $VESTNIK source list
\! $VESTNIK attach --table public.orders
insert into orders (id, store_id) values (2, 7);
