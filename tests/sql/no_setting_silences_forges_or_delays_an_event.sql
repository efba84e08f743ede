-- Any role may set settings with custom names. None of them may change what the triggers record.
select set_config(name, 'on', false) is not null from unnest('{vestnik.suppress_events, vestnik.notified_xid, vestnik.moved, vestnik.notify, vestnik.xid}'::text[]) name;
listen vestnik;
insert into orders (id, store_id) values (1, 7);
update orders set status = 'ready';
set plan_cache_mode = force_generic_plan;
set enable_nestloop = off;
set enable_seqscan = off;
insert into orders (id, store_id) values (2, 7);
update orders set status = 'completed' where id = 2;
