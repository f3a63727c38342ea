"""What is missing in a cluster is found out before anything is started, one line for each."""

from collections.abc import Mapping
from typing import Any

import pytest

from initpipeline.runtime import preflight
from initpipeline.runtime.client import JSON, ApiClient
from initpipeline.runtime.errors import ConnectionFailed, OperatorError, api_error
from tests.builders import Raw


class Cluster(ApiClient):
    """It permits everything but these verbs, and may fail at either question."""

    def __init__(
        self,
        kind: Exception | None = None,
        review: Exception | Raw | None = None,
        forbidden: tuple[str, ...] = (),
    ) -> None:
        self._kind, self._review, self._forbidden = kind, review, forbidden
        self.asked: list[tuple[str | None, str]] = []

    @property
    def server(self) -> str:
        return "https://api.example"

    async def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        content_type: str = JSON,
        accept: str = JSON,
    ) -> Raw:
        assert (content_type, accept) == (JSON, JSON)
        if method == "GET":
            if self._kind is not None:
                raise self._kind
            return {}
        if isinstance(self._review, Exception):
            raise self._review
        assert body is not None, path
        asked = body["spec"]["resourceAttributes"]
        resource = "/".join(filter(None, [asked["resource"], asked["subresource"]]))
        question = f"{asked['verb']} {resource}"
        self.asked.append((asked.get("namespace"), question))
        return self._review or {"status": {"allowed": question not in self._forbidden}}


NEEDED = [
    *("list initpipelines", "watch initpipelines", "get initpipelines", "delete initpipelines"),
    "patch initpipelines/status",
    *("list pods", "watch pods", "get pods", "create pods", "delete pods"),
    *("create events", "patch events"),
]


@pytest.mark.parametrize("namespaces", [(), ("a",), ("a", "b")], ids=str)
async def test_each_permission_is_asked_for_where_it_is_needed(namespaces: tuple[str, ...]) -> None:
    cluster = Cluster()
    await preflight.check(cluster, namespaces)
    assert cluster.asked == [(at, what) for at in namespaces or (None,) for what in NEEDED]


@pytest.mark.parametrize("what", NEEDED)
async def test_the_permission_that_is_missing_is_named(what: str) -> None:
    with pytest.raises(OperatorError) as raised:
        await preflight.check(Cluster(forbidden=(what,)), ())
    assert str(raised.value) == (
        f"not permitted to {what} in all namespaces: bind a role with that permission to these "
        "credentials"
    )


async def test_where_it_is_missing_is_named() -> None:
    with pytest.raises(OperatorError, match='to list pods in namespace "a":'):
        await preflight.check(Cluster(forbidden=("list pods",)), ("a",))


@pytest.mark.parametrize(
    ("cluster", "says"),
    [
        pytest.param(
            Cluster(kind=api_error(404, {})), "install it with 'kubectl apply", id="no CRD"
        ),
        pytest.param(
            Cluster(kind=ConnectionFailed("refused")), "no answer from .*refused", id="no answer"
        ),
        pytest.param(
            Cluster(review=ConnectionFailed("timeout")),
            "no answer from .*timeout",
            id="half an answer",
        ),
        pytest.param(
            Cluster(kind=api_error(401, {"message": "Unauthorized"})),
            "401: Unauthorized: renew the credentials",
            id="unknown credentials",
        ),
        pytest.param(
            Cluster(review=api_error(403, {"message": "no reviews"})),
            "403: no reviews: bind a role",
            id="no right to ask for rights",
        ),
        pytest.param(
            Cluster(kind=api_error(503, {"message": "starting\nup"})),
            "503: starting up: try again",
            id="not ready",
        ),
        pytest.param(Cluster(review={"message": "ok"}), "not permitted", id="an odd answer"),
    ],
)
async def test_what_is_wrong_is_one_line(cluster: Cluster, says: str) -> None:
    with pytest.raises(OperatorError, match=says) as raised:
        await preflight.check(cluster, ())
    assert "\n" not in str(raised.value)
