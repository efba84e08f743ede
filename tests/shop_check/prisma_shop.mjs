// The shop of tests/shops/prisma, written by Prisma. The first argument is an action, for example `create`. The tables come from
// that shop's schema.sql, because Prisma's migrations need a program that no package registry has.
import { PrismaPg } from "@prisma/adapter-pg";
import { PrismaClient } from "@prisma/client";

const prisma = new PrismaClient({ adapter: new PrismaPg({ connectionString: process.env.DATABASE_URL }) });

const acts = {
  create: async () => {
    const items = [{ productId: "p1", product: { name: "Pizza" }, quantity: 2, unitPrice: 6.25 }];
    const order = await prisma.order.create({ data: { storeId: 7, customerName: "Ann", total: "12.50", items } });
    return order.id;
  },
  read: async (id) => {
    const order = await prisma.order.findUniqueOrThrow({ where: { id } });
    return { status: order.status, touched: order.updatedAt > order.createdAt };
  },
  finish: (id) => prisma.order.update({ where: { id }, data: { status: "DELIVERED" } }).then(() => null),
  cancel: (id) => prisma.order.updateMany({ where: { id }, data: { status: "CANCELLED" } }).then(() => null),
  remove: (id) => prisma.order.delete({ where: { id } }).then(() => null),
};
const [act, key] = process.argv.slice(2);
console.log(JSON.stringify((await acts[act](key)) ?? null));
await prisma.$disconnect();
