insert into orders (id, store_id) values (1, 7);
truncate vestnik.vst_event cascade;
select current_setting('server_version_num')::int < 150000 as old \gset
\if :old
insert into orders (id, store_id) values (2, 7);
update orders set status = 'ready' where id = 1;
\else
merge into orders o using (values (1), (2)) v (id) on o.id = v.id
    when matched then update set status = 'ready'
    when not matched then insert (id, store_id) values (v.id, 7);
\endif
select type, key, data ->> 'status' from vestnik.vst_event order by key;
truncate vestnik.vst_event cascade;
