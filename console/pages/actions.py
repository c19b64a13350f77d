"""Who did what."""

from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from orderplane.console.context import console_of, signed_in
from orderplane.console.sessions import Session

PER_PAGE = 50


async def index(request: Request, session: Session) -> Response:
    """The newest actions, of one object or actor where that is asked for."""
    query = request.query_params
    object_, actor = query.get("object", "").strip(), query.get("actor", "").strip()
    page = await session.client.operations.actions(
        object_=object_ or None, actor=actor or None, limit=PER_PAGE, cursor=query.get("cursor")
    )
    following = None
    if page["next"]:
        more = {"object": object_, "actor": actor, "cursor": page["next"]}
        following = urlencode({name: value for name, value in more.items() if value})
    return console_of(request).page(
        request, session, "page/actions.html", actions=page["items"], following=following, object=object_,
        actor=actor,
    )  # fmt: skip


ROUTES = [Route("/console/actions", signed_in(index), methods=["GET"])]
