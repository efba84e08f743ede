-- step: Order.objects.create and its items, within transaction.atomic
INSERT INTO "shop_order" ("status", "customer_name", "phone", "comment", "total", "payment_method", "paid_at", "created_at", "updated_at", "restaurant_id") VALUES ('new', 'Zoë', '+4479', '', '12.50'::numeric, 'cash', NULL, now(), now(), 7) RETURNING "shop_order"."id";
INSERT INTO "shop_orderitem" ("product_name", "quantity", "price", "order_id") VALUES ('Pizza', 2, '6.25'::numeric, 6);
-- step: order.save() writes every column, the same
UPDATE "shop_order" SET "status" = 'new', "customer_name" = 'Zoë', "phone" = '+4479', "comment" = '', "total" = '12.50'::numeric, "updated_at" = now(), "restaurant_id" = 7 WHERE "shop_order"."id" = 6;
-- step: another restaurant's
INSERT INTO "shop_order" ("status", "customer_name", "phone", "comment", "total", "payment_method", "paid_at", "created_at", "updated_at", "restaurant_id") VALUES ('new', 'Max', '', 'No onions', '100.00'::numeric, 'card', now(), now(), now(), 8);
INSERT INTO "shop_orderitem" ("product_name", "quantity", "price", "order_id") VALUES ('Burger', 1, '100.00'::numeric, 7);
-- press: 7 orders/6 {"status": "preparing"}
-- press: 7 orders/6 {"status": "ready"}
-- press: 7 orders/6 {"status": "completed"}
-- press: 8 orders/7 {"status": "rejected", "reason": "no buns"}
-- step: a word that nobody has mapped
INSERT INTO "shop_order" ("status", "customer_name", "phone", "comment", "total", "payment_method", "created_at", "updated_at", "restaurant_id") VALUES ('on_hold', 'Eve', '', '', '1.99'::numeric, 'card', now(), now(), 7);
-- press: 8 orders/7 {"status": "pending"}
-- step: refunded
UPDATE "shop_order" SET "status" = 'cancelled' WHERE "id" = 7;
-- press: 8 orders/7 {"status": "pending"}
-- step: Order.objects.all().delete() removes the items first
DELETE FROM "shop_orderitem" WHERE "order_id" IN (6, 7, 8); DELETE FROM "shop_order" WHERE "id" IN (6, 7, 8);
