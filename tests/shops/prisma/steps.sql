-- step: order.create
INSERT INTO "public"."Order" ("id","storeId","customerName","customerPhone","deliveryAddress","notes","status","type","total","tags","items","isPaid","readyBy","createdAt","updatedAt") VALUES
    ('cmgz1x0000000abcd', 7, 'Ann', '+3361234', '{"street": "Rue de Rivoli 1", "city": "Paris"}', 'Ring twice. NUT ALLERGY', CAST('PENDING'::text AS "public"."OrderStatus"), CAST('DELIVERY'::text AS "public"."OrderType"), 12.50, '{vip}',
     '[{"productId": "p1", "product": {"name": "Pizza"}, "quantity": 2, "unitPrice": 6.25}]', false, '2020-07-01 17:00:00.000', now() at time zone 'UTC', now() at time zone 'UTC');
-- press: 7 orders/cmgz1x0000000abcd {"status": "preparing", "minutes": 15}
-- step: the application's own worker moves it on
UPDATE "public"."Order" SET "status" = CAST('PREPARING'::text AS "public"."OrderStatus"), "updatedAt" = now() at time zone 'UTC' WHERE ("public"."Order"."id" = 'cmgz1x0000000abcd' AND 1=1);
-- press: 7 orders/cmgz1x0000000abcd {"status": "ready"}
-- press: 7 orders/cmgz1x0000000abcd {"status": "delivering"}
-- step: it is paid at the door
UPDATE "public"."Order" SET "isPaid" = true, "updatedAt" = now() at time zone 'UTC' WHERE "id" = 'cmgz1x0000000abcd';
-- press: 7 orders/cmgz1x0000000abcd {"status": "completed"}
-- step: a takeaway that nobody can refuse in the shop's words
INSERT INTO "public"."Order" ("id","storeId","type","total","items","updatedAt") VALUES ('cmgz1x0000000efgh', 7, 'TAKEAWAY', 0.07, '[]', now() at time zone 'UTC');
-- press: 7 orders/cmgz1x0000000efgh {"status": "rejected", "reason": "closed"}
-- step: order.delete
DELETE FROM "public"."Order" WHERE ("public"."Order"."id" = 'cmgz1x0000000efgh' AND 1=1);
