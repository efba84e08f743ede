insert into orders (id, store_id) values (1, 7);
insert into bookings (id, store_id, customer_name) values (1, 7, 'Пётр');
truncate vestnik.event cascade;
update orders set status = 'preparing' where id = 1;
update orders set status = 'cancelled', reason = 'передумал' where id = 1;
update bookings set status = 'cancelled', reason = 'болезнь' where id = 1;
