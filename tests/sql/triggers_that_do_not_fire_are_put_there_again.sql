alter table orders enable replica trigger vestnik_emit_insert;
alter table bookings disable trigger vestnik_emit_update;
insert into orders (id, store_id) values (1, 7);
select * from vestnik.attachment_troubles() order by 1;
select vestnik.attach('orders', 'order'), vestnik.attach('bookings', 'booking');
select * from vestnik.attachment_troubles() order by 1;
select vestnik.attach('orders', 'order'), vestnik.attach('bookings', 'booking');
insert into orders (id, store_id) values (2, 7);
