-- The trigger function of a table that a derived source reads: it records which orders a write concerns, and nothing else.
-- The projector takes them from `vst_change`. `src/sources/derived/watch.rs` fills in what stands in braces.
--
-- It reads columns as triggers/record.sql does: one that was renamed or dropped is null, and makes no write fail. A write
-- that touches no column that the mapping reads records nothing. It does not notify: the projector polls.
create or replace function {function}() returns trigger
language plpgsql security definer as {quote}
#variable_conflict use_column
begin
    if tg_op operator(pg_catalog.=) 'INSERT' then
        insert into vestnik.vst_change (source, watch, key)
        select distinct {source}, {watch}, written.key
        from (select {n.key} as key from {new_rows} n{replan}) written where written.key is not null;
    elsif tg_op operator(pg_catalog.=) 'DELETE' then
        insert into vestnik.vst_change (source, watch, key)
        select distinct {source}, {watch}, written.key
        from (select {o.key} as key from {old_rows} o{replan}) written where written.key is not null;
    elsif tg_op operator(pg_catalog.=) 'TRUNCATE' then
        insert into vestnik.vst_change (source, watch) values ({source}, {watch});
    else
        -- Both transition tables hold the rows in one order. A row that moves concerns both orders.
        insert into vestnik.vst_change (source, watch, key)
        select distinct {source}, {watch}, written.key
        from (select pg_catalog.row_number() over () as place, vst_old as x from {old_rows} vst_old) o,
            (select pg_catalog.row_number() over () as place, vst_new as x from {new_rows} vst_new) n,
            lateral (select {o.key:x} union all select {n.key:x}) written (key)
        where o.place operator(pg_catalog.=) n.place and not {same:x} and written.key is not null{and_replan};
    end if;
    return null;
end {quote};
