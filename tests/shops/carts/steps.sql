-- step: a cart without a store
insert into orders default values;
-- step: things are put into it
update orders set items = '[{"name": "Soup", "count": 1}]', total = 10 where id = 6;
-- step: the store is chosen, and the customer pays later
update orders set store_id = 7, state = 'awaiting_payment', customer_name = 'Ann', reference = 'R100' where id = 6;
-- step: it is paid: now it rings, whole
update orders set state = 'placed', placed_at = now() where id = 6;
-- press: 7 orders/6 {"status": "preparing"}
-- step: cancelled
update orders set state = 'canceled' where id = 6;
-- step: and wanted again
update orders set state = 'placed' where id = 6;
-- step: back in the cart: the customer edits it
update orders set state = 'cart' where id = 6;
-- step: paid and confirmed by the shop itself in one transaction
update orders set state = 'placed' where id = 6; update orders set state = 'confirmed' where id = 6;
-- step: a cart comes and is abandoned
insert into orders (store_id) values (7); delete from orders where id = 7;
-- step: an old cart is purged
insert into orders (store_id) values (7);
-- step: (purged)
delete from orders where state = 'cart';
-- step: paid at once
begin; insert into orders (store_id, customer_name) values (8, 'Quick'); update orders set items = '[{"name": "Tea"}]' where customer_name = 'Quick'; update orders set state = 'placed', total = 2 where customer_name = 'Quick'; commit;
