"""The client of openapi-python-client, against a running server: URL TOKEN ORDER."""

import sys

from vestnik_client import AuthenticatedClient
from vestnik_client.api.lists import change_order, orders
from vestnik_client.api.streams import event
from vestnik_client.models import Change, ChangeStatus, Error, Order, StatusConflictError

url, token, wanted = sys.argv[1:]
client = AuthenticatedClient(base_url=url, token=token)

# Read the list page by page: each order appears exactly once, and the wanted order is among them.
rows, before, source = [], None, None
while True:
    more = {"before": before, "before_source": source} if before else {}
    page = orders.sync("7", client=client, status="all", limit=2, **more)
    rows += page.orders
    if not page.more:
        break
    before, source = page.orders[-1].id, page.orders[-1].source
assert len(rows) > 2 and len({row.id for row in rows}) == len(rows), rows
order = next(row for row in rows if row.id == wanted)

told = event.sync("7", order.event_id, client=client)
assert told.type_ == "new_order" and told.data["order_id"] == wanted, told

change = Change(status=ChangeStatus.PREPARING, from_=ChangeStatus("pending"), minutes=25)
changed = change_order.sync("7", wanted, client=client, body=change)
assert (changed.status, changed.previous_status) == ("preparing", "pending"), changed
again = change_order.sync("7", wanted, client=client, body=change)
assert isinstance(again, StatusConflictError) and again.error.code == "status_conflict", again
assert again.error.status == "preparing", again

refused = orders.sync_detailed("7", client=AuthenticatedClient(base_url=url, token="vst_wrong"))
assert refused.status_code == 401 and isinstance(refused.parsed, Error), refused
assert refused.parsed.error.code == "unauthorized", refused

# A later version may send a new status and a new field. The client must accept both.
future = Order.from_dict({**order.to_dict(), "status": "teleported", "tomorrow": 1})
assert future.status == "teleported", future
