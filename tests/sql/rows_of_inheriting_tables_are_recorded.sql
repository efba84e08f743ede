create table base (id bigint primary key, store_id int, status text);
create table special (extra text, primary key (id)) inherits (base);
\! $VESTNIK attach --map $CASES/base.toml
insert into base values (1, 7, 'pending');
insert into special values (2, 7, 'pending', 'x');
update base set status = 'ready';
delete from base where id = 2;
