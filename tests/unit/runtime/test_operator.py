"""The whole operator, with its watches, against a mock of an API server.

If a watch or a worker ends, the process must end: it would not reconcile, but seem to run.
"""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import aiohttp
import kmock as mock
import pytest
from kubernetes.aio import client

from initpipeline.api import names
from initpipeline.api.raw import Raw
from initpipeline.core.decide import decide
from initpipeline.core.facts import Facts
from initpipeline.runtime import handlers, operator, preflight, probes
from initpipeline.runtime.buckets import owners
from initpipeline.runtime.client import ApiClient
from initpipeline.runtime.clock import Clock
from initpipeline.runtime.errors import HistoryLost, LeaseLost, LoginError, OperatorError
from initpipeline.runtime.events import EventRecorder
from initpipeline.runtime.gateway import Gateway
from initpipeline.runtime.keys import Key
from initpipeline.runtime.leader import LeaderElection
from initpipeline.runtime.members import Members
from initpipeline.runtime.metrics import Metrics
from initpipeline.runtime.operator import Operator, identity, lease_key
from initpipeline.runtime.pod_watch import PodWatcher
from initpipeline.runtime.reconcile import Reconciler
from initpipeline.runtime.settings import Settings
from initpipeline.runtime.sweep import Sweeper
from initpipeline.runtime.unlabelled_pods import UnlabelledPodWatcher
from tests.builders import NAME, NAMESPACE, at, fresh_pod, pipeline, running_pod
from tests.ports import free_port
from tests.scraping import Samples, scraped
from tests.unit.core.simulation import new_pipeline

pytestmark = pytest.mark.kmock(cls=mock.RawHandler)

GROUP = f"/apis/{names.API_VERSION}"
PIPELINES = f"{GROUP}/{names.PLURAL}"
PODS = "/api/v1/pods"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
PIPELINE = f"{GROUP}/namespaces/{NAMESPACE}/{names.PLURAL}/{NAME}"
SECONDS = 10


def kind(plural: str, kind: str) -> Raw:
    verbs = ["list", "watch", "get", "patch"]
    return {"name": plural, "singularName": "", "kind": kind, "namespaced": True, "verbs": verbs}


def page(*items: Raw) -> Raw:
    return {"metadata": {"resourceVersion": "10"}, "items": list(items)}


BOOKMARK = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "10"}}}
WATCH: mock.params[str] = mock.params({"watch": "true"})


@pytest.fixture
def api(kmock: mock.RawHandler) -> mock.RawHandler:
    """Returns an API server with both kinds and no objects. Its watches stay open. Responses that a
    test adds have precedence."""
    version = {"groupVersion": names.API_VERSION, "version": names.VERSION}
    group = {"name": names.GROUP, "versions": [version], "preferredVersion": version}
    fallback = kmock.fallback
    fallback["get /api"] << {"versions": ["v1"]}
    fallback["get /apis"] << {"groups": [group]}
    fallback["get /api/v1"] << {"resources": [kind("pods", "Pod"), kind("namespaces", "Namespace")]}
    fallback[f"get {GROUP}"] << {"resources": [kind(names.PLURAL, names.KIND)]}
    lease = {"metadata": {"resourceVersion": "9"}, "spec": {"holderIdentity": "me"}}
    fallback[f"get {LEASES}/initpipeline"] << 404 << {"kind": "Status", "code": 404}
    fallback[f"post {LEASES}"] << lease
    fallback[f"patch {LEASES}/initpipeline"] << lease
    for path in (PIPELINES, PODS):
        fallback[f"get {path}", WATCH] << (...,)
        fallback[f"get {path}"] << page()
    return kmock


class Running:
    """An operator that runs in a thread with its own event loop."""

    def __init__(self, server: str, token: str | None = None, **settings: Any) -> None:
        """Starts with the token "old". A new login returns ``token``."""
        self._server = server
        self._token = token
        self._settings = Settings.model_construct(**{"workers": 2, "identity": "me", **settings})
        self._stop: Callable[[], object] = lambda: None
        self.cancel: Callable[[], object] = lambda: None
        """Ends it like SIGTERM before Kopf has started."""
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self._error = error

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        async with (
            ApiClient(self._configuration("old"), 5, self._login) as api,
            probes.served(self._settings.probe_address) as checks,
        ):
            metrics = Metrics() if self._settings.metrics_address else None
            running = Operator(self._settings, api, Clock(), metrics)
            self._stop = lambda: loop.call_soon_threadsafe(running._broken.set)
            task = asyncio.current_task()
            assert task is not None
            self.cancel = lambda: loop.call_soon_threadsafe(task.cancel)
            await running.serve(checks)

    def _configuration(self, token: str) -> client.Configuration:
        configuration = client.Configuration(host=self._server)
        configuration.api_key["BearerToken"] = f"Bearer {token}"
        return configuration

    async def _login(self) -> client.Configuration:
        if self._token is None:
            raise LoginError("no kubeconfig any more")
        return self._configuration(self._token)

    async def ended(self) -> BaseException | None:
        """Returns the exception with which it ended. Fails if it does not end."""
        await until(lambda: not self._thread.is_alive())
        return self._error

    async def stop(self) -> None:
        self._stop()
        assert await self.ended() is None


@pytest.fixture
def run(api: mock.RawHandler) -> Callable[..., Running]:
    return lambda **settings: Running(str(api.url).rstrip("/"), **settings)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Returns the keys of all reconciles, which do nothing else."""
    keys: list[object] = []

    async def reconcile(_: object, key: object) -> None:
        keys.append(key)

    monkeypatch.setattr(Reconciler, "reconcile", reconcile)
    return keys


async def until(condition: Callable[[], object]) -> None:
    """Wait for a condition that another thread fulfils, so it must be polled."""
    async with asyncio.timeout(SECONDS):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def answer(address: str, probe: str) -> tuple[int, str]:
    """Returns code and text of the answer to a probe. 0: nothing answers."""
    try:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://{address}/{probe}") as response,
        ):
            return response.status, await response.text()
    except aiohttp.ClientConnectionError:
        return 0, ""


async def until_answer_is(address: str, probe: str, expected: tuple[int, str]) -> None:
    """Wait until the probe has this answer."""
    async with asyncio.timeout(SECONDS):
        while await answer(address, probe) != expected:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def until_it_fails(address: str, probe: str, problem: str) -> None:
    """Wait until the probe fails with a text that contains this."""
    async with asyncio.timeout(SECONDS):
        while True:
            code, text = await answer(address, probe)
            if code == 503 and problem in text:
                return
            await asyncio.sleep(0.01)


async def until_scraped(address: str, condition: Callable[[Samples], bool]) -> Samples:
    """Wait until the metrics meet the condition. Returns them."""
    async with asyncio.timeout(SECONDS):
        while True:
            with contextlib.suppress(OSError):
                samples = await asyncio.to_thread(scraped, address)
                if condition(samples):
                    return samples
            await asyncio.sleep(0.01)


async def until_ready_is(address: str, expected: tuple[int, str]) -> None:
    """Wait until the readiness probe has this answer."""
    await until_answer_is(address, "readyz", expected)


async def _fails(*_: object) -> None:
    raise ZeroDivisionError("a bug")


async def _assigns(_: object, changed: Callable[[], None], *__: object) -> None:
    """Run like the heartbeats of a replica that is live."""
    changed()
    await asyncio.Event().wait()


class TestServing:
    async def test_new_pipeline_gets_its_pod(
        self, api: mock.RawHandler, run: Callable[..., Running]
    ) -> None:
        written = {**pipeline().raw(), "status": {}}
        written["metadata"]["resourceVersion"] = "11"
        api[f"get {PIPELINES}"] - api[WATCH] << page(pipeline().raw())
        api[f"get {PIPELINE}"] << pipeline().raw()
        api[f"patch {PIPELINE}/status"] << written
        api[f"post /api/v1/namespaces/{NAMESPACE}/pods"] << 403 << {"message": "exceeded quota"}
        running = run()
        await until(lambda: len(api[f"post /api/v1/namespaces/{NAMESPACE}/pods"]))
        await running.stop()

    async def test_each_namespace_has_its_watch_of_pods(
        self, api: mock.RawHandler, run: Callable[..., Running]
    ) -> None:
        paths = [f"/api/v1/namespaces/{namespace}/pods" for namespace in ("a", "b")]
        for path in (*paths, *(f"{GROUP}/namespaces/{name}/{names.PLURAL}" for name in "ab")):
            api.fallback[f"get {path}", WATCH] << (...,)
            api.fallback[f"get {path}"] << page()
        running = run(namespaces=("a", "b"))
        await until(lambda: all(len(api[f"get {path}", WATCH]) for path in paths))
        await running.stop()
        assert not len(api[f"get {PODS}"])

    async def test_pod_event_reaches_the_reconcile(
        self, seen: list[object], api: mock.RawHandler, run: Callable[..., Running]
    ) -> None:
        raw = fresh_pod().raw()
        raw["metadata"]["resourceVersion"] = "11"
        leads = asyncio.Event()

        async def until_it_leads() -> None:
            await leads.wait()

        event = {"type": "ADDED", "object": raw}
        api[f"get {PODS}", WATCH] << (until_it_leads, event, ...)
        running = run(retry_seconds=0.1)
        await until(lambda: len(api[f"patch {LEASES}/initpipeline"]))
        leads.set()
        await until(lambda: seen)
        await running.stop()

    async def test_only_labelled_pods_are_listed_and_watched(
        self, api: mock.RawHandler, run: Callable[..., Running]
    ) -> None:
        running = run()
        await until(lambda: len(api[f"get {PODS}", WATCH]))
        await running.stop()
        asked = list(api[f"get {PODS}"])
        assert len(asked) == 2, "one list, one watch"
        assert {request.params.get("labelSelector") for request in asked} == {names.NAME_LABEL}

    async def test_kopf_writes_nothing(
        self, api: mock.RawHandler, run: Callable[..., Running]
    ) -> None:
        running = run()
        await until(lambda: len(api[f"get {PIPELINES}", WATCH]))
        await running.stop()
        writes = [request for request in api if request.method != mock.method.GET]
        assert {request.url.path for request in writes} == {LEASES}

    async def test_queued_events_are_posted_before_the_end(
        self, api: mock.RawHandler, run: Callable[..., Running]
    ) -> None:
        """They could not be posted later: their status is written already."""
        failed = new_pipeline().reconcile(None).reconcile(fresh_pod().init("one", exit=1))
        written = failed.pipeline.raw()
        written["metadata"]["resourceVersion"] = "11"
        events = f"post /apis/events.k8s.io/v1/namespaces/{NAMESPACE}/events"
        api[f"get {PIPELINES}"] - api[WATCH] << page(pipeline().raw())
        api[f"get {PIPELINE}"] << pipeline().raw()
        api[f"patch {PIPELINE}/status"] << written
        api[events] << (lambda: asyncio.sleep(0.3), {})
        running = run()
        await until(lambda: len(api[events]))
        assert len(api[events]) == 1, "they are posted one after the other"
        await running.stop()
        reasons = [request.data["reason"] for request in api[events]]
        # The mock answers with another status than the one that was sent.
        assert reasons == ["StatusFieldsDropped", "RunStarted", "StepFailed"]


class TestLeaderElection:
    """Only the holder of the Lease writes. The others have the same watches."""

    @staticmethod
    def lease(holder: str, version: str = "1") -> Raw:
        spec = {"holderIdentity": holder, "leaseDurationSeconds": 15}
        metadata = {"namespace": "default", "name": "initpipeline", "resourceVersion": version}
        return {"metadata": metadata, "spec": spec}

    async def test_standby_watches_and_writes_nothing(
        self, api: mock.RawHandler, run: Callable[..., Running]
    ) -> None:
        api[f"get {PIPELINES}"] - api[WATCH] << page(pipeline().raw())
        api[f"get {LEASES}/initpipeline"] << self.lease("other")
        api[f"get {LEASES}", WATCH] << (...,)
        running = run(identity="me")
        watches = (f"get {PIPELINES}", f"get {PODS}", f"get {LEASES}")
        await until(lambda: all(len(api[path, WATCH]) for path in watches))
        await running.stop()
        assert {request.method for request in api} == {mock.method.GET}

    async def test_standby_that_gets_the_lease_reconciles_what_it_has_cached(
        self, seen: list[object], api: mock.RawHandler, run: Callable[..., Running]
    ) -> None:
        api[f"get {PIPELINES}"] - api[WATCH] << page(pipeline().raw())
        api[f"get {LEASES}/initpipeline"] << self.lease("other")
        free = {"type": "MODIFIED", "object": self.lease("", "2")}
        api[f"get {LEASES}", WATCH] << (lambda: asyncio.sleep(0.5), free, ...)
        running = run(identity="me")
        await until(lambda: len(api[f"get {PIPELINES}", WATCH]))
        assert not seen
        await until(lambda: seen)
        await running.stop()

    async def test_cold_standby_is_ready_and_watches_only_the_lease(
        self, api: mock.RawHandler, run: Callable[..., Running]
    ) -> None:
        api[f"get {LEASES}/initpipeline"] << self.lease("other")
        api[f"get {LEASES}", WATCH] << (...,)
        address = f"127.0.0.1:{free_port()}"
        running = run(standby="cold", probe_address=address)
        await until(lambda: len(api[f"get {LEASES}", WATCH]))
        await until_ready_is(address, (200, "ok"))
        assert {request.url.path for request in api} == {LEASES, f"{LEASES}/initpipeline"}
        running.cancel()
        assert isinstance(await running.ended(), asyncio.CancelledError)

    async def test_cold_standby_that_gets_the_lease_lists_all_objects(
        self, api: mock.RawHandler, run: Callable[..., Running]
    ) -> None:
        api[f"get {LEASES}/initpipeline"] << self.lease("other")
        free = {"type": "MODIFIED", "object": self.lease("", "2")}
        api[f"get {LEASES}", WATCH] << (free, ...)
        running = run(standby="cold")
        await until(lambda: all(len(api[f"get {path}", WATCH]) for path in (PIPELINES, PODS)))
        await running.stop()

    async def test_lost_lease_ends_the_process(
        self, api: mock.RawHandler, run: Callable[..., Running]
    ) -> None:
        api[f"patch {LEASES}/initpipeline"] << 409 << {"kind": "Status", "code": 409}
        running = run(identity="me", retry_seconds=0.1)
        await until(lambda: len(api[f"post {LEASES}"]))
        api[f"get {LEASES}/initpipeline"] << self.lease("other", "10")
        error = await running.ended()
        assert isinstance(error, LeaseLost)
        assert str(error).startswith('the Lease default/initpipeline is lost: "other" holds it. If')

    async def test_end_releases_the_lease(
        self, api: mock.RawHandler, run: Callable[..., Running]
    ) -> None:
        running = run(identity="me")
        await until(lambda: len(api[f"post {LEASES}"]))
        api[f"get {LEASES}/initpipeline"] << self.lease("me")
        await running.stop()
        last = list(api[f"patch {LEASES}/initpipeline"])[-1]
        assert last.data["spec"] == {"holderIdentity": ""}


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        pytest.param({}, Key("default", "initpipeline"), id="none"),
        pytest.param({"namespaces": ("a", "b")}, Key("a", "initpipeline"), id="watched namespaces"),
        pytest.param(
            {"namespaces": ("a",), "lease_namespace": "c", "lease_name": "d"},
            Key("c", "d"),
            id="settings",
        ),
    ],
)
def test_lease_outside_of_a_pod_is_in_the_first_namespace(
    settings: dict[str, Any], key: Key
) -> None:
    assert lease_key(Settings(**settings)) == key


def test_lease_in_a_pod_is_in_the_namespace_of_the_pod(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "namespace"
    file.write_text("system\n")
    monkeypatch.setattr(operator, "NAMESPACE_FILE", file)
    assert lease_key(Settings(namespaces=("a",))) == Key("system", "initpipeline")
    assert lease_key(Settings(lease_namespace="b")) == Key("b", "initpipeline")


def test_identities_of_two_processes_differ() -> None:
    assert identity(Settings()) != identity(Settings())
    assert identity(Settings(identity="me")) == "me"


class TestMetrics:
    """What a replica serves that does not hold the Lease, or holds some of them."""

    STATUS = decide(Facts(pipeline().build(), running_pod().build()), at(100)).status
    READY: ClassVar = pipeline().with_status(STATUS).raw()
    COUNTED = ("initpipeline_pipelines", ("Ready", "PodReady", "True"))

    async def test_standby_counts_no_pipelines_until_it_holds_the_lease(
        self, seen: list[object], api: mock.RawHandler, run: Callable[..., Running]
    ) -> None:
        free, expected = asyncio.Event(), TestLeaderElection.lease("", "2")

        async def wait() -> None:
            await free.wait()

        api[f"get {PIPELINES}"] - api[WATCH] << page(self.READY)
        api[f"get {LEASES}/initpipeline"] << TestLeaderElection.lease("other")
        api[f"get {LEASES}", WATCH] << (wait, {"type": "MODIFIED", "object": expected}, ...)
        address = f"127.0.0.1:{free_port()}"
        running = run(metrics_address=address)
        leads = ("leader_election_master_status", ("initpipeline",))
        stored = ("initpipeline_cache_objects", ("initpipelines",))
        standby = await until_scraped(address, lambda found: found.get(stored) == 1)
        assert (standby[leads], self.COUNTED in standby) == (0, False)
        assert not seen
        free.set()
        held = await until_scraped(address, lambda found: self.COUNTED in found)
        assert (held[leads], held[self.COUNTED]) == (1, 1)
        await running.stop()

    async def test_shards_that_are_assigned_and_held_are_served(
        self, monkeypatch: pytest.MonkeyPatch, api: mock.RawHandler, run: Callable[..., Running]
    ) -> None:
        """This replica has one of two shards, as another one is live."""
        live = frozenset({"me", "other"})
        monkeypatch.setattr(Members, "live", lambda _: live)
        monkeypatch.setattr(Members, "run", _assigns)
        [mine] = (shard for shard, owner in owners(live, 2).items() if owner == "me")
        for shard in range(2):
            lease = f"{LEASES}/initpipeline-{shard}"
            api.fallback[f"get {lease}"] << 404 << {"kind": "Status", "code": 404}
            api.fallback[f"patch {lease}"] << TestLeaderElection.lease("me")
        address = f"127.0.0.1:{free_port()}"
        running = run(metrics_address=address, shards=2)
        name = "initpipeline_shard_assigned"
        samples = await until_scraped(address, lambda found: (name, ("0",)) in found)
        assigned = {shard: samples[name, (str(shard),)] for shard in range(2)}
        assert assigned == {mine: 1, 1 - mine: 0}
        assert samples["initpipeline_replicas", ()] == 2
        assert {labels for one, labels in samples if one == "leader_election_master_status"} == {
            ("initpipeline-0",),
            ("initpipeline-1",),
        }
        await running.stop()


class TestProbes:
    """The endpoints for the kubelet's probes."""

    async def test_standby_is_alive_and_ready_when_all_objects_are_listed(
        self, api: mock.RawHandler, run: Callable[..., Running]
    ) -> None:
        api[f"get {LEASES}/initpipeline"] << TestLeaderElection.lease("other")
        api[f"get {LEASES}", WATCH] << (...,)
        api[f"get {PIPELINES}", WATCH] << (BOOKMARK, ...)
        address = f"127.0.0.1:{free_port()}"
        running = run(probe_address=address)
        await until_ready_is(address, (200, "ok"))
        assert await answer(address, "healthz") == (200, "ok")
        await running.stop()
        assert await answer(address, "healthz") == (0, "")

    @pytest.mark.parametrize(
        ("path", "kind"), [(PODS, "Pods"), (PIPELINES, "InitPipelines")], ids=["Pods", "pipelines"]
    )
    async def test_operator_is_not_ready_before_the_objects_are_listed(
        self, api: mock.RawHandler, run: Callable[..., Running], path: str, kind: str
    ) -> None:
        api[f"get {PIPELINES}", WATCH] << (BOOKMARK, ...)
        api[f"get {path}"] << 503 << {"kind": "Status", "code": 503}
        address = f"127.0.0.1:{free_port()}"
        running = run(probe_address=address)
        await until_ready_is(address, (503, f"{kind} are not listed yet"))
        assert await answer(address, "healthz") == (200, "ok")
        await running.stop()

    async def test_stuck_worker_fails_the_probe_without_the_name_of_the_pipeline(
        self, monkeypatch: pytest.MonkeyPatch, api: mock.RawHandler, run: Callable[..., Running]
    ) -> None:
        """Each Pod of the cluster can request the probe. The log has the name."""
        stuck = asyncio.Event()

        async def reconcile(*_: object) -> None:
            stuck.set()
            await asyncio.sleep(SECONDS)

        monkeypatch.setattr(Reconciler, "reconcile", reconcile)
        monkeypatch.setattr(operator, "STUCK_SECONDS", 0.0)
        api[f"get {PIPELINES}"] - api[WATCH] << page(pipeline().raw())
        address = f"127.0.0.1:{free_port()}"
        running = run(probe_address=address)
        await until(stuck.is_set)
        expected = (503, "a worker has had one InitPipeline for 0 seconds")
        assert await answer(address, "healthz") == expected
        await running.stop()

    async def test_each_watched_namespace_counts(
        self, api: mock.RawHandler, run: Callable[..., Running]
    ) -> None:
        for path in (f"{GROUP}/namespaces/a/{names.PLURAL}", "/api/v1/namespaces/a/pods"):
            api.fallback[f"get {path}", WATCH] << (BOOKMARK, ...)
            api.fallback[f"get {path}"] << page()
        for path in (f"{GROUP}/namespaces/b/{names.PLURAL}", "/api/v1/namespaces/b/pods"):
            api.fallback[f"get {path}"] << 503 << {"kind": "Status", "code": 503}
        address = f"127.0.0.1:{free_port()}"
        running = run(probe_address=address, namespaces=("a", "b"))
        missing = "InitPipelines in b are not listed yet\nPods in b are not listed yet"
        await until_ready_is(address, (503, missing))
        await running.stop()

    async def test_election_that_hangs_fails_the_liveness_probe(
        self, monkeypatch: pytest.MonkeyPatch, run: Callable[..., Running]
    ) -> None:
        async def get_lease(*_: object) -> None:
            await asyncio.Event().wait()

        monkeypatch.setattr(Gateway, "get_lease", get_lease)
        address = f"127.0.0.1:{free_port()}"
        running = run(probe_address=address, lease_seconds=0.1, request_timeout_seconds=0.1)
        await until_it_fails(address, "healthz", "the leader election has been stuck")
        await running.stop()

    @pytest.mark.parametrize(
        ("path", "kind"), [(PODS, "Pods"), (PIPELINES, "InitPipelines")], ids=["Pods", "pipelines"]
    )
    async def test_watch_that_hangs_fails_the_liveness_probe(
        self,
        monkeypatch: pytest.MonkeyPatch,
        api: mock.RawHandler,
        run: Callable[..., Running],
        path: str,
        kind: str,
    ) -> None:
        """The watch is opened, and its task does nothing more."""
        monkeypatch.setattr(probes, "HUNG_SECONDS", 0.3)
        api[f"get {path}", WATCH] << (BOOKMARK, ...)
        address = f"127.0.0.1:{free_port()}"
        running = run(probe_address=address)
        await until_it_fails(address, "healthz", f"the watch of {kind} has been stuck")
        await running.stop()

    async def test_blocked_event_loop_answers_no_probe(
        self, monkeypatch: pytest.MonkeyPatch, api: mock.RawHandler, run: Callable[..., Running]
    ) -> None:
        blocked, unblock = threading.Event(), threading.Event()

        async def reconcile(*_: object) -> None:
            blocked.set()
            unblock.wait(SECONDS)

        monkeypatch.setattr(Reconciler, "reconcile", reconcile)
        api[f"get {PIPELINES}"] - api[WATCH] << page(pipeline().raw())
        address = f"127.0.0.1:{free_port()}"
        running = run(probe_address=address)
        await until(blocked.is_set)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await answer(address, "healthz")
        unblock.set()
        await until_answer_is(address, "healthz", (200, "ok"))
        await running.stop()

    async def test_address_in_use_ends_the_start(self, run: Callable[..., Running]) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            running = run(probe_address=f"127.0.0.1:{taken.getsockname()[1]}")
            error = await running.ended()
        assert isinstance(error, OperatorError)
        assert "in use" in str(error)
        assert str(error).endswith("set --probe-address")


class TestEnd:
    """Each fault ends the process with one line."""

    @staticmethod
    def text_of(error: BaseException | None) -> str:
        assert isinstance(error, OperatorError), repr(error)
        assert "\n" not in str(error)
        return str(error)

    async def test_ended_worker_ends_the_process(
        self, monkeypatch: pytest.MonkeyPatch, api: mock.RawHandler, run: Callable[..., Running]
    ) -> None:
        """An exception is logged and retried, so the worker ends by a BaseException."""

        async def reconcile(*_: object) -> None:
            raise asyncio.CancelledError

        monkeypatch.setattr(Reconciler, "reconcile", reconcile)
        api[f"get {PIPELINES}"] - api[WATCH] << page(pipeline().raw())
        assert "worker" in self.text_of(await run().ended())

    @pytest.mark.parametrize(
        ("target", "method", "name"),
        [
            pytest.param(PodWatcher, "run", "watch of Pods", id="watch of Pods"),
            pytest.param(EventRecorder, "run", "events", id="events"),
            pytest.param(LeaderElection, "acquire", "leader election", id="election"),
            pytest.param(LeaderElection, "keep", "leader election", id="renewal"),
        ],
    )
    async def test_exception_in_a_task_ends_the_process(
        self,
        monkeypatch: pytest.MonkeyPatch,
        run: Callable[..., Running],
        target: type,
        method: str,
        name: str,
    ) -> None:
        monkeypatch.setattr(target, method, _fails)
        assert self.text_of(await run().ended()) == f"{name} ended: a bug"

    @pytest.mark.parametrize(
        ("target", "method", "name"),
        [
            pytest.param(Members, "run", "heartbeat", id="heartbeat"),
            pytest.param(LeaderElection, "acquire", "shard", id="election of a shard"),
        ],
    )
    async def test_exception_in_a_task_of_a_shard_ends_the_process(
        self,
        monkeypatch: pytest.MonkeyPatch,
        run: Callable[..., Running],
        target: type,
        method: str,
        name: str,
    ) -> None:
        monkeypatch.setattr(target, method, _fails)
        monkeypatch.setattr(Members, "live", lambda _: frozenset({"me"}))
        if method != "run":
            monkeypatch.setattr(Members, "run", _assigns)
        text = self.text_of(await run(shards=2).ended())
        assert text.startswith(name)
        assert text.endswith("ended: a bug")

    async def test_exception_about_an_event_of_the_watch_ends_the_process(
        self, monkeypatch: pytest.MonkeyPatch, api: mock.RawHandler, run: Callable[..., Running]
    ) -> None:
        def fails(*_: object) -> bool:
            raise ZeroDivisionError("a bug")

        monkeypatch.setattr(handlers, "is_known", fails)
        event = {"type": "ADDED", "object": pipeline().raw()}
        api[f"get {PIPELINES}", WATCH] << (event, ...)
        assert "a bug" in self.text_of(await run().ended())

    async def test_exception_in_a_watch_of_unlabelled_pods_ends_the_process(
        self, monkeypatch: pytest.MonkeyPatch, api: mock.RawHandler, run: Callable[..., Running]
    ) -> None:
        """Its task starts and ends with the Pod of another owner."""

        async def fails(*_: object) -> None:
            raise OperatorError("a bug")

        monkeypatch.setattr(UnlabelledPodWatcher, "_watch_once", fails)
        watches: list[UnlabelledPodWatcher] = []

        async def reconcile(self: Reconciler, key: Key) -> None:
            watches.append(self._unlabelled_pods)
            self._unlabelled_pods.watch(key)

        monkeypatch.setattr(Reconciler, "reconcile", reconcile)
        api[f"get {PIPELINES}"] - api[WATCH] << page(pipeline().raw())
        assert self.text_of(await run().ended()) == "a bug"
        assert watches

    async def test_ended_sweeper_ends_the_process(
        self, monkeypatch: pytest.MonkeyPatch, run: Callable[..., Running]
    ) -> None:
        async def sweep(_: object) -> None:
            raise OperatorError("resource version went back")

        monkeypatch.setattr(Sweeper, "sweep", sweep)
        assert self.text_of(await run(sweep_seconds=0.01).ended()) == "resource version went back"


class TestFailedReconcile:
    async def test_exception_in_a_reconcile_is_logged_and_retried(
        self, monkeypatch: pytest.MonkeyPatch, api: mock.RawHandler, run: Callable[..., Running]
    ) -> None:
        """The log has its traceback, and the pipeline is requeued."""
        looks: list[None] = []

        async def reconcile(*_: object) -> None:
            looks.append(None)
            raise ZeroDivisionError

        monkeypatch.setattr(Reconciler, "reconcile", reconcile)
        api[f"get {PIPELINES}"] - api[WATCH] << page(pipeline().raw())
        running = run()
        await until(lambda: len(looks) > 1)
        await running.stop()


def bearer(token: str) -> mock.headers[str]:
    return mock.headers({"Authorization": f"Bearer {token}"})


class TestExpiredCredentials:
    async def test_refused_credentials_are_replaced_by_a_new_login(
        self, api: mock.RawHandler, run: Callable[..., Running]
    ) -> None:
        """Both watches are refused at the same time."""
        paths = (PIPELINES, PODS)
        for path in paths:
            api[f"get {path}", WATCH, bearer("old")] << 401 << {"message": "Unauthorized"}
        running = run(token="new")
        await until(lambda: all(len(api[f"get {p}", WATCH, bearer("new")]) for p in paths))
        await running.stop()

    @pytest.mark.parametrize("token", ["old", None], ids=["the same again", "none"])
    async def test_refused_login_is_repeated(
        self, api: mock.RawHandler, run: Callable[..., Running], token: str | None
    ) -> None:
        """The next credentials may be valid."""
        for path in (PIPELINES, PODS):
            api[f"get {path}", WATCH] << 401 << {"message": "Unauthorized"}
        running = run(token=token)
        await until(lambda: all(len(api[f"get {p}", WATCH]) > 2 for p in (PIPELINES, PODS)))
        await running.stop()


def replace_parts(
    monkeypatch: pytest.MonkeyPatch, check: Callable[..., object], serve: Callable[..., object]
) -> None:
    """Let ``operator.run`` call these in place of ``preflight.check`` and ``Operator.serve``."""

    async def configuration() -> client.Configuration:
        return client.Configuration()

    monkeypatch.setattr(preflight, "check", check)
    monkeypatch.setattr(Operator, "serve", serve)
    monkeypatch.setattr(operator, "load_configuration", configuration)


async def test_checks_are_repeated_before_the_operator_starts_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After a restore of etcd the API server starts, and may not serve the CRD yet. Kopf looks for
    the kind once, and would never watch it."""
    steps: list[str] = []

    async def check(*_: object, **__: object) -> None:
        steps.append("check")

    async def serve(*_: object) -> None:
        steps.append("serve")
        if steps.count("serve") == 1:
            raise HistoryLost("the Lease", 2, 1)

    replace_parts(monkeypatch, check, serve)
    await operator.run(Settings.model_construct(identity="me"))
    assert steps == ["check", "serve", "check", "serve"]


async def test_probes_keep_their_connections_when_the_operator_starts_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A probe that is under way when a listener is closed fails with a reset."""
    address = f"127.0.0.1:{free_port()}"
    opened: list[object] = []
    answers: list[str] = []

    async def record(*event: object) -> None:
        opened.append(event)

    async def readyz() -> None:
        async with session.get(f"http://{address}/readyz") as response:
            answers.append(await response.text())

    async def check(*_: object, **__: object) -> None:
        await readyz()

    async def serve(_: Operator, checks: probes.Probes) -> None:
        checks.ready = (lambda: "serves",)
        await readyz()
        if answers.count("serves") == 1:
            raise HistoryLost("the Lease", 2, 1)

    replace_parts(monkeypatch, check, serve)
    trace = aiohttp.TraceConfig()
    trace.on_connection_create_end.append(record)
    async with aiohttp.ClientSession(trace_configs=[trace]) as session:
        await operator.run(Settings.model_construct(identity="me", probe_address=address))
    waits = "the API server has not been checked yet"
    assert (answers, len(opened)) == ([waits, "serves", waits, "serves"], 1)


class TestFaults:
    """The process survives them. The tests of KopfGuard have all of them."""

    async def test_error_in_the_watch_is_followed_by_a_list(
        self, api: mock.RawHandler, run: Callable[..., Running]
    ) -> None:
        status = {"kind": "Status", "code": 500, "message": "etcd:\nbroken"}
        api[f"get {PIPELINES}", WATCH] << ({"type": "ERROR", "object": status},)
        running = run()
        await until(lambda: len(api[f"get {PIPELINES}"] - api[WATCH]) > 1)
        await running.stop()

    async def test_missing_crd_is_waited_for(
        self, api: mock.RawHandler, run: Callable[..., Running]
    ) -> None:
        api[f"get {PIPELINES}"] << 404 << {"kind": "Status", "code": 404}
        running = run()
        await until(lambda: len(api[f"get {PIPELINES}"] - api[WATCH]) > 1)
        await running.stop()
