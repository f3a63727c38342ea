"""Carry out the actions of users. In an outage of the API server, an action waits."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import urllib3
from kubernetes import client

from initpipeline.api import names
from initpipeline.api.raw import Raw
from tests.api_client import Pipelines, connected
from tests.cluster.cluster import Cluster
from tests.cluster.errors import ClusterError
from tests.soak import workloads
from tests.soak.background import Background
from tests.soak.schedule import NAMESPACES, Step, User, namespace

RETRY_SECONDS: Final = 0.5
GIVE_UP_SECONDS: Final = 120.0
REQUEST_SECONDS: Final = 10.0
NOT_FOUND, CONFLICT, TOO_MANY = 404, 409, 429


class Users:
    """One thread for each namespace: its actions have the order of the schedule."""

    def __init__(self, cluster: Cluster, real: int, figures: Counter[str]) -> None:
        self._cluster = cluster
        self._real = real
        self._figures = figures

    def run(self, steps: Sequence[Step], clock: Callable[[], float]) -> None:
        """Carry out the actions at their times. Returns when all are done."""
        threads = []
        for group in {_group(one) for one in steps}:
            own = [one for one in steps if _group(one) == group]
            threads.append(Background(f"a user of {group}", partial(self._run_all, own, clock)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _run_all(self, steps: Sequence[Step], clock: Callable[[], float]) -> None:
        with connected(self._cluster.kubeconfig) as api:
            for step in steps:
                time.sleep(max(0.0, step.at - clock()))
                done = self._until_done(partial(self._act, step, api))
                self._figures[f"{'actions' if done else 'skipped'}: {step.action}"] += 1

    def request_run(self, name: str, token: str) -> None:
        """Request a run of a pipeline."""
        with connected(self._cluster.kubeconfig) as api:
            step = Step(0, User.RERUN, name, token)
            self._until_done(partial(self._act, step, api))

    def _until_done(self, action: Callable[[], object]) -> bool:
        """Repeat the action in an outage. Returns False if the object is not in the state for it,
        such as a Pod that does not exist."""
        end = time.monotonic() + GIVE_UP_SECONDS
        while True:
            try:
                action()
            except client.ApiException as error:
                if error.status == NOT_FOUND or time.monotonic() > end:
                    return False
                if error.status not in (0, CONFLICT, TOO_MANY) and error.status < 500:
                    raise
            except ClusterError:
                return False
            except (urllib3.exceptions.HTTPError, OSError):
                if time.monotonic() > end:
                    return False
            else:
                return True
            time.sleep(RETRY_SECONDS)

    def _act(self, step: Step, api: client.ApiClient) -> None:
        if step.action in ON_PODS:
            self._act_on_pod(step, api)
            return
        pipelines, name, value = Pipelines(api, namespace(step.target)), step.target, step.value
        match step.action:
            case User.CREATE:
                self._create(pipelines, name, value)
            case User.DELETE:
                pipelines.delete(name, value, **TIMEOUT)
            case User.RECREATE:
                pipelines.delete(name, "Background", **TIMEOUT)
                self._until_done(partial(self._create, pipelines, name, value))
            case _:
                pipelines.patch(name, self._change(step), **TIMEOUT)

    def _change(self, step: Step) -> Raw:
        """Return the merge patch of an action."""
        value = step.value
        template = {"template": workloads.template(step.target, value, real=self._is_real(step))}
        match step.action:
            case User.RERUN | User.REPEAT:
                return _token(value)
            case User.TEMPLATE:
                return {"spec": template}
            case User.ALL:
                return {**_token(f"with-{value}"), "spec": {**template, "backoffLimit": 2}}
            case User.POLICY:
                return {"spec": {"backoffLimit": int(value)}}
            case _:
                return {"spec": {"suspend": step.action is User.SUSPEND}}

    def _act_on_pod(self, step: Step, api: client.ApiClient) -> None:
        pods, name, value = client.CoreV1Api(api), step.target, step.value
        match step.action:
            case User.DELETE_POD:
                # Without grace, a Pod of the real node disappears before its containers have ended.
                forced = value and not self._is_real(step)
                grace = {"grace_period_seconds": int(value)} if forced else {}
                pods.delete_namespaced_pod(name, namespace(name), **grace, **TIMEOUT)
            case User.EVICT:
                eviction = {"metadata": {"name": name, "namespace": namespace(name)}}
                pods.create_namespaced_pod_eviction(name, namespace(name), eviction, **TIMEOUT)
            case User.KILL_APP:
                self._cluster.kill_container(namespace(name), name, "app")
            case User.KILL_STEP:
                self._cluster.kill_container(namespace(name), name, "one")
            case User.KILL_SANDBOX:
                self._cluster.kill_sandbox(namespace(name), name)

    def _is_real(self, step: Step) -> bool:
        return int(step.target[1:]) < self._real

    def _create(self, pipelines: Pipelines, name: str, version: str) -> None:
        body = workloads.pipeline(name, version, real=int(name[1:]) < self._real)
        pipelines.create(body, **TIMEOUT)


TIMEOUT: Final[dict[str, Any]] = {"_request_timeout": REQUEST_SECONDS}
ON_PODS: Final = frozenset(
    {User.DELETE_POD, User.EVICT, User.KILL_APP, User.KILL_STEP, User.KILL_SANDBOX}
)


def _token(token: str) -> Raw:
    return {"metadata": {"annotations": {names.RERUN_ANNOTATION: token}}}


def _group(step: Step) -> str:
    return namespace(step.target)


def create_namespaces(kubeconfig: Path) -> None:
    """Create the namespaces of all pipelines."""
    with connected(kubeconfig) as api:
        for number in range(NAMESPACES):
            body = {"metadata": {"name": f"soak-{number}"}}
            client.CoreV1Api(api).create_namespace(body)
