"""Writes down a session of a WebSocket, each message in and out: URL TOKEN READ_TOKEN ORDER FILE."""

import asyncio
import json
import sys
import urllib.request

import websockets

url, token, read_token, order, file = sys.argv[1:]
PATIENCE_S = 20
said, heard = [], []


def change(status):
    body = json.dumps({"status": status, "by": "Anna"}).encode()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/api/partner/stores/7/orders/{order}/status", body, headers)
    urllib.request.urlopen(request).read()


async def until(socket, **members):
    """Reads on until a message has these members."""
    while True:
        message = json.loads(await asyncio.wait_for(socket.recv(), PATIENCE_S))
        heard.append(message)
        if all(message.get(name) == value for name, value in members.items()):
            return message


async def say(socket, **message):
    said.append(message)
    await socket.send(json.dumps(message))


async def one_store():
    address = url.replace("http", "ws", 1) + "/api/partner/ws/partner/7"
    options = {"subprotocols": ["vestnik.v1"], "additional_headers": {"Authorization": f"Bearer {token}"}}
    async with websockets.connect(address, **options) as socket:
        began = await until(socket, type="live")
        await say(socket, type="panel", rings=True)
        await asyncio.to_thread(change, "preparing")
        event = await until(socket, type="order_status_changed")
        for receipt in ("rendered", "sounded", "ack"):
            await say(socket, type=receipt, id=event["id"])
        await until(socket, type="acknowledged")
        await say(socket, type="ping")
        await until(socket, type="pong")
        await say(socket, type="ack", id="999999999")
        await until(socket, type="error", code="unknown_event")
        await say(socket, type="token", token="vst_wrong")
        await until(socket, type="error", code="token_refused")
        await say(socket, type="token", token=token)
        await until(socket, type="token_accepted")
        await until(socket, type="heartbeat")
    # Reconnect after a missed event, and then connect with an invalid cursor.
    await asyncio.to_thread(change, "ready")
    async with websockets.connect(f"{address}?after={began['cursor']}", **options) as socket:
        await until(socket, type="order_status_changed", replayed=True)
    async with websockets.connect(f"{address}?after=none", **options) as socket:
        await until(socket, type="resync_required")


async def several_stores():
    address = url.replace("http", "ws", 1) + "/api/partner/stream?stores=7"
    options = {"subprotocols": ["vestnik.v1"], "additional_headers": {"Authorization": f"Bearer {read_token}"}}
    async with websockets.connect(address, **options) as socket:
        await until(socket, type="live")
        await say(socket, type="ack", id="1", store_id="7")
        await until(socket, type="error", code="forbidden_scope")


asyncio.run(one_store())
asyncio.run(several_stores())
with open(file, "w") as out:
    json.dump({"said": said, "heard": heard}, out)
