create schema evil;
create function evil.current_setting(text, boolean) returns text language plpgsql as $$ begin raise 'hijacked'; end $$;
create function evil.count(anyelement) returns bigint language plpgsql as $$ begin raise 'hijacked'; end $$;
create table evil.event (like vestnik.event);
set search_path = evil, pg_catalog;
insert into public.orders (id, store_id) values (1, 7);
update public.orders set status = 'ready';
reset search_path;
