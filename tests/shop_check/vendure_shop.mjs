// A shop of Vendure, created and written by Vendure's own server. The script starts the npm package and uses its APIs.
import { bootstrap, DefaultLogger, dummyPaymentHandler, LanguageCode, LogLevel } from "@vendure/core";

const config = {
  apiOptions: { port: Number(process.env.VENDURE_PORT ?? 0), hostname: "127.0.0.1", adminApiPath: "admin-api", shopApiPath: "shop-api" },
  authOptions: {
    tokenMethod: ["bearer"],
    requireVerification: false,
    superadminCredentials: { identifier: "superadmin", password: "superadmin" },
    cookieOptions: { secret: "shop-check" },
  },
  dbConnectionOptions: { type: "postgres", url: process.env.DATABASE_URL, synchronize: true, logging: false },
  paymentOptions: { paymentMethodHandlers: [dummyPaymentHandler] },
  logger: new DefaultLogger({ level: LogLevel.Error }),
  plugins: [],
};
const app = await bootstrap(config);
const address = `http://127.0.0.1:${app.getHttpServer().address().port}`;

/** A client of one of the APIs, with its session. */
function client(path) {
  let session = null;
  return async (query, variables = {}) => {
    const headers = { "content-type": "application/json", ...(session && { authorization: `Bearer ${session}` }) };
    const response = await fetch(`${address}/${path}`, { method: "POST", headers, body: JSON.stringify({ query, variables }) });
    session = response.headers.get("vendure-auth-token") ?? session;
    const { data, errors } = await response.json();
    const refused = Object.values(data ?? {}).find((part) => part?.errorCode);
    if (errors || refused) throw new Error(JSON.stringify(errors ?? refused));
    return Object.values(data)[0];
  };
}

const fail = "... on ErrorResult { errorCode message }";
const admin = client("admin-api");
await admin(`mutation { login(username: "superadmin", password: "superadmin") { ... on CurrentUser { id } ${fail} } }`);

/** Creates everything that a new shop needs before it can sell. `bootstrap` has already created the tables. */
async function schema() {
  const country = await admin(`mutation { createCountry(input: { code: "AT", enabled: true, translations: [{ languageCode: en, name: "Austria" }] }) { id } }`);
  const zone = await admin(`mutation($c: [ID!]) { createZone(input: { name: "Europe", memberIds: $c }) { id } }`, { c: [country.id] });
  await admin(
    `mutation($z: ID!) { updateChannel(input: { id: "1", defaultTaxZoneId: $z, defaultShippingZoneId: $z, pricesIncludeTax: true }) { ... on Channel { id } } }`,
    { z: zone.id },
  );
  const tax = await admin(`mutation { createTaxCategory(input: { name: "Food", isDefault: true }) { id } }`);
  await admin(
    `mutation($z: ID!, $t: ID!) { createTaxRate(input: { name: "Food", enabled: true, value: 10, categoryId: $t, zoneId: $z }) { id } }`,
    { z: zone.id, t: tax.id },
  );
  await admin(`mutation {
    createShippingMethod(input: {
      code: "courier", fulfillmentHandler: "manual-fulfillment", translations: [{ languageCode: en, name: "Courier", description: "" }],
      checker: { code: "default-shipping-eligibility-checker", arguments: [{ name: "orderMinimum", value: "0" }] },
      calculator: { code: "default-shipping-calculator", arguments: [
        { name: "rate", value: "300" }, { name: "includesTax", value: "auto" }, { name: "taxRate", value: "0" }] },
    }) { id } }`);
  await admin(`mutation {
    createPaymentMethod(input: {
      code: "cash", enabled: true, translations: [{ languageCode: en, name: "Cash", description: "" }],
      handler: { code: "dummy-payment-handler", arguments: [{ name: "automaticSettle", value: "true" }] },
    }) { id } }`);
  const product = await admin(
    `mutation { createProduct(input: { enabled: true, translations: [{ languageCode: en, name: "Pizza", slug: "pizza", description: "" }] }) { id } }`,
  );
  await admin(
    `mutation($p: ID!, $t: ID!) { createProductVariants(input: [{ productId: $p, taxCategoryId: $t, sku: "P1", price: 1250, trackInventory: FALSE,
      translations: [{ languageCode: en, name: "Pizza Margherita" }] }]) { id } }`,
    { p: product.id, t: tax.id },
  );
  return null;
}

/** Creates a guest's order: fills a cart, and pays it. Returns the order. */
async function create() {
  const variants = await admin(`query { productVariants(options: { take: 1 }) { items { id } } }`);
  const shop = client("shop-api");
  await shop(`mutation($v: ID!) { addItemToOrder(productVariantId: $v, quantity: 2) { ... on Order { id } ${fail} } }`, { v: variants.items[0].id });
  await shop(`mutation { setCustomerForOrder(input: { firstName: "Ann", lastName: "Berg", emailAddress: "ann@example.com", phoneNumber: "+43 1 234" }) {
    ... on Order { id } ${fail} } }`);
  await shop(`mutation { setOrderShippingAddress(input: { fullName: "Ann Berg", streetLine1: "Ring 1", city: "Vienna", countryCode: "AT", phoneNumber: "+43 1 234" }) {
    ... on Order { id } ${fail} } }`);
  const [method] = await shop(`query { eligibleShippingMethods { id } }`);
  await shop(`mutation($m: [ID!]!) { setOrderShippingMethod(shippingMethodId: $m) { ... on Order { id } ${fail} } }`, { m: [method.id] });
  await shop(`mutation { transitionOrderToState(state: "ArrangingPayment") { ... on Order { id } ${fail} } }`);
  const order = await shop(`mutation { addPaymentToOrder(input: { method: "cash", metadata: {} }) { ... on Order { id code totalWithTax state } ${fail} } }`);
  return order;
}

const acts = {
  schema,
  create,
  read: (id) => admin(`query($id: ID!) { order(id: $id) { state } }`, { id }),
  deliver: async (id) => {
    const order = await admin(`query($id: ID!) { order(id: $id) { lines { id quantity } } }`, { id });
    const lines = order.lines.map((line) => ({ orderLineId: line.id, quantity: line.quantity }));
    const fulfillment = await admin(
      `mutation($lines: [OrderLineInput!]!) { addFulfillmentToOrder(input: { lines: $lines, handler: { code: "manual-fulfillment",
        arguments: [{ name: "method", value: "courier" }, { name: "trackingCode", value: "" }] } }) { ... on Fulfillment { id } ${fail} } }`,
      { lines },
    );
    for (const state of ["Shipped", "Delivered"]) {
      await admin(`mutation($id: ID!, $s: String!) { transitionFulfillmentToState(id: $id, state: $s) { ... on Fulfillment { id } ${fail} } }`, { id: fulfillment.id, s: state });
    }
    return null;
  },
  cancel: async (id) => {
    await admin(`mutation($id: ID!) { cancelOrder(input: { orderId: $id, reason: "Customer" }) { ... on Order { id } ${fail} } }`, { id });
    return null;
  },
};
const [act, key] = process.argv.slice(2);
console.log(JSON.stringify((await acts[act](key)) ?? null));
await app.close();
process.exit(0);
