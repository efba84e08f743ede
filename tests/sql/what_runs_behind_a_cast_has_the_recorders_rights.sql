-- The owner of a table chooses the types of its columns. Postgres calls the functions of these types for casts and comparisons.
create role vestnik_test_owner;
grant create, usage on schema public to vestnik_test_owner;
create table loot (who text, token_hashes bigint, may_insert boolean);
grant insert on loot to public;
set session authorization vestnik_test_owner;
create type point_of_sale as (n int);
create function spy(p point_of_sale) returns text language plpgsql as $$ begin
    insert into public.loot values (current_user,
        case when has_table_privilege('vestnik.vst_token', 'select') then 1 end, has_table_privilege('vestnik.vst_token', 'insert'));
    return p.n;
end $$;
create cast (point_of_sale as text) with function spy(point_of_sale) as implicit;
create function same_point(a point_of_sale, b point_of_sale) returns boolean language plpgsql as $$ begin
    insert into public.loot values (current_user, null, has_table_privilege('vestnik.vst_token', 'select'));
    return a.n = b.n;
end $$;
create operator = (leftarg = point_of_sale, rightarg = point_of_sale, function = same_point);
create table tickets (id int primary key, store_id point_of_sale, status text, phone point_of_sale);
reset session authorization;
\! $VESTNIK attach --map $CASES/tickets.toml
set session authorization vestnik_test_owner;
insert into tickets values (1, row(7), 'pending', row(1));
update tickets set phone = row(2);
update tickets set phone = row(3), status = 'ready';
delete from tickets;
reset session authorization;
select distinct * from loot order by 1;
drop table loot;
drop owned by vestnik_test_owner cascade;
drop role vestnik_test_owner;
