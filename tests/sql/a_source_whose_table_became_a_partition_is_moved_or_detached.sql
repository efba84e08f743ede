-- The attached table keeps its name, and becomes a partition of another table.
create table parts (id bigint not null, store_id bigint, status text, day int not null);
create unique index on parts (id);
\! $VESTNIK attach --map $CASES/parts.toml | tail -n 1
create table all_parts (like parts, unique (id, day)) partition by list (day);
alter table all_parts attach partition parts for values in (1);
insert into all_parts values (1, 7, 'pending', 1);
\! $VESTNIK source list | grep -A 1 parts
\! $VESTNIK migrate
\! EDITOR='sed -i s/public.parts/public.all_parts/' $VESTNIK source edit parts | tail -n 3
insert into all_parts values (2, 7, 'pending', 1);
\! $VESTNIK source list | grep -A 1 parts
-- A source is detached while its old table is a partition with triggers of its own.
alter table all_parts rename to all_parts_old;
create table all_parts (like all_parts_old) partition by range (id);
alter table all_parts attach partition all_parts_old for values from (0) to (1000);
\! $VESTNIK detach --table all_parts --dry-run
\! $VESTNIK detach --table all_parts
insert into all_parts values (3, 7, 'pending', 1);
select tgrelid::regclass, tgname from pg_trigger where tgname like 'vestnik%' and tgrelid::regclass::text like '%parts%';
