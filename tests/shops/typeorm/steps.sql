-- step: repository.save
INSERT INTO "order"("status", "restaurantId", "clientName", "phone", "address", "totalPrice", "lines", "deliverAt", "createdAt", "updatedAt", "deletedAt", "version") VALUES (DEFAULT, 7, 'Ольга', '+7900', 'Тверская 1', 12.5, '[{"title":"Пицца","qty":2,"price":6.25,"modifiers":[{"name":"сыр"}]}]', '2020-11-28T16:00:00.000Z', DEFAULT, DEFAULT, DEFAULT, 1) RETURNING "status", "createdAt", "updatedAt", "deletedAt", "version", "id";
-- press: 7 orders/1 {"status": "preparing", "minutes": 30}
-- press: 7 orders/1 {"status": "ready"}
-- step: repository.softDelete
UPDATE "order" SET "deletedAt" = CURRENT_TIMESTAMP, "updatedAt" = CURRENT_TIMESTAMP, "version" = "version" + 1 WHERE "id" IN (1);
-- press: 7 orders/1 {"status": "completed"}
-- step: repository.restore
UPDATE "order" SET "deletedAt" = NULL, "updatedAt" = CURRENT_TIMESTAMP WHERE "id" IN (1);
-- step: another, whose lines are broken
INSERT INTO "order"("restaurantId", "clientName", "totalPrice", "lines", "version") VALUES (7, 'Ян', 3, '[{"title":"Чай"', 1);
