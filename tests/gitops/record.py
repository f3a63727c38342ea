"""Records the states of pipelines while scenarios run on the test cluster with the operator.

tests/gitops/recorded has every state of each scenario, reduced to the fields that kstatus and a
health script read. manifests/argocd has whole objects, with which Argo CD's customizations are
tested. All times are relative to a fixed start.
"""

import json
import os
import re
import tempfile
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import yaml
from kubernetes import client

from initpipeline.api import names
from initpipeline.api.raw import Raw
from tests import watching
from tests.api_client import connected
from tests.builders import stamp
from tests.cluster.cluster import Cluster
from tests.e2e.e2e_env import E2EEnv
from tests.e2e.target import Target, installed
from tests.gitops.customizations import SCRIPTS
from tests.gitops.scenarios import NAME, SCENARIOS
from tests.operator_process import OperatorProcess
from tests.statuses import backs_off, reason_of, status_of
from tests.templates import two_steps

FOLDER: Final = Path(__file__).parent / "recorded"
TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
STATUS: Final = ("observedGeneration", "conditions")
METADATA: Final = ("name", "generation", "deletionTimestamp", "annotations")
TOKEN: Final = "1893499200"

Choice = Callable[[Raw], bool]

EXAMPLES: Final[dict[str, tuple[str, Choice]]] = {
    "progressing_new": ("becomes-ready", lambda state: "run" not in state["status"]),
    "progressing_step": ("becomes-ready", lambda s: reason_of(s, "Ready") == "StepRunning"),
    "progressing_step_failed": (
        "step-fails-temporarily",
        lambda s: reason_of(s, "Ready").startswith("Step") and "1 time" in _message(s),
    ),
    "progressing_changed": (
        "template-changes",
        lambda s: s["metadata"]["generation"] > s["status"]["observedGeneration"] > 0,
    ),
    "progressing_no_quota": ("exceeds-quota", lambda s: reason_of(s, "Ready") == "QuotaExceeded"),
    "progressing_backing_off": (
        "app-keeps-restarting",
        lambda s: backs_off(s) and status_of(s, "Ready") == "False",
    ),
    "healthy_rerun_ahead": (
        "app-keeps-restarting",
        lambda s: backs_off(s) and status_of(s, "Ready") == "True",
    ),
    "progressing_app_failed": (
        "app-fails-without-rerun",
        lambda s: reason_of(s, "Ready") == "ContainerFailed",
    ),
    "healthy": ("becomes-ready", lambda s: reason_of(s, "Ready") == "PodReady"),
    "healthy_succeeded": ("succeeds", lambda s: reason_of(s, "Ready") == "PodSucceeded"),
    "degraded_refused": (
        "is-refused-temporarily",
        lambda s: reason_of(s, "Stalled") == "InvalidTemplate",
    ),
    "degraded": ("fails", lambda s: status_of(s, "Stalled") == "True"),
    "suspended": ("is-created-suspended", lambda s: status_of(s, "Suspended") == "True"),
}


def record(scenarios: Sequence[str]) -> None:
    """Records these scenarios, or all if none is given."""
    with (
        Cluster(f"scenarios-{os.getpid()}", progress=print) as cluster,
        connected(cluster.kubeconfig) as api,
        tempfile.TemporaryDirectory() as logs,
    ):
        installed(Target(cluster.kubeconfig, own=cluster))
        with OperatorProcess(cluster.kubeconfig, Path(logs) / "operator.log"):
            for scenario in scenarios or SCENARIOS:
                print(f"recording {scenario}")
                _write(scenario, _normal(_play(api, scenario)))


def _play(api: client.ApiClient, scenario: str) -> list[Raw]:
    core = client.CoreV1Api(api)
    core.create_namespace({"metadata": {"name": scenario}})
    env = E2EEnv(scenario, api, watching.pipelines(api, scenario), watching.pods(api, scenario))
    try:
        _await_watch(env)
        last = SCENARIOS[scenario](env)
    finally:
        env.pipelines.end()
        env.pods.end()
    core.delete_namespace(scenario)
    return env.pipelines.until(NAME, last)


def _await_watch(env: E2EEnv) -> None:
    """Waits until the watch has reported an object, so that it misses none of the scenario."""
    env.create("first", two_steps(), suspend=True)
    env.pipelines.wait("first", "the first state is reported", lambda _: True)


def _write(scenario: str, states: Sequence[Raw]) -> None:
    FOLDER.mkdir(exist_ok=True)
    lines = ",\n".join(json.dumps(_fields_of_health(state)) for state in states)
    (FOLDER / f"{scenario}.json").write_text(f"[\n{lines}\n]\n")
    for example, (source, choice) in EXAMPLES.items():
        if source == scenario:
            chosen = next(filter(choice, states), None)
            assert chosen is not None, f"{scenario} has no state for the example {example}"
            _write_example(f"testdata/{example}", chosen)


def _write_example(path: str, state: Raw) -> None:
    whole = {key: value for key, value in state.items() if key != "event"}
    (SCRIPTS / f"{path}.yaml").write_text(yaml.safe_dump(whole, sort_keys=False, width=100))
    if path == "testdata/healthy":
        _write_example("actions/testdata/running", state)
        annotations = state["metadata"].get("annotations", {}) | {names.RERUN_ANNOTATION: TOKEN}
        _write_example(
            "actions/testdata/rerun", _changed(state, "metadata", annotations=annotations)
        )
        _write_example("actions/testdata/suspend", _changed(state, "spec", suspend=True))
    if path == "testdata/suspended":
        _write_example("actions/testdata/suspended", state)
        _write_example("actions/testdata/resume", _changed(state, "spec", suspend=False))


def _changed(state: Raw, part: str, **fields: Any) -> Raw:
    return state | {part: state[part] | fields}


def _fields_of_health(state: Raw) -> Raw:
    """Returns the fields that kstatus and a health script read."""
    metadata, status = state["metadata"], state["status"]
    return {
        "event": state["event"],
        "apiVersion": state["apiVersion"],
        "kind": state["kind"],
        "metadata": {key: metadata[key] for key in METADATA if key in metadata},
        "spec": {"suspend": state["spec"]["suspend"]},
        "status": {key: status[key] for key in STATUS if key in status},
    }


def _message(state: Raw) -> str:
    return str(next(c["message"] for c in state["status"]["conditions"] if c["type"] == "Ready"))


def _normal(states: Sequence[Raw]) -> list[Raw]:
    created = datetime.fromisoformat(states[0]["metadata"]["creationTimestamp"])
    return [_without_bookkeeping(_with_times_since(created, state)) for state in states]


def _without_bookkeeping(state: Raw) -> Raw:
    left_out = ("managedFields", "resourceVersion", "uid")
    kept = {key: value for key, value in state["metadata"].items() if key not in left_out}
    return state | {"metadata": kept}


def _with_times_since(created: datetime, value: Any) -> Any:
    """Returns the value with all times replaced, also those in messages."""
    if isinstance(value, dict):
        return {key: _with_times_since(created, one) for key, one in value.items()}
    if isinstance(value, list):
        return [_with_times_since(created, one) for one in value]
    if isinstance(value, str):
        return TIME.sub(lambda time: _since(created, time[0]), value)
    return value


def _since(created: datetime, time: str) -> str:
    return stamp((datetime.fromisoformat(time) - created).total_seconds())
