create schema shop;
create table shop."Заказы" (uid uuid primary key, shop text not null, state text);
\! $VESTNIK attach --map $CASES/cyrillic.toml
insert into shop."Заказы" values ('00000000-0000-0000-0000-000000000001', 'центр', 'open');
update shop."Заказы" set state = 'cancelled';
create type state as enum ('open', 'ready', 'cancelled');
create domain shop_no as uuid;
create table meals (id numeric(6, 2) primary key, store_id shop_no, status state, total numeric);
\! $VESTNIK attach --map $CASES/meals.toml
insert into meals values (1, '00000000-0000-0000-0000-000000000007', 'open', 99.50), (2, null, null, null);
update meals set status = 'ready' where id = 1;
update meals set status = 'cancelled', store_id = null where id = 1;
-- This key is too long for a request, so the event has no key.
alter table meals alter column id type text;
insert into meals values (repeat('k', 1001), null, 'open', 1);
