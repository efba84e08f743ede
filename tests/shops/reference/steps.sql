-- step: a customer orders
insert into orders (store_id, customer_name, customer_phone, total, order_type, items) values
    (7, 'Анна', '+79001234567', 125000, 'delivery', '[{"name": "Борщ", "quantity": 2, "price": 35000}, {"name": "Чай", "count": 1, "note": "без сахара"}]');
-- step: nothing that anybody sees changes
update orders set updated_at = now(), customer_name = customer_name where id = 1;
-- step: the customer adds a dish
update orders set items = items || '[{"name": "Пирог"}]', total = 145000 where id = 1;
-- press: 7 orders/1 {"status": "preparing", "minutes": 25, "by": "Кухня"}
-- press: 7 orders/1 {"status": "pending"}
-- press: 7 orders/1 {"status": "rejected", "reason": "нет борща"}
-- step: the customer pays another time: the order is wanted after all
update orders set status = 'pending', reason = null where id = 1;
-- step: a booking
insert into bookings (store_id, customer_name, guests, starts_at) values (7, 'Пётр', 4, '2020-12-24 19:00+03');
-- press: 7 bookings/1 {"status": "preparing"}
-- step: both are cancelled in one transaction
update orders set status = 'cancelled'; update bookings set status = 'cancelled', reason = 'не придём';
-- step: an import of old orders
insert into orders (store_id, status, created_at) select 7, 'completed', '2020-01-01' from generate_series(1, 25);
-- step: an order goes to another store
insert into orders (id, store_id, customer_name) values (100, 7, 'Иван');
-- step: (the move)
update orders set store_id = 8 where id = 100;
-- step: it is deleted
delete from orders where id = 100;
