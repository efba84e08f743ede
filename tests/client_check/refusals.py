"""A request that is valid by openapi.yaml is refused with 400 only where no schema can say why."""

import schemathesis

BYTES = [f"{name} is text of 1 to 1000 bytes" for name in ("source", "before", "before_source", "order")]
# For each operation: the beginnings of the error messages for refusals that no schema can express.
BEYOND_A_SCHEMA = {
    "stores": ["after is the next_after of a page"],
    "events": ["this is not a cursor"],
    "orders": ["before is the id of a row of this list", *BYTES],
    "bookings": ["before is the id of a row of this list", *BYTES],
    "listReceipts": BYTES,
    "summary": ["from is", "to is"],
    "beginPause": ['the body is JSON: {"minutes":30}'],
    "stopItem": ['the body is JSON: {"item"'],
}


@schemathesis.check
def refused_for_what_no_schema_can_say(_, response, case):
    if response.status_code != 400 or case.meta is None or not case.meta.generation.mode.is_positive:
        return
    allowed = BEYOND_A_SCHEMA.get(case.operation.definition.raw.get("operationId"), [])
    message = response.json()["error"]["message"]
    assert any(message.startswith(beginning) for beginning in allowed), f"a valid request is refused: {message}"
