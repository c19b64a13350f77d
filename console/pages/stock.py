"""Stock: levels, movements, corrections."""

from uuid import uuid4

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from orderplane.client.transport import ApiProblem
from orderplane.console.context import console_of, done, form_of, problem_lines, signed_in
from orderplane.console.forms import BadForm, Form
from orderplane.console.sessions import Session

PER_PAGE = 50


async def index(request: Request, session: Session) -> Response:
    """All stocks."""
    page = await session.client.inventory.list(limit=PER_PAGE, cursor=request.query_params.get("cursor"))
    return console_of(request).page(
        request, session, "page/stocks.html", levels=page["items"], following=page["next"]
    )


async def show(request: Request, session: Session) -> Response:
    """One stock with its movements, and the forms that correct it."""
    return await _show(request, session)


async def _show(
    request: Request, session: Session, *, problem: list[str] | None = None, given: Form | None = None
) -> Response:
    sku, inventory = request.path_params["sku"], session.client.inventory
    level, movements, following = None, [], None
    try:
        level = await inventory.get(sku)
        page = await inventory.movements(sku, limit=PER_PAGE, cursor=request.query_params.get("cursor"))
        movements, following = page["items"], page["next"]
    except ApiProblem as refusal:
        if refusal.code != "stock_not_found":
            raise
        await session.client.products.get(sku)  # a stock begins with its first count
    return console_of(request).page(
        request, session, "page/stock.html", status=422 if problem else 200, sku=sku, level=level,
        movements=movements, following=following, key=str(uuid4()), problem=problem or [], given=given,
    )  # fmt: skip


async def correct(request: Request, session: Session, form: Form) -> Response:
    """Adjust or recount it."""
    sku, inventory = request.path_params["sku"], session.client.inventory
    try:
        if form.text("what") == "adjust":
            count = await inventory.adjust(
                sku, form.number("delta", "The difference"), reason=form.text("reason"), key=form.text("key")
            )
        else:
            count = await inventory.recount(
                sku, form.number("onHand", "The count"), reason=form.text("reason"), key=form.text("key")
            )
    except BadForm as problem:
        return await _show(request, session, problem=[str(problem)], given=form)
    except ApiProblem as problem:
        if problem.status not in (400, 409, 422):
            raise
        return await _show(request, session, problem=problem_lines(problem), given=form)
    lost = f" {len(count['lost'])} reservations lost their stock." if count["lost"] else ""
    text = f"{count['before']} became {count['onHand']} on hand.{lost}"
    return done(session, text, request.url.path)


ROUTES = [
    Route("/console/stock", signed_in(index), methods=["GET"]),
    Route("/console/stock/{sku}", signed_in(show), methods=["GET"]),
    Route("/console/stock/{sku}", form_of(correct), methods=["POST"]),
]
