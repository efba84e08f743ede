-- As `rails db:migrate` makes it (Rails 8): an enum is an integer, times are UTC.
create table "orders" ("id" bigserial primary key, "store_id" bigint NOT NULL, "number" character varying, "status" integer DEFAULT 0 NOT NULL, "customer_name" character varying, "phone" character varying, "special_instructions" text, "total_cents" integer DEFAULT 0 NOT NULL, "order_type" integer DEFAULT 0 NOT NULL, "items" jsonb DEFAULT '[]' NOT NULL, "pickup_at" timestamp(6), "cancel_reason" character varying, "created_at" timestamp(6) NOT NULL, "updated_at" timestamp(6) NOT NULL);
CREATE INDEX "index_orders_on_store_id" ON "orders" ("store_id");
CREATE UNIQUE INDEX "index_orders_on_number" ON "orders" ("number");
select format('alter database %I set timezone = %L', current_database(), 'Europe/Moscow') \gexec
set timezone = 'UTC';
insert into orders (store_id, status, order_type, created_at, updated_at) select 7, i % 5, i % 2, '2020-01-01', '2020-01-01' from generate_series(1, 12) i;
-- attach: public.orders
