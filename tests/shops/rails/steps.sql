-- step: Order.create!
INSERT INTO "orders" ("store_id", "number", "status", "customer_name", "phone", "special_instructions", "total_cents", "order_type", "items", "pickup_at", "created_at", "updated_at") VALUES (7, 'R-1042', 0, 'Jean', '+331', 'gluten free', 1250, 1, '[{"name":"Quiche","quantity":1,"price":1250}]', '2020-11-28 16:00:00', now() at time zone 'UTC', now() at time zone 'UTC') RETURNING "id";
-- press: 7 orders/13 {"status": "preparing"}
-- step: order.ready!
UPDATE "orders" SET "status" = 2, "updated_at" = now() at time zone 'UTC' WHERE "orders"."id" = 13;
-- step: touch
UPDATE "orders" SET "updated_at" = now() at time zone 'UTC' WHERE "orders"."id" = 13;
-- press: 7 orders/13 {"status": "completed"}
-- step: one that is cancelled by the guest
INSERT INTO "orders" ("store_id", "number", "total_cents", "created_at", "updated_at") VALUES (7, 'R-1043', 199, now() at time zone 'UTC', now() at time zone 'UTC');
-- step: order.cancelled!
UPDATE "orders" SET "status" = 4, "cancel_reason" = 'changed my mind' WHERE "orders"."id" = 14;
-- step: it is reopened
UPDATE "orders" SET "status" = 0, "cancel_reason" = NULL WHERE "orders"."id" = 14;
