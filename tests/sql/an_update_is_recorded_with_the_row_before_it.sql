insert into orders (id, store_id, items) values (1, 7, '[]');
insert into bookings (id, store_id, customer_name) values (1, 7, 'Пётр');
truncate vestnik.vst_event cascade;
update orders set status = 'preparing' where id = 1;
update orders set items = '["Чай"]', total = 100 where id = 1;
update bookings set status = 'cancelled', customer_name = null where id = 1;
