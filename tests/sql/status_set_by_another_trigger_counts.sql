create function hurry() returns trigger language plpgsql as $$ begin new.status := 'preparing'; return new; end $$;
create trigger hurry before update on orders for each row execute function hurry();
insert into orders (id, store_id) values (1, 7);
truncate vestnik.event cascade;
update orders set total = 5 where id = 1;
