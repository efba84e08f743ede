listen vestnik;
create or replace function vestnik.vst_notify_enabled() returns boolean language sql immutable parallel safe as 'select false';
begin;
insert into orders (id, store_id) values (1, 7);
prepare transaction 'vestnik_test_two_phases';
commit prepared 'vestnik_test_two_phases';
