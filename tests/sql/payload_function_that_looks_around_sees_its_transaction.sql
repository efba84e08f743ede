-- It may write, and sees what it wrote, the order itself, and what came before it, also from the shop's own trigger.
create table item (order_id bigint, name text);
create table asked (order_id bigint);
create function add_item() returns trigger language plpgsql as $$
begin
    insert into item values (new.id, 'by a trigger');
    return null;
end $$;
create trigger add_item after insert on orders for each row execute function add_item();
create or replace function vestnik.order_payload(n public.orders) returns jsonb language plpgsql as $$
begin
    insert into public.asked values (n.id);
    return jsonb_build_object('asked', (select count(*) from public.asked where order_id = n.id),
        'items', (select jsonb_agg(name order by name) from public.item where order_id = n.id),
        'orders', (select count(*) from public.orders where id = n.id));
end $$;
begin;
insert into item values (1, 'before');
insert into orders (id, store_id) values (1, 7);
commit;
insert into orders (id, store_id) values (2, 7), (3, 8);
