// Checks the types that openapi-typescript generates, with openapi-fetch, against a running server. Arguments: URL TOKEN ORDER.
import assert from 'node:assert/strict'
import createClient from 'openapi-fetch'
import type { components, paths } from './schema.js'

type Order = components['schemas']['Order']
const [url, token, wanted] = process.argv.slice(2) as [string, string, string]
const as = (token: string) => createClient<paths>({ baseUrl: url, headers: { Authorization: `Bearer ${token}` } })
const client = as(token)
const store = '7'

// Read the list page by page: each order appears exactly once, and the wanted order is among them.
const rows: Order[] = []
type Page = { before?: string; before_source?: string }
for (let next: Page | undefined = {}; next; ) {
  const query: Page & { status: string; limit: number } = { status: 'all', limit: 2, ...next }
  const { data } = await client.GET('/api/partner/stores/{store}/orders', { params: { path: { store }, query } })
  assert(data)
  rows.push(...data.orders)
  const last = data.orders.at(-1)
  next = data.more && last ? { before: last.id, before_source: last.source } : undefined
}
assert(rows.length > 2 && new Set(rows.map(row => row.id)).size === rows.length)
const order = rows.find(row => row.id === wanted)
assert(order?.event_id)

const one = { params: { path: { store, id: order.event_id } } }
const told = await client.GET('/api/partner/stores/{store}/events/{id}', one)
assert.equal(told.data?.type, 'new_order')
assert.equal(told.data.data['order_id'], wanted)

const change = { params: { path: { store, id: wanted } }, body: { status: 'preparing', from: 'pending', minutes: 25 } as const }
const changed = await client.POST('/api/partner/stores/{store}/orders/{id}/status', change)
assert.equal(changed.data?.status, 'preparing')
const again = await client.POST('/api/partner/stores/{store}/orders/{id}/status', change)
const conflict = again.error as components['schemas']['StatusConflictError']
assert.equal(conflict.error.code, 'status_conflict')
assert.equal(conflict.error.status, 'preparing')

const refused = await as('vst_wrong').GET('/api/partner/stores/{store}/orders', { params: { path: { store } } })
assert.equal(refused.response.status, 401)
assert.equal(refused.error?.error.code, 'unauthorized')

// A later version may send a new status. The type must permit it.
const future: Order = { ...order, status: 'teleported' }
assert.equal(future.status, 'teleported')
