"""Messages to customers that were given up: why, and once more."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from orderplane.console.context import console_of, done, form_of, signed_in
from orderplane.console.forms import Form
from orderplane.console.sessions import Session

PER_PAGE = 50


async def index(request: Request, session: Session) -> Response:
    """Those that were given up."""
    page = await session.client.operations.failed_messages(
        limit=PER_PAGE, cursor=request.query_params.get("cursor")
    )
    return console_of(request).page(
        request, session, "page/messages.html", messages=page["items"], following=page["next"]
    )


async def replay(_: Request, session: Session, form: Form) -> Response:
    """Make one due again."""
    message = await session.client.operations.replay(form.text("message"))
    text = f"The {message['channel']} about {message['event']} of {message['order']} is due again."
    return done(session, text, "/console/messages")


ROUTES = [
    Route("/console/messages", signed_in(index), methods=["GET"]),
    Route("/console/messages", form_of(replay), methods=["POST"]),
]
