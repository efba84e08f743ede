-- step: knex('orders').insert, the items by number
insert into "orders" ("delivery_type", "name", "products", "shop_id", "table_no", "total") values ('in_store', 'Bob', '{"1":{"name":"Burger","special_instructions":"gluten free!","addons":["cheese"]},"2":{"name":"Cola","quantity":3,"price":2.5}}', 7, '12', 17.5) returning "id";
-- step: JSON in JSON
insert into "orders" ("delivery_type", "products", "shop_id", "total") values ('pickup', '"[{\"name\":\"Soup\",\"qty\":2}]"', 7, 1.99);
-- step: what jsonb would refuse
insert into "orders" ("products", "shop_id", "total") values ('[{"name":"T\u0000ea","price":1e400},{"name":"\ud800"}]', 7, 0);
-- step: JSON with the same name twice
insert into "orders" ("products", "shop_id") values ('[{"name":"first","name":"last"}]', 7);
-- press: 7 orders/1 {"status": "preparing"}
-- press: 7 orders/1 {"status": "ready"}
-- press: 7 orders/1 {"status": "completed"}
-- press: 7 orders/2 {"status": "rejected"}
