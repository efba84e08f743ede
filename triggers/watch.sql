-- The trigger function of a table that a derived source reads. It only records in `vst_change` which orders a write
-- concerns, and the projector reads that table. `src/sources/derived/watch.rs` replaces the names in braces.
--
-- The function reads columns as triggers/record.sql does: a renamed or dropped column makes no write fail. A write that
-- changes no column of the mapping records nothing. While a column of the mapping is missing, each update is recorded.
-- The function does not notify, because the projector polls.
--
-- A session keeps the plan of its first write, mostly of one row. A nested loop of that plan would compare each row of a
-- later bulk write with each other row, so the function has no nested loops. Postgres then counts the plan as expensive,
-- so JIT compilation is off, too.
create or replace function {function}() returns trigger
language plpgsql security definer set enable_nestloop = off set jit = off as {quote}
#variable_conflict use_column
begin
    if tg_op operator(pg_catalog.=) 'INSERT' then
        insert into vestnik.vst_change (source, watch, key)
        select distinct {source}, {watch}, written.key
        from (select {n.key} as key from {new_rows} n{replan}) written where written.key is not null;
    elsif tg_op operator(pg_catalog.=) 'DELETE' then
        insert into vestnik.vst_change (source, watch, key)
        select distinct {source}, {gone}, written.key
        from (select {o.key} as key from {old_rows} o{replan}) written where written.key is not null;
    elsif tg_op operator(pg_catalog.=) 'TRUNCATE' then
        insert into vestnik.vst_change (source, watch) values ({source}, {watch});
    else
        -- Both transition tables hold the rows in one order. A row that moves concerns both orders.
        insert into vestnik.vst_change (source, watch, key)
        select distinct {source}, written.watch, written.key
        from (select pg_catalog.row_number() over () as place, vst_old as x from {old_rows} vst_old) o,
            (select pg_catalog.row_number() over () as place, vst_new as x from {new_rows} vst_new) n,
            lateral (select case when {o.key:x} operator(pg_catalog.=) {n.key:x} then {watch} else {gone} end, {o.key:x}
                union all select {watch}, {n.key:x}) written (watch, key)
        where o.place operator(pg_catalog.=) n.place and not {same:x} and written.key is not null{and_replan};
    end if;
    return null;
end {quote};
