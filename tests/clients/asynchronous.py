"""An aiohttp server and client in one event loop: many requests at once, on kept connections."""
import asyncio
import sys

import aiohttp
from aiohttp import web


async def item(request):
    await asyncio.sleep(0.001)
    return web.json_response({"id": request.match_info["id"]})


async def upload(request):
    size = 0
    async for chunk in request.content.iter_chunked(4096):
        size += len(chunk)
    return web.Response(status=201, text=str(size))


async def stream(request):
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(5):
        await response.write(b"x" * 1000)
    await response.write_eof()
    return response


async def parts():
    for _ in range(10):
        yield b"y" * 5000


async def main(port):
    app = web.Application()
    app.add_routes([web.get("/items/{id}", item), web.post("/upload", upload), web.get("/stream", stream)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    connector = aiohttp.TCPConnector(limit=8)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", connector=connector) as session:

        async def ask(method, path, status, **more):
            async with session.request(method, path, **more) as response:
                await response.read()
                assert response.status == status, (path, response.status)

        await asyncio.gather(*(ask("GET", f"/items/{n}", 200) for n in range(300)))
        await asyncio.gather(*(ask("GET", "/stream", 200) for _ in range(50)))
        await asyncio.gather(*(ask("GET", f"/nothing/{n}", 404) for n in range(50)))
        for n in range(20):
            await ask("POST", "/upload", 201, data=parts(), expect100=n % 2 == 0)
    await runner.cleanup()


asyncio.run(main(int(sys.argv[1])))
