"""The operator behind a proxy that injects faults into its requests to a real API server.

One operator runs through all tests, and its process must survive all faults.
"""

import contextlib
import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from kubernetes import client

from initpipeline.api import names
from tests.adjusted_operator import ADJUST, CLOCK_FILE
from tests.builders import pipeline
from tests.cluster.cluster import Cluster
from tests.contract.contract_env import ContractEnv, RequestCounter
from tests.faultproxy import (
    Answer,
    Cut,
    Fault,
    FaultProxy,
    Insert,
    Latency,
    LostResponse,
    Reset,
    Rule,
    Silence,
    Slow,
    Truncated,
    WatchFault,
    error_event,
)
from tests.operator_process import OperatorProcess
from tests.poll import poll_until
from tests.ports import free_port
from tests.statuses import condition

RECOVERY_SECONDS: Final = 60.0
"""Longer than any recovery, because machines are slow at times."""

SILENT_SECONDS: Final = 2.0
REFUSED_SECONDS: Final = 1.0

RETRY_SECONDS: Final = (0.2,)

ADJUSTED: Final = {
    "initpipeline.runtime.retries.RETRY_SECONDS": RETRY_SECONDS,
    "initpipeline.runtime.handlers.SILENT_SECONDS": SILENT_SECONDS,
    "initpipeline.runtime.client.SILENT_SECONDS": SILENT_SECONDS,
    "initpipeline.runtime.probes.REFUSED_SECONDS": REFUSED_SECONDS,
}

PIPELINES: Final = rf"^/apis/{names.API_VERSION}/{names.PLURAL}\?"
"""The list and the watch of InitPipelines."""
PODS: Final = r"^/api/v1/pods\?"
"""The list and the watch of Pods."""
EITHER: Final = [pytest.param(PIPELINES, id="InitPipelines"), pytest.param(PODS, id="Pods")]


class Behind:
    """An operator of all namespaces behind a proxy."""

    def __init__(
        self,
        proxy: FaultProxy,
        upstream: Path,
        operator: OperatorProcess,
        probes: str,
        clock: Path,
    ) -> None:
        """``upstream`` is the kubeconfig of the API server."""
        self.proxy, self.upstream, self.operator = proxy, upstream, operator
        self._probes, self._clock = probes, clock

    @contextlib.contextmanager
    def wall_clock_ahead(self, seconds: float) -> Iterator[None]:
        """Within the context, the operator's wall clock has jumped by these seconds."""
        self._set_clock(seconds)
        try:
            yield
        finally:
            self._set_clock(0)

    def _set_clock(self, seconds: float) -> None:
        new = self._clock.with_suffix(".new")
        new.write_text(str(seconds))
        new.rename(self._clock)  # The operator reads the file at any time.

    def probe(self, path: str) -> str:
        """Returns the response to a probe."""
        try:
            with urlopen(f"http://{self._probes}{path}", timeout=10) as response:
                return str(response.read().decode())
        except HTTPError as error:
            return error.read().decode()

    def wait_for(self, rule: Rule, name: str) -> None:
        """Wait until a request has had the fault."""
        poll_until(
            lambda: rule.hits, RECOVERY_SECONDS, f"the fault: {name}", state=self.operator.tail
        )

    def wait_until_ready(self) -> None:
        poll_until(
            lambda: self.probe("/readyz") == "ok",
            RECOVERY_SECONDS,
            "the operator is ready",
            state=lambda: (self.probe("/readyz"), self.operator.tail()),
        )


@pytest.fixture(scope="module")
def user() -> str:
    return f"operator-{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def behind(
    control_plane: Cluster, user: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Behind]:
    """Starts the operator. After all tests, checks that it has not ended."""
    folder = tmp_path_factory.mktemp("faults")
    probes = f"127.0.0.1:{free_port()}"
    with FaultProxy(folder) as proxy:
        upstream = control_plane.kubeconfig_for(user, ["system:masters"])
        kubeconfig = proxy.kubeconfig(upstream)
        arguments = ["--sweep-seconds", "99999", "--probe-address", probes]
        clock = folder / "clock"
        clock.write_text("0")
        environment = {ADJUST: json.dumps(ADJUSTED), CLOCK_FILE: str(clock)}
        log = folder / "operator.log"
        module = "tests.adjusted_operator"
        with OperatorProcess(kubeconfig, log, arguments, environment, module) as operator:
            pid = operator.pid
            behind = Behind(proxy, upstream, operator, probes, clock)
            behind.wait_until_ready()
            yield behind
            assert operator.running
            assert operator.pid == pid
            assert behind.probe("/healthz") == "ok"
            assert operator.stop() == 0
            assert "Traceback" not in log.read_text()


class Story:
    """A pipeline whose user requests one more run."""

    def __init__(self, env: ContractEnv, requests: RequestCounter, behind: Behind) -> None:
        self._env, self._requests, self._behind = env, requests, behind

    def create(self) -> None:
        self._env.create()

    def begin(self, *, created: bool = False) -> None:
        """Create the pipeline unless it was created, and wait for its first run."""
        if not created:
            self._env.create()
        self._wait(1)

    def wait_for_reason(self, reason: str) -> str:
        """Wait until Ready has this reason. Returns its message."""
        self._env.wait(
            reason, lambda s: condition(s, "Ready")["reason"] == reason, RECOVERY_SECONDS
        )
        return str(condition(self._env.status(), "Ready")["message"])

    def request(self) -> None:
        """Request another run."""
        self._env.patch({"metadata": {"annotations": {names.RERUN_ANNOTATION: "again"}}})

    def end(self) -> None:
        """Wait for the requested run, and check that nothing was done twice."""
        self._wait(2)
        self._behind.wait_until_ready()
        status = self._env.status()
        numbers = [status["run"]["number"], *(run["number"] for run in status["history"])]
        assert numbers == [2, 1]
        assert status["run"]["trigger"] == "Requested"
        assert self._requests.counts()["create pods 201"] == 2
        assert self._behind.operator.running

    def _wait(self, run: int) -> None:
        poll_until(
            lambda: self._has(run),
            RECOVERY_SECONDS,
            f"the Pod of run {run}",
            state=lambda: (self._env.status(), self._behind.operator.tail()),
        )

    def _has(self, run: int) -> bool:
        pod = self._env.pod()
        if self._env.status().get("run", {}).get("number") != run or pod is None:
            return False
        return bool(pod["metadata"]["annotations"][names.RUN_ANNOTATION] == str(run))


@pytest.fixture
def story(api: client.ApiClient, control_plane: Cluster, user: str, behind: Behind) -> Story:
    env = ContractEnv.new(api)
    return Story(env, RequestCounter(control_plane.audit_log, user, env.namespace), behind)


def event(**fields: Any) -> Insert:
    return Insert(json.dumps(fields).encode() + b"\n")


WATCH_FAULTS: Final[dict[str, WatchFault]] = {
    "cut": Cut(),
    "reset": Cut(by_reset=True),
    "expired": error_event(410),
    "internal error": error_event(500),
    "timeout": error_event(504),
    "garbage": Insert(b"garbage\n"),
    "part of an event": Insert(b'{"type":"MODIFIED","obj', ends=True),
    "event without type": event(),
    "event without metadata": event(type="MODIFIED", object={}),
    "error without code": event(type="ERROR", object={}),
    "half-open": Silence(),
}


@pytest.mark.parametrize("path", EITHER)
def test_watch_continues_after_each_fault(behind: Behind, story: Story, path: str) -> None:
    """Each fault needs a watch that works after the previous one."""
    story.begin()
    for name, fault in WATCH_FAULTS.items():
        with behind.proxy.inject(fault, path=path, watch=True, times=1) as rule:
            behind.wait_for(rule, name)
    story.request()
    story.end()


LIST_FAULTS: Final[dict[str, Fault]] = {
    "reset": Reset(),
    "expired": Answer(410),
    "forbidden": Answer(403),
    "not found": Answer(404),
    "unauthorized": Answer(401),
    "too many requests": Answer(429, retry_after=1),
    "too many requests until a date": Answer(429, retry_after="Fri, 01 Jan 2100 00:00:00 GMT"),
    "unavailable": Answer(503),
    "login page": Answer(200, body=b"<html>"),
    "empty object": Answer(200, body=b"{}"),
    "truncated body": Truncated(),
    "truncated document": Truncated(ends_well=True),
    "slow body": Slow(50_000),
}


@pytest.mark.parametrize("path", EITHER)
def test_list_is_repeated_after_each_fault(behind: Behind, story: Story, path: str) -> None:
    """The watch expires, so the operator lists. Each fault needs a list that works after the
    previous one."""
    story.begin()
    for name, fault in LIST_FAULTS.items():
        with (
            behind.proxy.inject(fault, path=path, watch=False, times=1) as rule,
            behind.proxy.inject(error_event(410), path=path, watch=True, times=1),
        ):
            behind.wait_for(rule, name)
    story.request()
    story.end()


LONG: Final = pytest.mark.long

MAY_EXIST: Final = "failed, but the Pod may exist or appear:"

REQUESTS: Final = {"POST": "/pods", "PATCH": "/status", "DELETE": "/pods/"}


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Reset(), id="reset"),
        pytest.param(LostResponse(), id="lost-response"),
        pytest.param(Answer(409), id="conflict"),
        pytest.param(Answer(429, retry_after=1), id="too-many-requests"),
        pytest.param(Answer(500), id="internal-error"),
        pytest.param(Answer(503), id="unavailable", marks=LONG),
        pytest.param(Answer(504), id="timeout", marks=LONG),
        pytest.param(Answer(401), id="unauthorized"),
        pytest.param(Truncated(), id="truncated-body", marks=LONG),
        pytest.param(Truncated(ends_well=True), id="truncated-document"),
        pytest.param(Truncated(0, ends_well=True), id="empty", marks=LONG),
        pytest.param(Latency(0.5), id="latency", marks=LONG),
    ],
)
def test_each_write_is_carried_out_once(behind: Behind, story: Story, fault: Fault) -> None:
    """The first creation of a Pod, the first write of status and the first deletion fail."""
    with contextlib.ExitStack() as stack:
        rules = [
            stack.enter_context(behind.proxy.inject(fault, method=method, path=path, times=1))
            for method, path in REQUESTS.items()
        ]
        story.begin()
        story.request()
        story.end()
    assert [rule.hits for rule in rules] == [1, 1, 1]


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        pytest.param(Answer(504, "late"), MAY_EXIST, id="timeout"),
        pytest.param(Answer(500, "etcdserver: request timed out"), MAY_EXIST, id="internal-error"),
        pytest.param(Reset(), MAY_EXIST, id="reset"),
        pytest.param(Answer(429), "failed:", id="too-many-requests"),
        pytest.param(Answer(503), MAY_EXIST, id="unavailable", marks=LONG),
        pytest.param(Answer(401), "failed:", id="unauthorized", marks=LONG),
        pytest.param(Answer(409), "failed:", id="conflict", marks=LONG),
    ],
)
def test_creations_that_fail_again_and_again_are_reported(
    behind: Behind, story: Story, fault: Fault, outcome: str
) -> None:
    with behind.proxy.inject(fault, method="POST", path="/pods"):
        story.create()
        message = story.wait_for_reason("PodRequestFailed")
        assert outcome in message
    story.begin(created=True)
    story.wait_for_reason("PodPending")
    story.request()
    story.end()


@pytest.mark.parametrize("all_refused", [False, True], ids=["watch", "watch-and-list"])
def test_refused_watches_make_the_operator_unready(behind: Behind, all_refused: bool) -> None:
    either = f"{PIPELINES}|{PODS}"
    with (
        behind.proxy.inject(Answer(403), path=either, watch=None if all_refused else True),
        behind.proxy.inject(Cut(), path=either, watch=True),
    ):
        poll_until(
            lambda: behind.probe("/readyz").count("has been failing for") == 2,
            RECOVERY_SECONDS,
            "both watches are reported",
            state=lambda: behind.probe("/readyz"),
        )
        assert behind.probe("/healthz") == "ok"
    behind.wait_until_ready()


def test_new_authority_of_the_api_server_is_loaded(behind: Behind, story: Story) -> None:
    """The file of the kubeconfig is replaced after the API server's certificate."""
    story.begin()
    behind.proxy.rotate_authority()
    poll_until(
        lambda: "CERTIFICATE_VERIFY_FAILED" in behind.operator.log.read_text(),
        RECOVERY_SECONDS,
        "the certificate is not trusted",
        state=behind.operator.tail,
    )
    behind.proxy.kubeconfig(behind.upstream)
    story.request()
    story.end()


@pytest.mark.parametrize("hours", [-2, 2])
def test_jump_of_the_wall_clock_changes_no_deadline(
    behind: Behind, api: client.ApiClient, hours: int
) -> None:
    late, early = ContractEnv.new(api), ContractEnv.new(api)
    late.create(pipeline().policy(initDeadlineSeconds=600))
    late.wait_for_pod(1)
    with behind.wall_clock_ahead(hours * 3600):
        early.create(pipeline().policy(initDeadlineSeconds=1))
        early.wait("the deadline has passed", lambda status: status.get("history"))
        late.patch({"spec": {"runHistoryLimit": 3}})
        late.wait("the change", lambda status: status["observedGeneration"] == 2)
        assert "history" not in late.status()
    [run] = early.status()["history"]
    started = datetime.fromisoformat(run["startTime"])
    assert abs(datetime.now(UTC) - started).total_seconds() < RECOVERY_SECONDS


@pytest.mark.long
def test_partition_makes_the_operator_unready(behind: Behind, story: Story) -> None:
    """Connections stay open, and nothing arrives."""
    story.begin()
    with behind.proxy.partition():
        poll_until(lambda: behind.probe("/readyz") != "ok", RECOVERY_SECONDS, "not ready")
        story.request()
        assert behind.probe("/healthz") == "ok"
    story.end()
