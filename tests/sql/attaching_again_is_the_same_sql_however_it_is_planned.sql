-- Else a table would be attached anew, and locked, whenever the statistics of the catalog have changed.
create temp table said as select vestnik.attach_sql('orders', 'order') || vestnik.attach_sql('bookings', 'booking') as sql;
set enable_nestloop = off;
insert into said select vestnik.attach_sql('orders', 'order') || vestnik.attach_sql('bookings', 'booking');
set enable_hashjoin = off;
insert into said select vestnik.attach_sql('orders', 'order') || vestnik.attach_sql('bookings', 'booking');
set enable_mergejoin = off;
set enable_nestloop = on;
insert into said select vestnik.attach_sql('orders', 'order') || vestnik.attach_sql('bookings', 'booking');
select count(distinct sql), count(*) from said;
