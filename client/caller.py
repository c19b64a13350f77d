"""Requests on somebody's behalf."""

from dataclasses import replace

from orderplane.client.login import Login
from orderplane.client.problems import ApiProblem
from orderplane.client.transport import Answer, Request, Transport


class Caller:
    """Sends requests with a token."""

    def __init__(self, transport: Transport, login: Login) -> None:
        self._transport = transport
        self._login = login

    async def send(self, request: Request) -> Answer:
        """Send it as the one who is logged in.

        Raises:
            ApiProblem: it was refused, or not answered.
        """
        token = await self._login.token()
        try:
            return await self._transport.send(_with(token, request))
        except ApiProblem as problem:
            if problem.code != "invalid_token":
                raise
        # The keys were changed, or the clocks differ. Whoever refuses a token has done nothing yet.
        token = await self._login.token(instead_of=token)
        return await self._transport.send(_with(token, request))


def _with(token: str, request: Request) -> Request:
    return replace(request, headers={**request.headers, "Authorization": f"Bearer {token}"})
