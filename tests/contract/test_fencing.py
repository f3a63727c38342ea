"""A holder of the Lease is paused at each kind of write, and its write arrives late.

A proxy holds the requests of the first replica, which is then stopped (SIGSTOP). The second replica
takes the Lease over, and a user changes the InitPipelines. Only then the API server receives the
late writes. It counts the timeout of a request from its arrival, so it does not refuse them for
their age.

Each pair of a write and of what the user does has a namespace of its own.
"""

import asyncio
import contextlib
import os
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Final

from aiohttp import web
from kubernetes import client

from initpipeline.api import names
from initpipeline.api.raw import Raw
from tests.api_client import connected
from tests.builders import NAME, completed_pod, fresh_pod, pipeline, running_pod
from tests.cluster.cluster import Cluster
from tests.contract.contract_env import TIMEOUT_SECONDS, ContractEnv
from tests.contract.replicas import FAILOVER_SECONDS, Replicas, paused
from tests.faultproxy import Fault, FaultProxy
from tests.faultproxy.faults import Exchange
from tests.poll import poll_until, poll_until_stable
from tests.statuses import condition, is_ready, runs_in

pytest_plugins = ["tests.contract.operator_fixtures"]

LONG: Final = bool(os.environ.get("INITPIPELINE_DEATHS"))

PERIODS: Final = (
    *("--lease-seconds", "15" if LONG else "7"),
    *("--renew-seconds", "12" if LONG else "4"),
    *("--retry-seconds", "0.5"),
)
"""The Lease must outlast the time until all writes are held. The replicas renew it often, so that
little of it has passed when the holder is stopped."""


class Held(Fault):
    """The request is held until it is released. Then the API server receives it."""

    def __init__(self) -> None:
        self.arrived = threading.Event()
        self.code = 0
        """The code of the API server's response. 0: the request is held."""
        self._released = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def respond(self, exchange: Exchange) -> web.StreamResponse:
        self._loop = asyncio.get_running_loop()
        self.arrived.set()
        await self._released.wait()
        code, headers, body = await exchange.body()
        self.code = code
        return web.Response(status=code, headers=headers, body=body)

    def release(self) -> None:
        """Send the request to the API server. Returns when that has responded."""
        assert self._loop is not None, "no request was held"
        self._loop.call_soon_threadsafe(self._released.set)
        poll_until(lambda: self.code, TIMEOUT_SECONDS, "the late write is answered")


class Node:
    """Acts as the kubelet of terminating Pods, and as the garbage collector. Records runs."""

    def __init__(self, kubeconfig: Path) -> None:
        self._kubeconfig = kubeconfig
        self.numbers: defaultdict[str, list[int]] = defaultdict(list)
        """The numbers of each pipeline's runs in the order in which they were observed, by the
        pipeline's UID."""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Node":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        with connected(self._kubeconfig) as api:
            while not self._ended.wait(0.1):
                self._work(api)

    def _work(self, api: client.ApiClient) -> None:
        core, custom = client.CoreV1Api(api), client.CustomObjectsApi(api)
        pods = core.list_pod_for_all_namespaces().items
        list_all = custom.list_cluster_custom_object
        found = list_all(names.GROUP, names.VERSION, names.PLURAL)["items"]
        for raw in found:
            number = raw.get("status", {}).get("run", {}).get("number", 0)
            seen = self.numbers[raw["metadata"]["uid"]]
            if number and seen[-1:] != [number]:
                seen.append(number)
        uids = {raw["metadata"]["uid"] for raw in found}
        for pod in pods:
            owners = {owner.uid for owner in pod.metadata.owner_references or ()}
            if pod.metadata.deletion_timestamp or not owners & uids:
                with contextlib.suppress(client.ApiException):
                    core.delete_namespaced_pod(
                        pod.metadata.name,
                        pod.metadata.namespace,
                        body={
                            "gracePeriodSeconds": 0,
                            "preconditions": {"uid": pod.metadata.uid},
                        },
                    )


TTL: Final = (
    pipeline()
    .with_template({"spec": {**pipeline().template["spec"], "restartPolicy": "OnFailure"}})
    .policy(ttlSecondsAfterFinished=0)
)


def ready(env: ContractEnv) -> None:
    env.create()
    env.run_pod(running_pod())
    env.wait("Ready", is_ready)


def pending(env: ContractEnv) -> None:
    env.create()
    env.run_pod(fresh_pod())


def about_to_complete(env: ContractEnv) -> None:
    env.create(TTL)
    env.run_pod(running_pod().restarts("OnFailure"))
    env.wait("Ready", is_ready)


def request(env: ContractEnv, token: str = "first") -> None:
    env.patch({"metadata": {"annotations": {names.RERUN_ANNOTATION: token}}})


@dataclass(frozen=True)
class Write:
    """A write, and how to let the operator send it."""

    method: str
    path: str
    """The end of the path, after the namespace."""
    prepare: Callable[[ContractEnv], None]
    cause: Callable[[ContractEnv], None]
    ends_pipeline: bool = False
    """The next holder would delete the pipeline before the user acts. So the user acts earlier."""


PODS, POD = r"/pods\?", rf"/pods/{NAME}\?"
PIPELINE = rf"/{names.PLURAL}/{NAME}"
WRITES: Final = {
    "the first Pod": Write("POST", PODS, lambda _: None, lambda env: env.create()),
    "a report": Write(
        "PATCH", rf"{PIPELINE}/status\?", pending, lambda env: env.report(running_pod())
    ),
    "a new run": Write("PATCH", rf"{PIPELINE}/status\?", ready, request),
    "the deletion of a Pod": Write("DELETE", POD, ready, request),
    "the next Pod": Write("POST", PODS, ready, lambda env: env.delete_pod()),
    "the deletion of the pipeline": Write(
        "DELETE",
        rf"{PIPELINE}\?",
        about_to_complete,
        lambda env: env.report(completed_pod()),
        ends_pipeline=True,
    ),
    "an event": Write("POST", r"/events\?", ready, lambda env: env.delete_pod()),
}


@dataclass(frozen=True)
class Action:
    """What a user does while the holder is paused, and what the next holder then does."""

    name: str
    act: Callable[[ContractEnv], None]
    served: Callable[[ContractEnv], None]


def nothing(_: ContractEnv) -> None: ...


def answered(env: ContractEnv) -> None:
    run = env.wait("the request", lambda status: _answer(status, "second"))
    env.wait_for_pod(run["number"])


def _answer(status: Raw, token: str) -> Raw | None:
    run: Raw = status.get("run", {})
    return run if run.get("token") == token else None


def suspended(env: ContractEnv) -> None:
    env.wait("Suspended", lambda status: condition(status, "Suspended")["status"] == "True")
    poll_until(lambda: env.pod() is None, TIMEOUT_SECONDS, "the Pod is gone")


def create_again(env: ContractEnv) -> None:
    env.delete("Background")
    env.create()


def first_run(env: ContractEnv) -> None:
    def has_pod() -> bool:
        pipeline, pod = env.pipeline(), env.pod()
        assert pipeline is not None
        owners = pod["metadata"]["ownerReferences"] if pod else ()
        return [owner["uid"] for owner in owners] == [pipeline["metadata"]["uid"]]

    poll_until(has_pod, TIMEOUT_SECONDS, "the new pipeline has a Pod", state=env.status)


ACTIONS: Final = (
    Action("nothing", nothing, nothing),
    Action("a request of a run", lambda env: request(env, "second"), answered),
    Action("a suspension", lambda env: env.patch({"spec": {"suspend": True}}), suspended),
    Action("a new pipeline with the name", create_again, first_run),
)


QUIET_SECONDS: Final = 0.2
"""If the operator sends nothing for so long, it waits for responses only."""

SHORT: Final = {
    ("the first Pod", "a suspension"),
    ("a report", "a request of a run"),
    ("a new run", "a request of a run"),
    ("a new run", "a suspension"),
    ("the deletion of a Pod", "a new pipeline with the name"),
    ("the next Pod", "nothing"),
    ("the next Pod", "a suspension"),
    ("the deletion of the pipeline", "a new pipeline with the name"),
    ("an event", "a suspension"),
}
"""What `make test` plays. `make deaths` plays all pairs."""


@dataclass
class Scenario:
    """A late write, and what the user does before it arrives."""

    write: str
    action: Action
    env: ContractEnv
    held: Held = field(default_factory=Held)

    @property
    def of(self) -> Write:
        return WRITES[self.write]

    def judge(self, seen: Mapping[str, list[int]]) -> None:
        """Assert that the late write was refused or had no effect, and that no run is lost,
        repeated or started twice. ``seen`` has the numbers of the runs by pipeline."""
        name = f"late: {self.write}, meanwhile: {self.action.name}, code {self.held.code}"
        assert self.held.code in self._codes(), name
        pipeline, pod = self.env.pipeline(), self.env.pod()
        if pipeline is None:
            assert self.of.ends_pipeline, name
            assert self.action.name == "nothing", name
            return
        status = pipeline.get("status", {})
        runs, numbers = runs_in(status), seen[pipeline["metadata"]["uid"]]
        assert [number for number, _, _ in runs] == [*range(1, len(runs) + 1)], (name, runs)
        assert numbers == sorted(set(numbers)), (name, numbers)
        tokens = [run["token"] for run in status.get("history", ()) if run.get("token")]
        assert len(tokens) == len(set(tokens)), (name, tokens)
        if pipeline["spec"].get("suspend"):
            assert pod is None, name
        else:
            assert pod is not None, name
            assert pod["metadata"]["annotations"][names.RUN_ANNOTATION] == str(max(1, len(runs))), (
                name
            )
            owners = [owner["uid"] for owner in pod["metadata"]["ownerReferences"]]
            assert owners == [pipeline["metadata"]["uid"]], name

    def _codes(self) -> set[int]:
        """Returns the possible codes of the response to the late write."""
        if self.write == "an event":
            return {201}  # It reports what has happened.
        if self.of.method == "POST" and self.action.name == "a suspension":
            return {201}  # The name is free. The holder deletes the Pod.
        return {404, 409}


def scenarios(api: client.ApiClient) -> list[Scenario]:
    return [
        Scenario(write, action, ContractEnv.new(api))
        for write, action in product(WRITES, ACTIONS)
        if LONG or (write, action.name) in SHORT
    ]


@contextlib.contextmanager
def all_held(proxy: FaultProxy, played: Sequence[Scenario]) -> Iterator[list[Held]]:
    """Lets the operator send the writes, and yields them when the proxy holds all, with a renewal
    of the Lease as the last."""
    renewal = Held()
    with contextlib.ExitStack() as holds:
        for one in played:
            path = f"/namespaces/{one.env.namespace}{one.of.path}"
            holds.enter_context(proxy.inject(one.held, method=one.of.method, path=path, times=1))
        for one in played:
            one.of.cause(one.env)
        holds.enter_context(proxy.inject(renewal, method="PATCH", path="/leases/", times=1))
        held = [*(one.held for one in played), renewal]
        for write in held:
            assert write.arrived.wait(TIMEOUT_SECONDS), "a write has not arrived"
        # A pause between the last check of the time and the call of the kernel that sends would let
        # a write through. The responses to the held writes show what becomes of such a write.
        poll_until_stable(
            lambda: proxy.seen[-1], QUIET_SECONDS, TIMEOUT_SECONDS, "the operator only waits"
        )
        yield held


def act(played: Sequence[Scenario], replicas: Replicas) -> None:
    """Let the user act, and the second replica take the Lease over and serve the user."""
    for one in played:
        if one.of.ends_pipeline:
            one.action.act(one.env)
    replicas.wait_for("second")
    for one in played:
        if not one.of.ends_pipeline:
            one.action.act(one.env)
    for one in played:
        one.action.served(one.env)


def test_late_writes_of_a_paused_holder_are_refused_or_harmless(
    control_plane: Cluster, replicas: Replicas, api: client.ApiClient, user: str, tmp_path: Path
) -> None:
    played = scenarios(api)
    replicas.scope = ()
    direct = control_plane.kubeconfig_for(user, ["system:masters"])
    with FaultProxy(tmp_path) as proxy, Node(control_plane.kubeconfig) as node:
        first = replicas.start("first", *PERIODS, kubeconfig=proxy.kubeconfig(direct))
        replicas.wait_for("first")
        replicas.start("second", *PERIODS)
        for one in played:
            one.of.prepare(one.env)
        with all_held(proxy, played) as late, paused(first):
            act(played, replicas)
            for held in late:
                held.release()
            before = len(proxy.seen)
        poll_until(lambda: not first.running, FAILOVER_SECONDS, "the paused holder ends")
        written = [one for one in [*proxy.seen][before:] if one.method != "GET"]
        assert not written, "the holder has written after the pause"
        for one in played:
            one.action.served(one.env)  # The holder deletes the Pods that were created late.
            one.judge(node.numbers)
    assert late[-1].code == 409, "a renewal of the Lease arrived late"
    assert 'is lost: "second" holds it' in first.tail()
