-- step: it waits for its payment
insert into orders (store_id, status, customer_name, total, items) values (7, 'awaiting_payment', 'A', 1000, '[{"name":"Soup","count":1}]');
-- step: it is paid
update orders set status = 'pending';
-- step: it is changed after it was sent
update orders set items = '[{"name":"Soup","count":3},{"name":"NO NUTS","count":1}]', total = 1700;
-- press: 7 orders/1 {"status": "preparing", "minutes": 20}
-- press: 7 orders/1 {"status": "ready"}
-- press: 7 orders/1 {"status": "preparing"}
-- press: 7 orders/1 {"status": "ready"}
-- press: 7 orders/1 {"status": "completed"}
-- press: 7 orders/1 {"status": "ready"}
-- step: the customer cancels, and orders anew
update orders set status = 'cancelled', reason = 'too slow';
-- step: (anew)
update orders set status = 'pending', reason = null;
-- step: deleted while it rings
delete from orders;
-- press: 7 orders/1 {"status": "preparing"}
-- step: shapes of items
insert into orders (store_id, items) values
    (7, '"[{\"name\":\"Soup\",\"qty\":2}]"'),
    (7, '{"1":{"name":"Soup"}}'),
    (7, '[{"product":{"name":"Pizza"},"quantity":2}]'),
    (7, '[{"name":"Burger","special_instructions":"gluten free!","addons":["cheese"]}]'),
    (7, '[{"name":"Pizza","meta_data":[{"key":"Note","value":"NO NUTS"}]}]'),
    (7, '[{"dish":{"title":{"en":"Ramen","ja":"ラーメン"}},"amount":"2","modifiers":[{"group":"Egg","items":[{"name":"soft","qty":2}]}]}]'),
    (7, '{"lines":[{"label":"Tea","pcs":3,"price":{"amount":150,"currency":"RUB"}}],"total":450}'),
    (7, '[["Soup",2],["Tea"]]'),
    (7, '"Soup x2\nTea"'),
    (7, '[{"item":{"id":5},"name_ru":"Борщ","quantity":1}]'),
    (7, '[{"name":"Coffee","quantity":1,"selectedOptions":{"milk":"oat","shots":2},"allergies":["nuts","milk"]}]'),
    (7, '[{"name":null,"title":"","productName":"Sushi","count":null}]'),
    (7, '[{"quantity":1,"price":500,"product_id":77}]'),
    (7, '42'), (7, 'null'), (7, '[[]]');
-- step: many words for what is over
update orders set status = (array['completed','delivered','declined','canceled','refunded'])[1 + id % 5];
-- step: a word that nobody mapped, of an order that is new, and of one that stands
insert into orders (store_id, status) values (7, 'on_hold');
update orders set status = 'in_dispute' where id = 2;
-- step: the same key again, and keys of all sizes
insert into orders (id, store_id) values (9007199254740993, 7), (-5, 7);
