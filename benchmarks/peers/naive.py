"""What one writes first: a forwarding proxy in forty lines of aiohttp. `naive.py PORT UPSTREAM_URL`."""

import sys

from aiohttp import ClientSession, ClientTimeout, TCPConnector, web

HOP = {"connection", "keep-alive", "transfer-encoding", "te", "upgrade", "host", "content-length"}


def kept(headers):
    return [(name, value) for name, value in headers.items() if name.lower() not in HOP]


async def forward(request):
    session, upstream = request.app["session"], request.app["upstream"]
    body = await request.read()
    url = upstream + request.path_qs
    async with session.request(request.method, url, headers=kept(request.headers), data=body) as answer:
        if "Content-Length" in answer.headers:
            whole = await answer.read()
            return web.Response(status=answer.status, headers=kept(answer.headers), body=whole)
        streamed = web.StreamResponse(status=answer.status, headers=kept(answer.headers))
        await streamed.prepare(request)
        async for piece in answer.content.iter_any():
            await streamed.write(piece)
        await streamed.write_eof()
        return streamed


async def session(app):
    connector, timeout = TCPConnector(limit=0), ClientTimeout(total=None)
    app["session"] = ClientSession(connector=connector, timeout=timeout, auto_decompress=False)
    yield
    await app["session"].close()


if __name__ == "__main__":
    app = web.Application(client_max_size=1 << 30)
    app["upstream"] = sys.argv[2]
    app.cleanup_ctx.append(session)
    app.router.add_route("*", "/{path:.*}", forward)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)
