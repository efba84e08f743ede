create function hurry() returns trigger language plpgsql as $$ begin new.status := 'preparing'; return new; end $$;
create trigger hurry before update on orders for each row execute function hurry();
create function note() returns trigger language plpgsql as $$ begin update orders set total = 7 where id = new.id and total is null; return null; end $$;
create trigger a_note after insert on orders for each row execute function note();
insert into orders (id, store_id) values (1, 7);
