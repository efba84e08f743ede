-- The trigger function of every source: it records the mapped columns of a row as the shop wrote them, and interprets
-- nothing. `src/sources/trigger.rs` fills in what stands in braces; sql/schema.sql shows the result.
--
-- In `{old_rows}` and `{new_rows}` a name of a column is looked for in the row first, and then in a list of nulls. So a
-- column that was renamed or dropped makes no write fail. Rows are compared byte by byte, which no type can refuse. Everything is named with its schema, operators too: see notify.sql.
create or replace function {function}() returns trigger
language plpgsql security definer as {quote}
#variable_conflict use_column
declare
    is_changed boolean;
    is_moved boolean;  -- to another store, or another key
    are_many boolean;
begin
    if tg_op operator(pg_catalog.=) 'INSERT' then
        insert into vestnik.vst_event (source, store_id, key, type, data)
        select {source}, {n.store}, {n.key}, 'insert', {n.data} from {new_rows} n{replan};
    elsif tg_op operator(pg_catalog.=) 'DELETE' then
        insert into vestnik.vst_event (source, store_id, key, type, data)
        select {source}, {o.store}, {o.key}, 'delete', {o.data} from {old_rows} o{replan};
    elsif tg_op operator(pg_catalog.=) 'TRUNCATE' then
        insert into vestnik.vst_event (source, type, data) values ({source}, 'truncate', '{}');
    else
        -- One look at the first pair, which ends here for nearly every update of other columns.
        select not {same}, not {stays}, {are_many} into is_changed, is_moved, are_many
        from {old_rows} o, {new_rows} n{replan};
        if are_many or is_moved then
            -- Both transition tables hold the rows in one order. A row that moves is deleted there, and inserted here.
            insert into vestnik.vst_event (source, store_id, key, type, data, old)
            select {source}, written.store_id, written.key, written.type, written.data, written.old
            from (select pg_catalog.row_number() over () as place, vst_old as x from {old_rows} vst_old) o,
                (select pg_catalog.row_number() over () as place, vst_new as x from {new_rows} vst_new) n,
                lateral (select {stays:x} as stays) pair,
                lateral (
                    select {o.store:x} as store_id, {o.key:x} as key, 'delete' as type, {o.data:x} as data, null::pg_catalog.json as old
                    where not pair.stays
                    union all
                    select {n.store:x}, {n.key:x}, case when pair.stays then 'update' else 'insert' end, {n.data:x},
                           case when pair.stays then {o.data:x} end) written
            where o.place operator(pg_catalog.=) n.place and not {same:x}{and_replan};
        elsif is_changed then
            insert into vestnik.vst_event (source, store_id, key, type, data, old)
            select {source}, {n.store}, {n.key}, 'update', {n.data}, {o.data} from {old_rows} o, {new_rows} n{replan};
        else
            return null;
        end if;
    end if;
    if found and vestnik.vst_should_notify() then
        perform pg_catalog.pg_notify('vestnik', '');
    end if;
    return null;
end {quote};
