"""The app and the request that every middleware is timed with; needs no library at all."""


async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


async def receive():
    return {"type": "http.request", "body": b"", "more_body": False}


async def send(message):
    pass


def request(under):
    """Return what makes one request to an app."""

    async def made():
        scope = {
            "type": "http", "http_version": "1.1", "method": "GET", "path": "/quotes", "root_path": "",
            "query_string": b"", "headers": [(b"host", b"service")], "client": ("127.0.0.1", 1),
        }  # fmt: skip
        await under(scope, receive, send)

    return made
