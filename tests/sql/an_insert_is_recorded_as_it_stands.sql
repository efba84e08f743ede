insert into orders (store_id, customer_name, customer_phone, total, order_type, items)
values (7, 'Иван 🍕', '+7 900 000-00-00', 50000, 'delivery', '[{"name": "Пицца", "note": null}]');
insert into bookings (store_id, customer_name, guests, starts_at) values (7, 'Мария', 4, '2026-12-31 20:00+00');
