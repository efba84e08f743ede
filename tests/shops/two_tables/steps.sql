-- step: one of each, both number 4
insert into delivery_orders (store_id, customer_name, order_type) values (7, 'Dora', 'delivery');
insert into pickup_orders (store_id, customer_name, order_type) values (7, 'Paul', 'pickup');
-- press: 7 orders/4 {"status": "preparing"}
-- press: 7 orders/4 {"status": "preparing", "source": "pickup_orders"}
-- press: 7 orders/4 {"status": "rejected", "source": "delivery_orders"}
