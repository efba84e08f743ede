-- Reads the times that a shop's payload carries, for the messages of durable sends. The shop says what stands there, so
-- it may be no time at all: then there is none to tell, and the message goes out without.
create or replace function vestnik.clock(moment text, zone text) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
    return to_char(moment::timestamptz at time zone zone, 'DD.MM. HH24:MI');
exception when others then
    return null;
end $$;

-- A moment by a store's clock, to the millisecond, as `vestnik replay` prints it.
create or replace function vestnik.moment(moment timestamptz, zone text) returns text
language sql stable parallel safe as $$
    select to_char(moment at time zone zone, 'YYYY-MM-DD HH24:MI:SS.MS')
$$;

select vestnik.keep_private('{clock, moment}');
