-- A database whose clock is Moscow's. Rails writes UTC without a zone, another table local time, a third seconds since 1970.
select format('alter database %I set timezone = %L', current_database(), 'Europe/Moscow') \gexec
set timezone = 'Europe/Moscow';
create table orders (id bigserial primary key, store_id int, status text not null default 'pending', total int, created_at timestamp(6) not null, updated_at timestamp(6) not null);
create table bookings (id bigserial primary key, store_id int, status text not null default 'pending', guests int, starts_at timestamp not null, created_at timestamptz not null default now(), updated_at timestamp without time zone);
create table epoch_orders (id bigserial primary key, store_id int, status text not null default 'pending', total int, ready_by bigint, created_at bigint not null, updated_at bigint);
-- attach: public.orders
-- attach: public.bookings
-- attach: public.epoch_orders
