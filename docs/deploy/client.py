# client.py
import asyncio, json, sys
from websockets import connect

async def main(url):
    async with connect(url, subprotocols=["wsify.v1"]) as ws:
        async def say(id, command, **args):
            await ws.send(json.dumps({"id": id, "command": command, "args": args}))
            print(await ws.recv())

        print(await ws.recv())                                  # {"welcome":{"connection":"…","channels":[]}}
        await say(1, "join", channel="hello")                   # {"id":1,"ok":true}
        await say(2, "broadcast", channel="hello", content=42)  # the reply; the content may come first
        print(await ws.recv())                                  # {"channel":"hello","content":42}
        await say(3, "leave", channel="hello")                  # {"id":3,"ok":true}

asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "ws://localhost:3000/ws"))
