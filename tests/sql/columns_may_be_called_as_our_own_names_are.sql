create table dishes (id bigint primary key, store_id bigint, status text, total numeric, n int, o int, x int, old_rows text, new_rows text,
    is_changed text, is_moved text, are_many text, gone text, place text, tg_op text, data text, type text, written text, pair text);
\! $VESTNIK attach --map $CASES/dishes.toml
insert into dishes (id, store_id, status, total, n, o, x, tg_op, type) values (1, 7, 'new', 10, 1, 2, 3, 'op', 't'), (2, 7, 'new', null, 1, 2, 3, null, null);
update dishes set status = 'ready' where id = 1;
update dishes set status = 'cancelled', is_changed = 'yes';
delete from dishes where id = 1;
alter table dishes alter column total type bigint;
insert into dishes (id, store_id, status, total, n) values (3, 7, 'new', 10, 5);
