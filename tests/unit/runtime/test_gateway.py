"""Requests of the gateway: writes end before the Lease does."""

import math
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final
from urllib.parse import unquote

import pytest

from initpipeline.api.names import BUCKET_LABEL, NAME_LABEL
from initpipeline.api.raw import Raw
from initpipeline.core.facts import Pipeline
from initpipeline.runtime.buckets import Shard
from initpipeline.runtime.client import JSON
from initpipeline.runtime.errors import ConnectionFailed, LeaseExpiring
from initpipeline.runtime.gateway import Gateway
from initpipeline.runtime.keys import Key, Kind
from tests.builders import NAME, NAMESPACE, fresh_pod, pipeline
from tests.unit.runtime.stub_client import Request, StubClient

KEY: Final = Key(NAMESPACE, NAME)


class Recorder(StubClient):
    """Answers each request with one object, and records the time it was given."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, float]] = []
        self.listed: list[str] = []
        self.labels: dict[str, str] = {}
        """Additional labels of the object."""
        self.items: list[Raw] = []
        """The objects of each list."""

    async def answer(self, request: Request) -> Raw:
        self.sent.append((request.method, request.left()))
        raw = (fresh_pod() if "/pods" in request.path else pipeline()).raw()
        raw["metadata"]["resourceVersion"] = "7"
        raw["metadata"].setdefault("labels", {}).update(self.labels)
        return raw

    async def page(self, path: str, accept: str = JSON) -> Raw:  # noqa: ARG002
        self.listed.append(unquote(path))
        return {"metadata": {"resourceVersion": "7"}, "items": self.items}


def _pipeline() -> Pipeline:
    return Pipeline.from_api(pipeline().raw())


Write = Callable[[Gateway], Awaitable[object]]

WRITES: Final[dict[str, Write]] = {
    "patch_status": lambda gateway: gateway.patch_status(_pipeline(), {}),
    "create_pod": lambda gateway: gateway.create_pod(fresh_pod().raw()),
    "delete_pod": lambda gateway: gateway.delete_pod(KEY, "uid"),
    "delete_pipeline": lambda gateway: gateway.delete_pipeline(_pipeline()),
    "create_event": lambda gateway: gateway.create_event({"metadata": {"namespace": NAMESPACE}}),
    "patch_event_series": lambda gateway: gateway.patch_event_series(
        NAMESPACE, "event", 2, datetime(2026, 1, 1, tzinfo=UTC)
    ),
}


@pytest.fixture
def client() -> Recorder:
    return Recorder()


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
async def test_write_has_the_time_of_the_lease_less_a_second(
    client: Recorder, write: Write
) -> None:
    await write(Gateway(client, lambda: 12.5))
    ((method, seconds),) = client.sent
    assert method != "GET"
    assert seconds == 11.5


@pytest.mark.parametrize("remaining", [1.9, 0.0, -5.0])
@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
async def test_write_is_not_sent_if_the_lease_is_about_to_expire(
    client: Recorder, write: Write, remaining: float
) -> None:
    with pytest.raises(LeaseExpiring) as raised:
        await write(Gateway(client, lambda: remaining))
    assert not client.sent
    assert isinstance(raised.value, ConnectionFailed), "it is retried like a failed request"


async def test_reads_do_not_depend_on_the_lease(client: Recorder) -> None:
    gateway = Gateway(client, lambda: -1.0)
    await gateway.get_pipeline(KEY)
    await gateway.get_pod(KEY)
    assert client.sent == [("GET", math.inf)] * 2


class TestShard:
    """The gateway of a shard has only the objects of the shard."""

    @pytest.fixture
    def gateway(self, client: Recorder) -> Gateway:
        return Gateway(client, shard=Shard(1, 4))

    async def test_lists_select_the_buckets(self, client: Recorder, gateway: Gateway) -> None:
        await gateway.list_uids(Kind.PIPELINE, None)
        await gateway.list_uids(Kind.POD, "team")
        buckets = f"{BUCKET_LABEL} in (1,5,9,d)"
        assert client.listed == [
            f"/apis/initpipeline.dev/v1alpha1/initpipelines?labelSelector={buckets}&limit=500",
            f"/api/v1/namespaces/team/pods?labelSelector={NAME_LABEL},{buckets}&limit=500",
        ]

    @pytest.mark.parametrize(("bucket", "found"), [("5", True), ("0", False)])
    async def test_pipeline_of_another_shard_is_not_found(
        self, client: Recorder, gateway: Gateway, bucket: str, found: bool
    ) -> None:
        """Its bucket has changed. Its new owner serves it."""
        client.labels = {BUCKET_LABEL: bucket}
        assert (await gateway.get_pipeline(KEY) is not None) is found

    @pytest.mark.parametrize(("bucket", "watched"), [("5", True), ("0", False)])
    async def test_pod_of_another_shard_counts_as_unlabelled(
        self, client: Recorder, gateway: Gateway, bucket: str, watched: bool
    ) -> None:
        """The watch of the shard does not report it."""
        client.labels = {BUCKET_LABEL: bucket}
        pod = await gateway.get_pod(KEY)
        assert pod is not None
        assert pod.labelled is watched
        client.items = [{"metadata": {**fresh_pod().raw()["metadata"]}}]
        client.items[0]["metadata"]["labels"] = {NAME_LABEL: NAME, BUCKET_LABEL: bucket}
        found, _ = await gateway.find_unlabelled_pods(NAMESPACE, {KEY})
        assert found == ({} if watched else {KEY: client.items[0]["metadata"]["resourceVersion"]})
        assert client.listed == [f"/api/v1/namespaces/{NAMESPACE}/pods?limit=500"]


@pytest.mark.parametrize("read", [Gateway.get_pod, Gateway.get_pipeline, Gateway.get_lease])
@pytest.mark.parametrize("key", [Key(NAMESPACE, "other"), Key("other", NAME)])
async def test_response_with_another_object_is_a_failed_request(
    read: Callable[[Gateway, Key], Awaitable[object]], key: Key
) -> None:
    """For example from the cache of a proxy. The Pod would otherwise seem to be another one, and
    the run to be lost."""
    with pytest.raises(ConnectionFailed, match="another object"):
        await read(Gateway(Recorder()), key)
