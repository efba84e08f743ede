-- A table as many small shops write it by hand; its status takes any word.
create table orders (id bigserial primary key, store_id int not null, status text not null default 'pending', customer_name text, total int,
    order_type text, items jsonb not null default '[]', reason text, created_at timestamptz not null default now(), updated_at timestamptz);
-- attach: public.orders --kind order
