"""The checks before the operator starts: each missing thing is reported in one line."""

import asyncio
import ssl
from typing import Any

import aiohttp
import pytest

from initpipeline.api.raw import Raw
from initpipeline.runtime import preflight
from initpipeline.runtime.errors import ConnectionFailed, OperatorError, api_error
from initpipeline.runtime.keys import Key
from initpipeline.runtime.preflight import WAIT_SECONDS, Unavailable
from tests.unit.runtime.clock import Clock
from tests.unit.runtime.stub_client import Request, StubClient


class FakeReviewApi(StubClient):
    """An API server that grants all permissions except these verbs. Each request may fail."""

    def __init__(
        self,
        kind: Exception | None = None,
        review: Exception | Raw | None = None,
        forbidden: tuple[str, ...] = (),
        ready: bool | Exception = True,
        resources: tuple[str, ...] = ("initpipelines", "initpipelines/status"),
    ) -> None:
        self._resources = resources
        self._ready = ready
        self._kind, self._review, self._forbidden = kind, review, forbidden
        self.asked: list[tuple[str | None, str]] = []
        self.named: dict[str, str] = {}
        """The verbs that were reviewed for an object of this name."""

    @property
    def server(self) -> str:
        return "https://api.example"

    async def is_ready(self) -> bool:
        if isinstance(self._ready, Exception):
            raise self._ready
        return self._ready

    async def answer(self, request: Request) -> Raw:
        assert request == Request(request.method, request.path, request.body)
        if request.method == "GET":
            if self._kind is not None:
                raise self._kind
            return {"resources": [{"name": name} for name in self._resources]}
        if isinstance(self._review, Exception):
            raise self._review
        assert request.body is not None, request.path
        asked = request.body["spec"]["resourceAttributes"]
        resource = "/".join(filter(None, [asked["resource"], asked["subresource"]]))
        question = f"{asked['verb']} {resource}"
        self.asked.append((asked.get("namespace"), question))
        if "name" in asked:
            self.named[asked["verb"]] = asked["name"]
        return self._review or {"status": {"allowed": question not in self._forbidden}}


LEASE = Key("system", "initpipeline")
LEASE_VERBS = ("get", "watch", "create", "patch")
NEEDED = [
    *("list initpipelines", "watch initpipelines", "get initpipelines", "delete initpipelines"),
    "patch initpipelines/status",
    "update initpipelines/finalizers",
    *("list pods", "watch pods", "get pods", "create pods", "delete pods"),
    *("create events", "patch events"),
]


@pytest.mark.parametrize("namespaces", [(), ("a",), ("a", "b")], ids=str)
async def test_each_permission_is_reviewed_in_each_namespace(namespaces: tuple[str, ...]) -> None:
    cluster = FakeReviewApi()
    await preflight.check(cluster, namespaces, LEASE)
    leases = [("system", f"{verb} leases") for verb in LEASE_VERBS]
    needed = [(at, what) for at in namespaces or (None,) for what in NEEDED]
    assert cluster.asked == [*needed, *leases]


async def test_permissions_for_leases_are_reviewed_for_the_name_except_to_create() -> None:
    """A role can limit all verbs but create to a name."""
    cluster = FakeReviewApi()
    await preflight.check(cluster, (), LEASE)
    assert cluster.named == {verb: "initpipeline" for verb in LEASE_VERBS if verb != "create"}


@pytest.mark.parametrize("verb", LEASE_VERBS)
async def test_missing_permission_for_leases_is_named_with_the_namespace(verb: str) -> None:
    with pytest.raises(OperatorError) as raised:
        await preflight.check(FakeReviewApi(forbidden=(f"{verb} leases",)), ("a",), LEASE)
    assert str(raised.value) == (
        f'not permitted to {verb} leases in namespace "system": bind a role with that permission '
        "to these credentials"
    )


@pytest.mark.parametrize("what", NEEDED)
async def test_missing_permission_is_named(what: str) -> None:
    with pytest.raises(OperatorError) as raised:
        await preflight.check(FakeReviewApi(forbidden=(what,)), (), LEASE)
    assert str(raised.value) == (
        f"not permitted to {what} in all namespaces: bind a role with that permission to these "
        "credentials"
    )


async def test_permission_to_remove_gates_is_needed_only_with_scheduling_gates() -> None:
    forbidden = FakeReviewApi(forbidden=("patch pods",))
    await preflight.check(forbidden, (), LEASE)
    with pytest.raises(OperatorError, match="to patch pods in all namespaces"):
        await preflight.check(forbidden, (), LEASE, gated=True)


async def test_scope_of_missing_permission_is_named() -> None:
    with pytest.raises(OperatorError, match='to list pods in namespace "a":'):
        await preflight.check(FakeReviewApi(forbidden=("list pods",)), ("a",), LEASE)


@pytest.mark.parametrize(
    ("cluster", "message"),
    [
        pytest.param(
            FakeReviewApi(kind=api_error(404, {})), "install it with 'kubectl apply", id="no CRD"
        ),
        pytest.param(
            FakeReviewApi(resources=()), "install it with 'kubectl apply", id="another kind only"
        ),
        pytest.param(
            FakeReviewApi(kind=ConnectionFailed("refused")),
            "no answer from .*refused",
            id="no answer",
        ),
        pytest.param(
            FakeReviewApi(review=ConnectionFailed("timeout")),
            "no answer from .*timeout",
            id="no answer to the review",
        ),
        pytest.param(
            FakeReviewApi(kind=api_error(401, {"message": "Unauthorized"})),
            "401: Unauthorized: renew the credentials",
            id="unknown credentials",
        ),
        pytest.param(
            FakeReviewApi(review=api_error(403, {"message": "no reviews"})),
            "403: no reviews: bind a role",
            id="no permission to review permissions",
        ),
        pytest.param(
            FakeReviewApi(kind=api_error(503, {"message": "starting\nup"})),
            "503: starting up: try again",
            id="not ready",
        ),
        pytest.param(
            FakeReviewApi(review={"message": "ok"}), "not permitted", id="review without a status"
        ),
    ],
)
async def test_problem_is_reported_in_one_line(cluster: FakeReviewApi, message: str) -> None:
    with pytest.raises(OperatorError, match=message) as raised:
        await preflight.check(cluster, (), LEASE)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("error", "is_waited_for"),
    [
        pytest.param(ConnectionFailed("refused"), True, id="no answer"),
        *(pytest.param(api_error(code, {}), True, id=str(code)) for code in (429, 500, 503, 504)),
        *(pytest.param(api_error(code, {}), False, id=str(code)) for code in (400, 401, 403, 404)),
    ],
)
async def test_only_an_api_server_that_cannot_answer_is_waited_for(
    error: Exception, is_waited_for: bool
) -> None:
    with pytest.raises(OperatorError) as raised:
        await preflight.check(FakeReviewApi(kind=error), (), LEASE)
    assert isinstance(raised.value, Unavailable) == is_waited_for


@pytest.mark.parametrize("ready", [False, ConnectionFailed("refused")], ids=["starts", "gone"])
@pytest.mark.parametrize(
    "refusal",
    [
        pytest.param({"kind": api_error(403, {})}, id="403"),
        pytest.param({"kind": api_error(404, {})}, id="no CRD"),
        pytest.param({"forbidden": ("list pods",)}, id="denied"),
    ],
)
async def test_refusal_of_an_api_server_that_starts_is_not_final(
    refusal: dict[str, Any], ready: bool | Exception
) -> None:
    with pytest.raises(Unavailable):
        await preflight.check(FakeReviewApi(**refusal, ready=ready), (), LEASE)


async def test_untrusted_certificate_is_not_waited_for() -> None:
    refused = ssl.SSLCertVerificationError("self-signed")
    error = ConnectionFailed("not trusted")
    key = aiohttp.client_reqrep.ConnectionKey("a", 443, True, True, None, None, None)
    error.__cause__ = aiohttp.ClientConnectorCertificateError(key, refused)
    cluster = FakeReviewApi(kind=error, ready=ConnectionFailed("not trusted"))
    with pytest.raises(OperatorError, match="is not trusted") as raised:
        await preflight.check(cluster, (), LEASE)
    assert not isinstance(raised.value, Unavailable)


class Checks:
    """Checks that end with these errors, one after another, and then succeed."""

    def __init__(self, *errors: OperatorError) -> None:
        self._errors = list(errors)
        self.count = 0
        self.reasons: list[str] = []

    async def __call__(self) -> None:
        self.count += 1
        if self._errors:
            raise self._errors.pop(0)


class TestWaiting:
    async def test_checks_are_repeated_with_growing_delays(self, clock: Clock) -> None:
        checks = Checks(*(Unavailable(f"no answer {number}") for number in range(4)))
        waiting = asyncio.create_task(preflight.repeat(checks, checks.reasons.append))
        for number, delay in enumerate((0, 1, 1, 2, 3), start=1):
            await clock.advance(delay)
            assert checks.count == number
        await waiting
        assert checks.reasons == [f"no answer {number}" for number in range(4)]

    async def test_delay_that_the_api_server_requests_is_kept(self, clock: Clock) -> None:
        checks = Checks(Unavailable("busy", retry_seconds=7))
        waiting = asyncio.create_task(preflight.repeat(checks))
        await clock.advance()
        await clock.advance(6)
        assert checks.count == 1
        await clock.advance(1)
        assert checks.count == 2
        await waiting

    async def test_error_that_waiting_does_not_cure_ends_it(self, clock: Clock) -> None:
        checks = Checks(Unavailable("no answer"), OperatorError("no permission"))
        waiting = asyncio.create_task(preflight.repeat(checks))
        await clock.advance()
        await clock.advance(1)
        with pytest.raises(OperatorError, match="no permission"):
            await waiting

    async def test_wait_for_the_api_server_ends_at_the_limit(self, clock: Clock) -> None:
        checks = Checks(*(Unavailable("no answer") for _ in range(1000)))
        waiting = asyncio.create_task(preflight.repeat(checks))
        await clock.advance()
        while not waiting.done() and clock.seconds < 2 * WAIT_SECONDS:
            await clock.advance(1)
        with pytest.raises(Unavailable):
            await waiting
        assert WAIT_SECONDS - 60 < clock.seconds <= WAIT_SECONDS
