"""How the shop runs: figures, messages that failed, who did what."""

from typing import cast
from urllib.parse import quote

from orderplane.client.accounts import Caller
from orderplane.client.operation_responses import ActionPage, Message, MessagePage, Overview
from orderplane.client.transport import Request


class Operations:
    """What those who run the shop of the caller's merchant look at."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def overview(self) -> Overview:
        """How the orders go; at most two seconds old.

        Raises:
            ApiProblem: `insufficient_scope`: customers may not see it.
        """
        return cast("Overview", (await self._caller.send(Request("GET", "/api/overview"))).document)

    async def failed_messages(self, *, limit: int | None = None, cursor: str | None = None) -> MessagePage:
        """A page of messages that were given up, the last ones first.

        Raises:
            ApiProblem: `invalid_cursor`.
        """
        request = Request("GET", "/api/failed-messages", {"limit": limit, "cursor": cursor})
        return cast("MessagePage", (await self._caller.send(request)).document)

    async def replay(self, message_id: str) -> Message:
        """Make a message due again; repeating it sends nothing twice.

        Raises:
            ApiProblem: `message_not_found`.
        """
        path = f"/api/failed-messages/{quote(message_id, safe='')}/replay"
        return cast("Message", (await self._caller.send(Request("POST", path, is_idempotent=True))).document)

    async def actions(
        self,
        *,
        object_: str | None = None,
        actor: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> ActionPage:
        """A page of what people have changed, the newest first.

        Raises:
            ApiProblem: `invalid_cursor`.
        """
        query = {"object": object_, "actor": actor, "limit": limit, "cursor": cursor}
        request = Request("GET", "/api/actions", query)
        return cast("ActionPage", (await self._caller.send(request)).document)
