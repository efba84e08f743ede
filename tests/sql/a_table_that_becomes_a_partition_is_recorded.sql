-- The attached table becomes a partition of a table that takes its name.
create table parts (id bigint not null unique, store_id bigint, status text, day int not null);
insert into parts values (1, 7, 'pending', 1);
\! $VESTNIK attach --map $CASES/parts.toml | tail -n 1
insert into parts values (2, 7, 'pending', 1);
alter table parts rename to parts_1;
create table parts (like parts_1, unique (id, day)) partition by list (day);
alter table parts attach partition parts_1 for values in (1);
insert into parts values (3, 7, 'pending', 1);
\! $VESTNIK source list | grep -A 1 parts
\! $VESTNIK migrate
\! $VESTNIK source list | grep -A 1 parts
\! $VESTNIK migrate
insert into parts values (4, 7, 'pending', 1);
update parts set status = 'ready' where id = 1;
delete from parts_1 where id = 2;
truncate parts_1;
-- A partition that is detached is no part of the source, until it is attached again.
alter table parts detach partition parts_1;
insert into parts_1 values (5, 7, 'pending', 1);
alter table parts attach partition parts_1 for values in (1);
insert into parts values (6, 7, 'pending', 1);
-- The partitioned table becomes a partition, too.
alter table parts rename to parts_new;
create table parts (like parts_new) partition by range (id);
alter table parts attach partition parts_new for values from (0) to (1000);
insert into parts values (7, 7, 'pending', 1);
\! $VESTNIK migrate
insert into parts values (8, 7, 'pending', 1);
update parts_1 set status = 'ready' where id = 8;
-- The shop goes back to a plain table.
alter table parts detach partition parts_new;
alter table parts_new detach partition parts_1;
drop table parts, parts_new;
alter table parts_1 rename to parts;
insert into parts values (9, 7, 'pending', 1);
\! $VESTNIK migrate
insert into parts values (10, 7, 'pending', 1);
-- The new table gets its triggers before the old one becomes its partition.
alter table parts rename to parts_1;
create table parts (like parts_1) partition by list (day);
\! $VESTNIK migrate
alter table parts attach partition parts_1 for values in (1);
insert into parts values (11, 7, 'pending', 1);
select tgrelid::regclass, tgname, tgparentid <> 0 from pg_trigger where tgname like 'vestnik%' and tgrelid::regclass::text like 'parts%' order by 1, 2;
