create table base (id bigint primary key, store_id int, status text);
create table special (primary key (id)) inherits (base);
create table later (id bigint primary key, store_id int, status text);
\! $VESTNIK attach --map $CASES/base.toml | tail -n 1
insert into special values (1, 7, 'pending');
alter table special no inherit base;
insert into special values (2, 7, 'pending');
\! $VESTNIK source list | grep -A 1 base
\! $VESTNIK migrate
\! $VESTNIK source list | grep -A 1 base
insert into special values (3, 7, 'pending');
-- Another table inherits after the attach: what was written to it meanwhile is recorded late.
alter table later inherit base;
insert into later values (4, 7, 'pending');
\! $VESTNIK source list | grep -A 1 base
\! $VESTNIK migrate
insert into later values (5, 7, 'pending');
