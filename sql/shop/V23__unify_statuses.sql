-- One list of statuses for orders and bookings: `new` becomes `pending`, `confirmed` becomes `preparing`, and the
-- tables refuse the old names. `delivering` is for orders that are delivered.
--
-- The constraints come first and NOT VALID, so that no writer slips an old status in behind the update; `vestnik
-- migrate` has rewritten all but the last rows before it runs this, and validates the constraints after it.
do $$
declare
    kind_is_known boolean := exists (
        select from pg_attribute where attrelid = 'public.orders'::regclass and attname = 'order_type' and not attisdropped);
begin
    alter table public.orders alter column status set default 'pending';
    alter table public.bookings alter column status set default 'pending';
    alter table public.orders add constraint orders_status_known check (status in
        ('pending', 'preparing', 'ready', 'delivering', 'completed', 'rejected', 'cancelled')) not valid;
    alter table public.bookings add constraint bookings_status_known check (status in
        ('pending', 'preparing', 'ready', 'completed', 'rejected', 'cancelled')) not valid;
    -- A table that does not say how an order reaches its customer cannot refuse it either.
    if kind_is_known then
        alter table public.orders add constraint orders_delivering_is_delivery
            check (status <> 'delivering' or order_type is not distinct from 'delivery') not valid;
    end if;
end $$;

update public.orders set status = case status when 'new' then 'pending' else 'preparing' end
where status in ('new', 'confirmed');
update public.bookings set status = case status when 'new' then 'pending' else 'preparing' end
where status in ('new', 'confirmed');

do $$
begin
    if exists (select from pg_attribute where attrelid = 'public.orders'::regclass and attname = 'created_at' and not attisdropped) then
        create index if not exists idx_orders_status_created on public.orders (status, created_at);
    else
        create index if not exists idx_orders_status_created on public.orders (status);
    end if;
    if exists (select from pg_attribute where attrelid = 'public.bookings'::regclass and attname = 'created_at' and not attisdropped) then
        create index if not exists idx_bookings_status_created on public.bookings (status, created_at);
    else
        create index if not exists idx_bookings_status_created on public.bookings (status);
    end if;
end $$;
