-- The triggers of a partitioned table name its status, so that Postgres gives it no other type; and how it gets one.
create table tickets (id int, store_id text, status varchar(20), day int) partition by list (day);
create table tickets_1 partition of tickets for values in (1);
select vestnik.attach('tickets', 'order');
\set ON_ERROR_STOP off
alter table tickets alter column status type text;
\set ON_ERROR_STOP on
begin;
select vestnik.detach('tickets');
alter table tickets alter column status type text;
select vestnik.attach('tickets', 'order');
commit;
insert into tickets values (1, '7', 'pending', 1);
update tickets set status = 'ready';
