-- step: Order.create
INSERT INTO "Orders" ("id","storeId","customerName","orderStatus","Total Price","order.note","cart","isDeleted","createdAt","updatedAt") VALUES (DEFAULT,7,'Ann','new',12.3,'leave at the door','{"items": [{"title": "Wok", "amount": 1, "price": 12.3}]}',false,now(),now());
-- press: 7 orders/1 {"status": "preparing"}
-- press: 7 orders/1 {"status": "ready"}
-- step: another that is deleted softly
INSERT INTO "Orders" ("storeId","createdAt","updatedAt") VALUES (7,now(),now());
-- step: (deleted)
UPDATE "Orders" SET "isDeleted" = true WHERE "id" = 2;
-- step: (restored)
UPDATE "Orders" SET "isDeleted" = null WHERE "id" = 2;
-- step: no status at all
INSERT INTO "Orders" ("storeId","orderStatus","createdAt","updatedAt") VALUES (7,null,now(),now());
