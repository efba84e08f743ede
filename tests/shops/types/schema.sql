-- Types of every kind: a domain over a domain, the type money, three digits, generated columns, a composite key beside a unique one.
create domain amount as numeric(12,3);
create domain price as amount check (value >= 0);
create domain order_state as text check (value in ('open', 'cooking', 'served', 'void'));
create type address as (street text, house int);
create extension if not exists citext;
create table bills (
    day date not null default '2020-11-28',
    no int not null,
    uid char(12) not null unique,
    venue smallint not null,
    state order_state not null default 'open',
    guest_name citext,
    net money,
    tip price not null default 0,
    total price generated always as (tip + 10.005) stored,
    address address,
    party_size int2,
    positions json[],
    wanted_at timestamp(0) default '2020-11-28 19:00',
    order_date date not null default '2020-11-28',
    notes varchar(20)[],
    primary key (venue, day, no)
);
-- attach: public.bills --kind order
