-- step: the same key in both, of the same venue
insert into north.orders (id, code, venue_id, guest_name, total_amount, line_items) values ('c0ffee00-0000-4000-8000-00000000000a', 'N7', '00000000-0000-4000-8000-000000000001', 'Nora', 1250, '[{"name": "Tea"}]');
insert into south.orders (id, code, venue_id, guest_name, total_amount, line_items) values ('c0ffee00-0000-4000-8000-00000000000a', 'S9', '00000000-0000-4000-8000-000000000001', 'Sam', 990, '[{"name": "Coffee"}]');
-- press: 00000000-0000-4000-8000-000000000001 orders/c0ffee00-0000-4000-8000-00000000000a {"status": "preparing"}
-- press: 00000000-0000-4000-8000-000000000001 orders/c0ffee00-0000-4000-8000-00000000000a {"status": "preparing", "source": "south.orders"}
-- press: 00000000-0000-4000-8000-000000000001 orders/c0ffee00-0000-4000-8000-00000000000a {"status": "rejected", "source": "south.orders"}
-- step: one of them goes
delete from north.orders where code = 'N7';
