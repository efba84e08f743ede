-- step: DB::transaction: the order and its items
insert into "orders" ("branch_id", "order_number", "first_name", "last_name", "phone", "total", "scheduled_at", "updated_at", "created_at") values (7, 'L-5', 'Ada', 'Byron', '+44', 19.99, '2020-11-28 16:00:00', '2020-11-28 15:00:00', now() at time zone 'UTC') returning "id";
insert into "order_items" ("order_id", "product_name", "quantity", "unit_price", "options", "notes") values (5, 'Pizza', 1, 12.99, '[{"name":"Size","value":"L"},{"name":"Extra cheese"}]', 'well done'), (5, 'Cola', 2, 3.50, null, null);
-- step: an item more, and the new total
insert into "order_items" ("order_id", "product_name", "unit_price") values (5, 'Tiramisu', 6.00);
update "orders" set "total" = 25.99, "updated_at" = '2020-11-28 15:01:00' where "id" = 5;
-- press: 7 orders/5 {"status": "preparing"}
-- step: an import touches it
update "orders" set "updated_at" = '2020-11-28 15:02:00' where "id" = 5;
-- press: 7 orders/5 {"status": "pending"}
-- step: $order->delete()
update "orders" set "deleted_at" = now() at time zone 'UTC', "updated_at" = now() at time zone 'UTC' where "id" = 5;
-- step: $order->forceDelete(): the items go by cascade
delete from "orders" where "id" = 5;
-- step: yen have no cents
insert into "orders" ("branch_id", "order_number", "first_name", "last_name", "phone", "total", "currency") values (8, 'L-6', 'Yoko', 'O', '', 1250, 'JPY');
