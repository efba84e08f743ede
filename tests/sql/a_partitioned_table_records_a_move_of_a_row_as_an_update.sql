create table parts (id bigint, store_id bigint, status text, day int, primary key (id, day)) partition by list (day);
create table parts_1 partition of parts for values in (1);
-- A partition may have its columns in a different order.
create table parts_2 (day int not null, status text, id bigint not null, store_id bigint);
alter table parts attach partition parts_2 for values in (2);
\! $VESTNIK attach --map $CASES/parts.toml
insert into parts values (1, 7, 'pending', 1), (2, 7, 'pending', 1);
insert into parts_2 (id, store_id, status, day) values (3, 7, 'pending', 2);
update parts set day = 2 where id = 1;
update parts set day = 2, status = 'ready' where id = 2;
update parts set status = 'cancelled' where id = 3;
delete from parts where id = 1;
insert into parts values (1, 7, 'pending', 1);
-- The shop adds a partition after the attach, and detaches an old partition.
create table parts_3 partition of parts for values in (3);
insert into parts values (4, 7, 'pending', 3);
alter table parts detach partition parts_1;
insert into parts_1 values (5, 7, 'pending', 1);
-- The session has cached plans from before these changes.
alter table parts alter column status type varchar(20);
alter table parts rename store_id to shop;
insert into parts values (6, 7, 'pending', 3);
update parts set status = 'ready' where id = 6;
