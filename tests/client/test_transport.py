"""Which requests are retried, which are not, and how refusals are raised."""

import pytest

from orderplane.client.transport import NO_ANSWER, ApiProblem, Request, Transport, connect

from .conftest import PROBLEM, Script

READ = Request("GET", "/api/orders")
KEYED = Request("POST", "/api/orders", json={"a": "é"}, headers={"Idempotency-Key": "k"})
HARMLESS = Request("POST", "/api/orders/o-1/cancel", is_idempotent=True)
UNKEYED = Request("POST", "/api/users", json={})


async def refused(transport: Transport, request: Request) -> ApiProblem:
    with pytest.raises(ApiProblem) as problem:
        await transport.send(request)
    return problem.value


@pytest.mark.parametrize("request_", [READ, KEYED, HARMLESS], ids=lambda r: r.path)
async def test_what_is_safe_is_sent_again(script: Script, transport: Transport, request_: Request) -> None:
    script.then(503, PROBLEM, Retry_After="0").hang_up().then(504).then(200, {"id": "o-1"})
    answer = await transport.send(request_)
    assert (answer.status, answer.document) == (200, {"id": "o-1"})
    assert len(script.asked) == 4
    assert {asked.headers.get("Idempotency-Key") for asked in script.asked} == {
        request_.headers.get("Idempotency-Key")
    }


async def test_what_may_have_been_done_is_not(script: Script, transport: Transport) -> None:
    script.hang_up()
    assert (await refused(transport, UNKEYED)).code == NO_ANSWER
    script.then(503, PROBLEM, Retry_After="0")
    assert (await refused(transport, UNKEYED)).retry_after == 0
    assert len(script.asked) == 2


@pytest.mark.parametrize("status", [400, 403, 404, 409, 422, 500])
async def test_a_refusal_is_final(script: Script, transport: Transport, status: int) -> None:
    errors = [{"pointer": "#/items", "detail": "Too few."}]
    script.then(status, PROBLEM | {"code": "some_code", "errors": errors})
    problem = await refused(transport, READ)
    assert (problem.status, problem.code, problem.detail) == (status, "some_code", "Because.")
    assert problem.errors == errors
    assert problem.document["title"] == "No"
    assert str(problem) == "Because. (some_code)"


async def test_who_asks_to_wait_longer_than_patience_lasts_is_not_waited_for(
    script: Script, transport: Transport
) -> None:
    script.then(429, PROBLEM | {"code": "too_many_logins"}, Retry_After="300")
    assert (await refused(transport, READ)).retry_after == 300
    assert len(script.asked) == 1


async def test_patience_ends(script: Script) -> None:
    for _ in range(20):
        script.then(503, PROBLEM, Retry_After="0")
    async with connect(script.url, seconds=5, retry_seconds=0.1) as transport:
        assert (await refused(transport, READ)).status == 503
    assert 1 <= len(script.asked) < 20
    script.answers.clear()


async def test_an_answer_that_is_no_problem_document(script: Script, transport: Transport) -> None:
    script.then(302, Location="http://elsewhere.example/")
    problem = await refused(transport, UNKEYED)
    assert (problem.status, problem.code) == (302, "unknown")
    assert "302" in problem.detail


async def test_nobody_is_there() -> None:
    async with connect("http://127.0.0.1:9", seconds=1, retry_seconds=0.1) as transport:
        problem = await refused(transport, READ)
    assert (problem.status, problem.code) == (0, NO_ANSWER)


async def test_a_body_is_json_in_utf_8(script: Script, transport: Transport) -> None:
    script.then(202, {})
    await transport.send(KEYED)
    assert script.asked[0].headers["Content-Type"] == "application/json"
    assert script.asked[0].headers["Content-Length"] == str(len('{"a":"é"}'.encode()))
