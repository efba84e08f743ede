-- A schema for each tenant, the same tables in each. gen_random_uuid is the key; people say the short code.
create schema north; create schema south;
create table north.orders (id uuid primary key default gen_random_uuid(), code varchar(8) not null, venue_id uuid not null, state text not null default 'submitted', guest_name text, total_amount integer, line_items jsonb, created timestamptz default now());
create table south.orders (like north.orders including all);
insert into north.orders (id, code, venue_id, state) values ('c0ffee00-0000-4000-8000-000000000001', 'OLD1', '00000000-0000-4000-8000-000000000001', 'in_progress'), ('c0ffee00-0000-4000-8000-000000000002', 'OLD2', '00000000-0000-4000-8000-000000000001', 'finished'), ('c0ffee00-0000-4000-8000-000000000003', 'OLD3', '00000000-0000-4000-8000-000000000001', 'void');
insert into south.orders (id, code, venue_id, state) values ('c0ffee00-0000-4000-8000-000000000004', 'OLD1', '00000000-0000-4000-8000-000000000001', 'in_progress'), ('c0ffee00-0000-4000-8000-000000000005', 'OLD2', '00000000-0000-4000-8000-000000000001', 'finished'), ('c0ffee00-0000-4000-8000-000000000006', 'OLD3', '00000000-0000-4000-8000-000000000001', 'declined');
-- attach: north.orders
-- attach: south.orders
