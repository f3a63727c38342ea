"""Play lives on the test cluster, with the real operator, and write down what was told of the
pipelines: in recorded/ what readers of conditions see, of every state; in manifests/argocd whole
objects, of the states that Argo CD's customizations are tested with.

Times become the same times after a beginning that is always the same.
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
from kubernetes import client, config

from initpipeline.api import names
from tests import watching
from tests.builders import stamp
from tests.cluster.cluster import Cluster
from tests.e2e.conftest import E2EEnv, reason_of, status_of
from tests.e2e.target import Target, installed
from tests.e2e.templates import two_steps
from tests.gitops.customizations import SCRIPTS
from tests.gitops.lives import LIVES, NAME
from tests.operator_process import OperatorProcess
from tests.watching import Object

FOLDER: Final = Path(__file__).parent / "recorded"
TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
STATUS: Final = ("observedGeneration", "conditions")
METADATA: Final = ("name", "generation", "deletionTimestamp", "annotations")
TOKEN: Final = "1893499200"

Choice = Callable[[Object], bool]

EXAMPLES: Final[dict[str, tuple[str, Choice]]] = {
    "progressing_new": ("becomes-ready", lambda state: "run" not in state["status"]),
    "progressing_step": ("becomes-ready", lambda s: reason_of(s, "Ready") == "StepRunning"),
    "progressing_step_failed": (
        "step-fails-for-a-while",
        lambda s: reason_of(s, "Ready").startswith("Step") and "1 time" in _message(s),
    ),
    "progressing_changed": (
        "template-changes",
        lambda s: s["metadata"]["generation"] > s["status"]["observedGeneration"] > 0,
    ),
    "progressing_no_quota": ("has-no-quota", lambda s: reason_of(s, "Ready") == "QuotaExceeded"),
    "progressing_backing_off": (
        "app-keeps-ending",
        lambda s: _backs_off(s) and status_of(s, "Ready") == "False",
    ),
    "healthy_rerun_ahead": (
        "app-keeps-ending",
        lambda s: _backs_off(s) and status_of(s, "Ready") == "True",
    ),
    "progressing_app_failed": (
        "app-fails-without-rerun",
        lambda s: reason_of(s, "Ready") == "ContainerFailed",
    ),
    "healthy": ("becomes-ready", lambda s: reason_of(s, "Ready") == "PodReady"),
    "healthy_succeeded": ("succeeds", lambda s: reason_of(s, "Ready") == "PodSucceeded"),
    "degraded_refused": (
        "is-refused-for-a-while",
        lambda s: reason_of(s, "Stalled") == "InvalidTemplate",
    ),
    "degraded": ("fails", lambda s: status_of(s, "Stalled") == "True"),
    "suspended": ("is-created-suspended", lambda s: status_of(s, "Suspended") == "True"),
}


def record(lives: Sequence[str]) -> None:
    """Record these lives, or all where none is named."""
    with (
        Cluster(f"lives-{os.getpid()}", progress=print) as cluster,
        config.new_client_from_config(str(cluster.kubeconfig), persist_config=False) as api,
        tempfile.TemporaryDirectory() as logs,
    ):
        installed(Target(cluster.kubeconfig, own=cluster))
        with OperatorProcess(cluster.kubeconfig, Path(logs) / "operator.log"):
            for life in lives or LIVES:
                print(f"recording {life}")
                _write(life, _normal(_play(api, life)))


def _play(api: client.ApiClient, life: str) -> list[Object]:
    core = client.CoreV1Api(api)
    core.create_namespace({"metadata": {"name": life}})
    env = E2EEnv(life, api, watching.pipelines(api, life), watching.pods(api, life))
    try:
        _be_watching(env)
        last = LIVES[life](env)
    finally:
        env.pipelines.end()
        env.pods.end()
    core.delete_namespace(life)
    return env.pipelines.until(NAME, last)


def _be_watching(env: E2EEnv) -> None:
    """Nothing of a life is missed that begins after the watch has told of something."""
    env.create("first", two_steps(), suspend=True)
    env.pipelines.wait("first", "something is told", lambda _: True)


def _write(life: str, states: Sequence[Object]) -> None:
    FOLDER.mkdir(exist_ok=True)
    lines = ",\n".join(json.dumps(_seen_by_readers(state)) for state in states)
    (FOLDER / f"{life}.json").write_text(f"[\n{lines}\n]\n")
    for example, (source, choice) in EXAMPLES.items():
        if source == life:
            chosen = next(filter(choice, states), None)
            assert chosen is not None, f"{life}: no state to be the example {example}"
            _write_example(f"testdata/{example}", chosen)


def _write_example(path: str, state: Object) -> None:
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


def _changed(state: Object, part: str, **fields: Any) -> Object:
    return state | {part: state[part] | fields}


def _seen_by_readers(state: Object) -> Object:
    """What kstatus and a health script read."""
    metadata, status = state["metadata"], state["status"]
    return {
        "event": state["event"],
        "apiVersion": state["apiVersion"],
        "kind": state["kind"],
        "metadata": {key: metadata[key] for key in METADATA if key in metadata},
        "spec": {"suspend": state["spec"]["suspend"]},
        "status": {key: status[key] for key in STATUS if key in status},
    }


def _backs_off(state: Object) -> bool:
    return reason_of(state, "Reconciling") == "RerunBackOff"


def _message(state: Object) -> str:
    return str(next(c["message"] for c in state["status"]["conditions"] if c["type"] == "Ready"))


def _normal(states: Sequence[Object]) -> list[Object]:
    created = datetime.fromisoformat(states[0]["metadata"]["creationTimestamp"])
    return [_without_bookkeeping(_with_times_since(created, state)) for state in states]


def _without_bookkeeping(state: Object) -> Object:
    left_out = ("managedFields", "resourceVersion", "uid")
    kept = {key: value for key, value in state["metadata"].items() if key not in left_out}
    return state | {"metadata": kept}


def _with_times_since(created: datetime, value: Any) -> Any:
    """All times, those in messages too."""
    if isinstance(value, dict):
        return {key: _with_times_since(created, one) for key, one in value.items()}
    if isinstance(value, list):
        return [_with_times_since(created, one) for one in value]
    if isinstance(value, str):
        return TIME.sub(lambda found: _since(created, found[0]), value)
    return value


def _since(created: datetime, time: str) -> str:
    return stamp((datetime.fromisoformat(time) - created).total_seconds())
