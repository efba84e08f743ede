-- The trigger function of every source: it records the mapped columns of a row as the shop wrote them, and interprets
-- nothing. `src/sources/trigger.rs` replaces the names in braces; sql/schema.sql shows the result.
--
-- In `{old_rows}` and `{new_rows}`, Postgres resolves a column name in the row first, and then in a list of nulls. So a
-- renamed or dropped column makes no write fail. Rows are compared byte by byte, because some types have no equality.
-- Every name has its schema, operators too, because the function runs with the search path of the writer.
create or replace function {function}() returns trigger
language plpgsql security definer as {quote}
#variable_conflict use_column
declare
    is_moved boolean;  -- to another store, or another key
begin
    -- Updates are the most frequent writes, and most of them end here, so they come first.
    if tg_op operator(pg_catalog.=) 'UPDATE' then
        -- An update of other columns ends here. Where a column is gone, or has another type, the query below looks again.
        begin
            if {same:row} then
                return null;
            end if;
            is_moved := not {stays:row};
        exception when others then
            is_moved := true;
        end;
        if is_moved then
            -- A row that moves is deleted there, and inserted here.
            insert into vestnik.vst_event (source, store_id, key, type, data, old)
            select {source}, written.store_id, written.key, written.type, written.data, written.old
            from {old_row}, {new_row},
                lateral (select {stays} as stays) pair,
                lateral (
                    select {o.store} as store_id, {o.key} as key, 'delete' as type, {o.data} as data, null::pg_catalog.json as old
                    where not pair.stays
                    union all
                    select {n.store}, {n.key}, case when pair.stays then 'update' else 'insert' end, {n.data},
                           case when pair.stays then {o.data} end) written
            where not {same} and {is_fresh};
        else
            insert into vestnik.vst_event (source, store_id, key, type, data, old)
            select {source}, {n.store}, {n.key}, 'update', {n.data}, {o.data} from {old_row}, {new_row}
            where {is_fresh};
        end if;
    elsif tg_op operator(pg_catalog.=) 'INSERT' then
        insert into vestnik.vst_event (source, store_id, key, type, data)
        select {source}, {n.store}, {n.key}, 'insert', {n.data} from {new_rows}{where_fresh};
    elsif tg_op operator(pg_catalog.=) 'DELETE' then
        insert into vestnik.vst_event (source, store_id, key, type, data)
        select {source}, {o.store}, {o.key}, 'delete', {o.data} from {old_rows}{where_fresh};
    else  -- TRUNCATE
        insert into vestnik.vst_event (source, type, data) values ({source}, 'truncate', '{}');
    end if;
    if found and vestnik.vst_should_notify() then
        perform pg_catalog.pg_notify('vestnik', '');
    end if;
    return null;
end {quote};
