"""Each message of a session has its model, and each of its members a place there: DOCUMENT SESSION."""

import json
import sys

import models
import yaml

with open(sys.argv[1]) as read:
    messages = yaml.safe_load(read)["components"]["messages"]
for name, message in messages.items():
    assert message["payload"].keys() == {"$ref"}, f"the payload of {name} is no named schema"
with open(sys.argv[2]) as read:
    session = json.load(read)
NAMES = {"resync_required": "ResyncRequired", "error": "ErrorMessage", "token_expires": "TokenExpires", "token_accepted": "TokenAccepted"}


def model_of(message):
    kind = message["type"]
    return getattr(models, NAMES.get(kind, kind.capitalize()), models.StoreEvent)


def shape(value):
    """Names of members, and how many values there are; times and ids are written in several ways."""
    if isinstance(value, dict):
        return {name: shape(member) for name, member in value.items()}
    return [shape(one) for one in value] if isinstance(value, list) else type(value).__name__


seen = set()
for message in session["said"] + session["heard"]:
    model = model_of(message)
    parsed = model.model_validate_json(json.dumps(message))
    kept = parsed.model_dump(mode="json", by_alias=True, exclude_unset=True)
    assert shape(kept) == shape(message), f"{model.__name__} loses a part of {message}: {kept}"
    seen.add(model.__name__)
expected = {"Connected", "Live", "Heartbeat", "ResyncRequired", "StoreEvent", "ErrorMessage", "Acknowledged", "Pong", "TokenAccepted"}
assert expected | {"Ack", "Ping", "Panel", "Rendered", "Sounded", "Token"} <= seen, seen

# A later version may send a new type, a new status and a new field. The models must accept them.
event = next(message for message in session["heard"] if model_of(message) is models.StoreEvent)
future = {**event, "type": "order_teleported", "tomorrow": 1, "data": {**event["data"], "status": "teleported"}}
parsed = models.StoreEvent.model_validate_json(json.dumps(future)).model_dump(mode="json")
assert (parsed["type"], parsed["data"]["status"]) == ("order_teleported", "teleported"), parsed
