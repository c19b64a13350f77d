"""Accounts and services, for admins."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from orderplane.client.operation_responses import NewService
from orderplane.client.transport import ApiProblem
from orderplane.console.context import console_of, done, form_of, problem_lines, signed_in
from orderplane.console.forms import BadForm, Form
from orderplane.console.sessions import Session

PER_PAGE = 50
ROLES = ("merchant", "admin", "customer")


async def index(request: Request, session: Session) -> Response:
    """Both lists, and the forms that add to them."""
    return await _index(request, session)


async def _index(
    request: Request,
    session: Session,
    *,
    problem: list[str] | None = None,
    made: NewService | None = None,
    status: int = 200,
) -> Response:
    staff, query = session.client.staff, request.query_params
    users = await staff.users(limit=PER_PAGE, cursor=query.get("cursor"))
    services = await staff.services(limit=200)
    return console_of(request).page(
        request, session, "page/accounts.html", status=status, users=users["items"],
        following=users["next"], services=services["items"], roles=ROLES, problem=problem or [], made=made,
    )  # fmt: skip


async def change(request: Request, session: Session, form: Form) -> Response:
    """Make an account or a service, or end one."""
    staff = session.client.staff
    try:
        match form.text("what"):
            case "create-user":
                user = await staff.create_user(
                    email=form.text("email"), password=form.block("password"), role=form.text("role"),
                    name=form.text("name"),
                )  # fmt: skip
                return done(session, f"{user['email']} gets a mail to confirm the address.", request.url.path)
            case "create-service":
                # Its secret is on this page and nowhere else, so it is no redirect.
                return await _index(request, session, made=await staff.create_service(form.text("name")))
            case "delete-user" | "revoke-service" if form.text("confirmed") != "yes":
                return console_of(request).page(
                    request, session, "page/confirm-account.html", what=form.text("what"),
                    id=form.text("id"), label=form.text("label"),
                )  # fmt: skip
            case "delete-user":
                await staff.delete_user(form.text("id"))
                return done(session, "The account is deleted.", request.url.path)
            case "revoke-service":
                await staff.revoke_service(form.text("id"))
                return done(session, "The service has no access any more.", request.url.path)
            case _:
                raise BadForm("Choose what is to be done.")
    except ApiProblem as problem:
        if problem.status not in (409, 422):
            raise
        return await _index(request, session, problem=problem_lines(problem), status=problem.status)


ROUTES = [
    Route("/console/accounts", signed_in(index), methods=["GET"]),
    Route("/console/accounts", form_of(change), methods=["POST"]),
]
