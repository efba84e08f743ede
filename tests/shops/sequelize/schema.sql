-- As Sequelize's `sync` makes it: plural, mixed case, an enum for each column; some names with spaces and dots.
CREATE TYPE "public"."enum_Orders_orderStatus" AS ENUM('new', 'in progress', 'done', 'cancelled');
CREATE TABLE IF NOT EXISTS "Orders" ("id"  SERIAL , "storeId" INTEGER NOT NULL, "customerName" VARCHAR(255), "orderStatus" "public"."enum_Orders_orderStatus" DEFAULT 'new', "Total Price" DOUBLE PRECISION, "order.note" TEXT, "say ""hi""" TEXT, "cart" JSONB, "isDeleted" BOOLEAN DEFAULT false, "createdAt" TIMESTAMP WITH TIME ZONE NOT NULL, "updatedAt" TIMESTAMP WITH TIME ZONE NOT NULL, PRIMARY KEY ("id"));
-- attach: public."Orders"
