// The shop of tests/shops/typeorm, created and written by TypeORM. The first argument is an action, for example `create`.
import "reflect-metadata";
import { DataSource, EntitySchema } from "typeorm";

const STATUSES = ["created", "accepted", "cooking", "ready", "on_the_way", "done", "declined", "canceled"];

const Order = new EntitySchema({
  name: "Order",
  tableName: "order",
  columns: {
    id: { type: Number, primary: true, generated: true },
    status: { type: "enum", enum: STATUSES, default: "created" },
    restaurantId: { type: Number },
    clientName: { type: String },
    phone: { type: String, nullable: true },
    address: { type: String, nullable: true },
    totalPrice: { type: "numeric", precision: 10, scale: 2 },
    lines: { type: "simple-json" },
    deliverAt: { type: "timestamp", nullable: true },
    createdAt: { type: "timestamp", createDate: true },
    updatedAt: { type: "timestamp", updateDate: true },
    deletedAt: { type: "timestamp", deleteDate: true, nullable: true },
    version: { type: Number, version: true },
  },
});

const source = new DataSource({ type: "postgres", url: process.env.DATABASE_URL, entities: [Order] });
await source.initialize();
const orders = source.getRepository(Order);

const acts = {
  schema: () => source.synchronize(),
  create: async () => {
    const lines = [{ title: "Pizza", qty: 2, price: 6.25 }];
    const order = await orders.save({ restaurantId: 7, clientName: "Ann", totalPrice: 12.5, lines });
    return order.id;
  },
  read: async (id) => {
    const order = await orders.findOneByOrFail({ id });
    return { status: order.status, touched: order.updatedAt > order.createdAt };
  },
  finish: async (id) => {
    const order = await orders.findOneByOrFail({ id });
    order.status = "done";
    await orders.save(order);
  },
  cancel: (id) => orders.update({ id }, { status: "canceled" }).then(() => null),
  remove: (id) => orders.softDelete({ id }).then(() => null),
};
const [act, key] = process.argv.slice(2);
console.log(JSON.stringify((await acts[act](key)) ?? null));
await source.destroy();
