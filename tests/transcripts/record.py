"""Runs the documented commands on a cluster with the operator, and records the responses to them.

The steps of the documented pipelines take a minute at most, to keep the recording short.
"""

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import requests
import yaml
from kubernetes import client

from initpipeline.api.raw import Raw
from tests import watching
from tests.api_client import connected, manifest
from tests.cluster.cluster import Cluster
from tests.e2e.e2e_env import E2EEnv
from tests.e2e.target import Target, installed
from tests.gitops.scenarios import RUN_NUMBER
from tests.kubectl import Kubectl
from tests.operator_process import OperatorProcess
from tests.poll import poll_until
from tests.statuses import reason_of, run_number
from tests.templates import IMAGE, container, sidecar, template
from tests.transcripts.transcript import PROGRAM, Transcript, in_folder, key_of, run

NAMESPACE: Final = "default"
WAIT_SECONDS: Final = 240.0
MIGRATE: Final = 'echo "migrating to 0042"; sleep 1'
FAULT: Final = "echo 'relation \"users\" does not exist'; exit 3"
SERVE: Final = "trap exit TERM; sleep 3600 & wait"


def shop(migrate: str, *, image: str = IMAGE, **policies: Any) -> Raw:
    """Returns the pipeline of the first section."""
    steps = (
        container("wait-for-db", "sleep 2"),
        sidecar("proxy", SERVE),
        container("migrate", migrate) | {"image": image},
        container("warm-cache", "sleep 1"),
    )
    limits = {
        "initDeadlineSeconds": 600,
        "initPolicies": [{"name": "migrate", "maxRestarts": 5}],
    }
    return manifest("shop", {"template": template(*steps, app=SERVE), **limits, **policies})


def history_of_demo(env: E2EEnv) -> None:
    """Lets the pipeline "demo" have runs that end in different ways, for the timeline."""
    script = {
        1: "sleep 60",
        2: "sleep 2; exit 1",
        5: "[ -e /scratch/2 ] && exec sleep 60; touch /scratch/2; sleep 2; exit 1",
    }
    cases = "".join(f"{run}) {what};; " for run, what in script.items())
    mounted = {"volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}], "env": [RUN_NUMBER]}
    app = 'trap exit TERM; [ "$RUN" = 3 ] && { sleep 15; exit 1; }; sleep 3600 & wait'

    def of(fetch: str) -> dict[str, Any]:
        pod = template(
            container("fetch", fetch),
            sidecar("proxy", SERVE),
            container("migrate", f'case "$RUN" in {cases}*) sleep 2;; esac', **mounted),
            container("warm-cache", "sleep 2"),
            app=app,
            volumes=[{"name": "scratch", "emptyDir": {}}],
        )
        pod["spec"]["containers"][0]["env"] = [RUN_NUMBER]
        return pod

    once = [{"name": "migrate", "maxRestarts": 0}]
    env.create("demo", of("sleep 2"), initPolicies=once, backoffLimit=3, runHistoryLimit=3)
    _wait(env, "demo", _runs(1, "migrate"))
    env.set("demo", template=of("sleep 3"))
    _wait(env, "demo", lambda state: run_number(state) == 3)
    env.wait_ready("demo", run=4)
    env.set("demo", initPolicies=None)
    env.delete_pod("demo")
    _wait(env, "demo", lambda state: run_number(state) == 5)
    _wait_for_step(env, "demo", "migrate", lambda step: step["restartCount"] == 1 and _is_on(step))


@dataclass
class Recorder:
    """Runs commands as a user does, and records them."""

    kubectl: Kubectl
    transcripts: list[Transcript] = field(default_factory=list)

    def record(self, command: str, files: dict[str, str] | None = None) -> None:
        """Run a command of the plugin, with these files in the working directory."""
        print(f"recording {command}")
        responses: dict[str, dict[str, Any]] = {}
        send = requests.Session.send

        def recorded(
            session: requests.Session, request: requests.PreparedRequest, **options: Any
        ) -> requests.Response:
            response = send(session, request, **options)
            body = _without_managed_fields(response.json())
            responses[key_of(request)] = {"code": response.status_code, "body": body}
            return response

        now = datetime.now(UTC)
        full = f"{PROGRAM}{command}"
        with (
            tempfile.TemporaryDirectory() as folder,
            in_folder(folder, files or {}),
            patch.dict("os.environ", KUBECONFIG=str(self.kubectl.kubeconfig)),
            patch.object(requests.Session, "send", recorded),
        ):
            out, _ = run(full, now)
        transcript = Transcript(full, now.isoformat(), responses, files or {})
        last = command.partition(" | kubectl ")[2]
        if last:
            transcript = replace(transcript, piped=self.kubectl(*last.split(), stdin=out))
        self.transcripts.append(transcript)


def record() -> list[Transcript]:
    """Returns the transcripts of a new cluster."""
    with (
        Cluster(f"transcripts-{os.getpid()}", progress=print) as cluster,
        connected(cluster.kubeconfig) as api,
        tempfile.TemporaryDirectory() as logs,
    ):
        installed(Target(cluster.kubeconfig, own=cluster))
        pipelines, pods = watching.pipelines(api, NAMESPACE), watching.pods(api, NAMESPACE)
        env = E2EEnv(NAMESPACE, api, pipelines, pods)
        recorder = Recorder(Kubectl(cluster.kubeconfig, NAMESPACE))
        operator = OperatorProcess(cluster.kubeconfig, Path(logs) / "operator.log")
        try:
            with operator:
                _failing_step(env, recorder)
                _warning(env, recorder)
                operator.stop()
                env.request_run("api", "2026-01")
                recorder.record("explain api | head -2")
                operator.start()
                _wrapped(recorder)
                history_of_demo(env)
                recorder.record("timeline demo")
        finally:
            pipelines.end()
            pods.end()
    return recorder.transcripts


def _failing_step(env: E2EEnv, recorder: Recorder) -> None:
    kubectl = recorder.kubectl
    steps = [container(f"step-{number}", "true") for number in range(1, 5)]
    env.create_ready("api", template(*steps, app=SERVE))
    kubectl("apply", "-f", "-", stdin=shop(f"{MIGRATE}; {FAULT}"))
    _wait_for_step(env, "shop", "migrate", lambda step: step["restartCount"] == 2 and _failed(step))
    _wait(env, "shop", lambda state: reason_of(state, "Ready") == "StepFailed")
    recorder.record("status")
    recorder.record("explain shop")
    recorder.record("status shpo")
    kubectl("apply", "-f", "-", stdin=shop(MIGRATE))
    env.wait_ready("shop", run=2)
    recorder.record("status shop --watch")
    recorder.record("history shop")
    recorder.record("logs shop --run 1")
    changed = yaml.safe_dump(shop(MIGRATE, image="busybox:1.37", backoffLimit=3))
    recorder.record("plan -f shop.yaml", {"shop.yaml": changed})


def _warning(env: E2EEnv, recorder: Recorder) -> None:
    mounted = {"volumeMounts": [{"name": "config", "mountPath": "/config"}]}
    volume = {"name": "config", "secret": {"secretName": "web"}}
    env.create("web", template(container("one", "true", **mounted), volumes=[volume]))
    core = client.CoreV1Api(env.api)

    def repeated() -> bool:
        events = core.list_namespaced_event(NAMESPACE, field_selector="reason=FailedMount")
        return any((event.count or 0) > 3 for event in events.items)

    poll_until(repeated, WAIT_SECONDS, "the kubelet has reported the missing secret several times")
    recorder.record("explain web | grep -A 1 Warnings")


def _wrapped(recorder: Recorder) -> None:
    """Records the conversion of a Deployment. The InitPipeline of that name must not exist."""
    recorder.kubectl("delete", "ipl", "shop", "web")
    steps = [container("migrate", "true")]
    labels = {"app": "shop"}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "shop", "labels": labels},
        "spec": {
            "replicas": 3,
            "minReadySeconds": 5,
            "selector": {"matchLabels": labels},
            "template": template(*steps, app=SERVE) | {"metadata": {"labels": labels}},
        },
    }
    command = "wrap shop.yaml | kubectl apply -f -"
    recorder.record(command, {"shop.yaml": yaml.safe_dump(deployment)})


def _wait(env: E2EEnv, name: str, condition: Callable[[Raw], bool]) -> Raw:
    return env.pipelines.wait(name, "the next state", condition, seconds=WAIT_SECONDS)


def _wait_for_step(env: E2EEnv, name: str, step: str, condition: Callable[[Raw], bool]) -> None:
    def met(state: Raw) -> bool:
        statuses = state.get("status", {}).get("initContainerStatuses", [])
        return any(one["name"] == step and condition(one) for one in statuses)

    _wait(env, name, met)


def _runs(number: int, step: str) -> Callable[[Raw], bool]:
    def met(state: Raw) -> bool:
        return run_number(state) == number and state["status"].get("currentStep") == step

    return met


def _failed(step: Raw) -> bool:
    return "terminated" in step["state"]


def _is_on(step: Raw) -> bool:
    return "running" in step["state"]


def _without_managed_fields(body: Any) -> Any:
    """Returns a response without what the plugin does not read, so that the file is short."""
    for one in [body, *body.get("items", ())]:
        one.get("metadata", {}).pop("managedFields", None)
    return body
