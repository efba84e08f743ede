-- step: a bill
insert into bills (no, uid, venue, guest_name, net, tip, address, party_size, positions, notes) values
    (1, 'b-1', 7, 'Ann', '$1,234.50', 2.5, row('Main St', 5), 4, array['{"name":"Soup"}', '{"name":"Tea","count":2}']::json[], '{"no onions","window seat"}');
-- step: the same number on another day
insert into bills (no, uid, venue, day) values (1, 'b-2', 7, '2020-11-29');
-- step: infinity
update bills set wanted_at = 'infinity', order_date = '-infinity' where uid = 'b-2';
-- press: 7 orders/b-1 {"status": "preparing"}
-- press: 7 orders/b-1 {"status": "completed"}
