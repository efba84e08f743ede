-- A small shop on Supabase: row level security, totals as text, and a default that is UTC only where the session is.
do $$ begin create role vestnik_test_anon nologin; exception when duplicate_object then null; end $$;
create table public.orders (
    id uuid primary key default gen_random_uuid(),
    restaurant_id text not null,
    order_id text unique,
    customer_name text not null,
    customer_phone text,
    status text not null default 'pending' check (status = any (array['pending'::text, 'confirmed'::text, 'preparing'::text, 'ready'::text, 'delivered'::text, 'cancelled'::text])),
    total text,
    notes text,
    items jsonb not null default '[]'::jsonb,
    created_at timestamptz not null default timezone('utc'::text, now())
);
alter table public.orders enable row level security;
alter table public.orders force row level security;
create policy "anyone can order" on public.orders for insert to vestnik_test_anon with check (true);
grant insert on public.orders to vestnik_test_anon;
grant usage on schema public to vestnik_test_anon;
-- attach: public.orders
