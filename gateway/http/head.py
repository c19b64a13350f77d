"""HEAD, wherever there is GET."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class HeadMiddleware:
    """Has HEAD served as GET, and leaves the content of the answer out (RFC 9110, 9.3.2)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def send_without_content(message: Message) -> None:
            is_content = message["type"] == "http.response.body"
            await send({**message, "body": b""} if is_content else message)

        await self._app({**scope, "method": "GET"}, receive, send_without_content)
