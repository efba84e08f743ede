-- As `prisma migrate dev` writes it (Prisma 7).
-- CreateEnum
CREATE TYPE "OrderStatus" AS ENUM ('PENDING', 'CONFIRMED', 'PREPARING', 'READY', 'OUT_FOR_DELIVERY', 'DELIVERED', 'CANCELLED');
CREATE TYPE "OrderType" AS ENUM ('DELIVERY', 'TAKEAWAY', 'DINE_IN');
-- CreateTable
CREATE TABLE "Order" (
    "id" TEXT NOT NULL,
    "shortNo" SERIAL NOT NULL,
    "storeId" INTEGER NOT NULL,
    "customerName" TEXT,
    "customerPhone" TEXT,
    "deliveryAddress" JSONB,
    "notes" TEXT,
    "status" "OrderStatus" NOT NULL DEFAULT 'PENDING',
    "type" "OrderType" NOT NULL DEFAULT 'DELIVERY',
    "total" DECIMAL(10,2) NOT NULL,
    "tags" TEXT[],
    "items" JSONB NOT NULL,
    "isPaid" BOOLEAN NOT NULL DEFAULT false,
    "readyBy" TIMESTAMP(3),
    "createdAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" TIMESTAMP(3) NOT NULL,

    CONSTRAINT "Order_pkey" PRIMARY KEY ("id")
);
-- CreateIndex
CREATE INDEX "Order_storeId_status_idx" ON "Order"("storeId", "status");
-- attach: public."Order"
