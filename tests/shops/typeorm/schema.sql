-- As TypeORM's `synchronize` makes it. The database's clock is Moscow's, and Node writes UTC.
select format('alter database %I set timezone = %L', current_database(), 'Europe/Moscow') \gexec
set timezone = 'Europe/Moscow';
CREATE TYPE "public"."order_status_enum" AS ENUM('created', 'accepted', 'cooking', 'ready', 'on_the_way', 'done', 'declined', 'canceled');
CREATE TABLE "order" ("id" SERIAL NOT NULL, "status" "public"."order_status_enum" NOT NULL DEFAULT 'created', "restaurantId" integer NOT NULL, "clientName" character varying NOT NULL, "phone" character varying, "address" character varying, "totalPrice" numeric(10,2) NOT NULL, "lines" text NOT NULL, "deliverAt" TIMESTAMP, "createdAt" TIMESTAMP NOT NULL DEFAULT now(), "updatedAt" TIMESTAMP NOT NULL DEFAULT now(), "deletedAt" TIMESTAMP, "version" integer NOT NULL, CONSTRAINT "PK_1031171c13130102495201e3e20" PRIMARY KEY ("id"));
-- attach: public.order
