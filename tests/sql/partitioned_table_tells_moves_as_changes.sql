create table parts (id bigint, store_id bigint, status text, day int, primary key (id, day)) partition by list (day);
create table parts_1 partition of parts for values in (1);
-- A partition may have its columns in another order.
create table parts_2 (day int not null, status text, id bigint not null, store_id bigint);
alter table parts attach partition parts_2 for values in (2);
select vestnik.attach('parts', 'order');
insert into parts values (1, 7, 'pending', 1), (2, 7, 'pending', 1);
insert into parts_2 (id, store_id, status, day) values (3, 7, 'pending', 2);
update parts set day = 2 where id = 1;
update parts set day = 2, status = 'ready' where id = 2;
update parts set status = 'cancelled' where id = 3;
delete from parts where id = 1;
insert into parts values (1, 7, 'pending', 1);
