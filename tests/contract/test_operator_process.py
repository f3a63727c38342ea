"""The operator's process: errors at its start, its log, its end."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client

from initpipeline.api import names
from initpipeline.api.raw import Raw
from initpipeline.api.times import parse_time
from initpipeline.core.pod import Pod
from tests.api_client import allow
from tests.builders import fresh_pod, running_pod
from tests.cluster.cluster import Cluster
from tests.contract.contract_env import TIMEOUT_SECONDS, ContractEnv
from tests.operator_process import OperatorProcess
from tests.poll import poll_until
from tests.statuses import is_ready, runs_in

pytest_plugins = ["tests.contract.operator_fixtures"]

MOST_RULES = [
    {
        "apiGroups": ["initpipeline.dev"],
        "resources": ["initpipelines"],
        "verbs": ["list", "watch", "get", "delete"],
    },
    {
        "apiGroups": ["initpipeline.dev"],
        "resources": ["initpipelines/status"],
        "verbs": ["patch"],
    },
    {
        "apiGroups": ["initpipeline.dev"],
        "resources": ["initpipelines/finalizers"],
        "verbs": ["update"],
    },
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch", "get", "create"]},
]


class TestStartError:
    """An error at the start is one line on stderr with the remedy, and exit code 1."""

    @staticmethod
    def error(kubeconfig: Path, *arguments: str) -> str:
        """Run the operator. Returns its error."""
        environment = {**os.environ, "KUBECONFIG": str(kubeconfig)}
        environment.pop("KUBERNETES_SERVICE_HOST", None)
        command = [sys.executable, "-m", "initpipeline", "run", *arguments]
        process = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=30, check=False
        )
        lines = process.stderr.splitlines()
        assert len(lines) == 1, process.stderr
        assert (process.returncode, process.stdout) == (1, "")
        return lines[0]

    @pytest.fixture
    def kubeconfig(self, control_plane: Cluster, tmp_path: Path) -> Any:
        """Returns a function that writes the administrator's kubeconfig with changes."""

        def write(cluster: Mapping[str, object] | None = None, user: object = None) -> Path:
            content = yaml.safe_load(control_plane.kubeconfig.read_text())
            content["clusters"][0]["cluster"] |= cluster or {}
            content["users"][0]["user"] = user or content["users"][0]["user"]
            path = tmp_path / "kubeconfig"
            path.write_text(yaml.safe_dump(content))
            return path

        return write

    def test_missing_kubeconfig_is_an_error_with_a_remedy(self, tmp_path: Path) -> None:
        error = self.error(tmp_path / "absent")
        assert "there is no file" in error
        assert "set KUBECONFIG" in error

    def test_unknown_certificate_authority_is_an_error(self, kubeconfig: Any) -> None:
        """Without an authority in the kubeconfig, those of the machine apply."""
        path = kubeconfig()
        content = yaml.safe_load(path.read_text())
        del content["clusters"][0]["cluster"]["certificate-authority-data"]
        path.write_text(yaml.safe_dump(content))
        assert "CERTIFICATE_VERIFY_FAILED" in self.error(path).upper()

    def test_invalid_token_is_an_error_with_a_remedy(self, kubeconfig: Any) -> None:
        error = self.error(kubeconfig(user={"token": "nonsense"}))
        assert "answered 401: Unauthorized: renew the credentials" in error

    def test_anonymous_access_is_an_error_with_a_remedy(self, kubeconfig: Any) -> None:
        error = self.error(kubeconfig(user={"username": "", "password": ""}))
        assert "answered 403" in error
        assert "bind a role" in error

    def test_missing_list_permission_is_an_error_that_names_it(
        self, control_plane: Cluster
    ) -> None:
        error = self.error(control_plane.kubeconfig_for("unprivileged"))
        assert error.startswith("error: not permitted to list initpipelines in all namespaces: ")

    def test_first_missing_permission_is_named_with_its_namespace(
        self, control_plane: Cluster, api: client.ApiClient, namespace: str
    ) -> None:
        allow(api, namespace, "half", MOST_RULES)
        error = self.error(control_plane.kubeconfig_for("half"), "--namespace", namespace)
        assert error.startswith(f'error: not permitted to delete pods in namespace "{namespace}": ')


def lines_of(operator: OperatorProcess, run_id: str) -> list[Raw]:
    return [line for line in operator.lines() if line.get("run_id") == run_id]


def pod_uid(env: ContractEnv) -> str:
    pod = env.pod()
    assert pod is not None
    return str(pod["metadata"]["uid"])


class TestLog:
    def test_run_can_be_followed_by_one_field_through_the_log(
        self, operator: OperatorProcess, env: ContractEnv
    ) -> None:
        """The log has one JSON object per line. The second run is not in the lines of the first."""
        env.create()
        states = (fresh_pod(), fresh_pod().init("one", exit=7, message="hunter2"), running_pod())
        env.run_pod(*states)
        env.wait("Ready", is_ready)
        uid = pod_uid(env)
        env.delete_pod()
        env.wait_for_pod(run=2)
        poll_until(
            lambda: lines_of(operator, f"{env.namespace}/demo#2"),
            TIMEOUT_SECONDS,
            "the second run in the log",
            state=operator.tail,
        )
        operator.stop()
        lines = lines_of(operator, f"{env.namespace}/demo#1")
        assert [(line["message"], line.get("step")) for line in lines] == [
            ("Pod created", None),
            ("run started", None),
            ("step failed", "one"),
            ("step completed", "one"),
            ("step completed", "two"),
            ("run initialized", None),
            ("run ended", None),
        ]
        created, _, failed, *_, ended = lines
        assert created["pod_uid"] == uid
        assert failed["exit_code"] == 7
        assert (ended["result"], ended["reason"]) == ("Lost", "PodLost")
        [fields] = {
            (one["pipeline"], one["run"], one["trigger"], one["trace_id"], one["level"])
            for one in lines
        }
        assert fields[:3] == (f"{env.namespace}/demo", 1, "Created")
        assert "hunter2" not in operator.log.read_text(), "the end of a container's log"
        messages = [line["message"] for line in operator.lines()]
        assert messages[:2] == ["operator started", "Lease acquired"]
        assert messages[-2:] == ["Lease released", "operator stopped"]

    def test_idle_operator_logs_nothing(self, operator: OperatorProcess) -> None:
        time.sleep(1)
        assert [line["message"] for line in operator.lines()] == [
            "operator started",
            "Lease acquired",
        ]


class TestStop:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_signal_ends_the_operator_with_0(
        self, operator: OperatorProcess, env: ContractEnv, number: int
    ) -> None:
        env.create()
        env.wait_for_pod(run=1)
        os.kill(operator.pid, number)
        poll_until(
            lambda: not operator.running,
            TIMEOUT_SECONDS,
            "the end of the process",
            state=operator.tail,
        )
        assert (operator.stop(), operator.lines()[-1]["message"]) == (0, "operator stopped")

    def test_signal_during_the_start_ends_the_operator_with_0(
        self, operator: OperatorProcess
    ) -> None:
        """Kopf has not installed its signal handlers yet, or discovers the resources."""
        assert operator.stop() == 0, operator.tail()
        assert {line["level"] for line in operator.lines()} == {"INFO"}

    def test_first_pod_is_adopted_across_a_restart(
        self, operator: OperatorProcess, env: ContractEnv
    ) -> None:
        """The operator may stop before or after it has written the first status."""
        env.create()
        created = Pod.from_api(env.wait_for_pod(run=1))
        operator.stop()
        operator.start()
        run = env.wait("the first run", lambda status: status.get("run"))
        assert (run["number"], run["podUID"]) == (1, created.uid)
        assert parse_time(run["startTime"]) == created.created_at
        assert env.wait_for_pod(run=1)["metadata"]["uid"] == created.uid

    def test_rerun_requested_before_the_first_status_is_served_after_a_restart(
        self, operator: OperatorProcess, env: ContractEnv
    ) -> None:
        env.create()
        env.wait_for_pod(run=1)
        operator.stop()
        env.patch({"metadata": {"annotations": {names.RERUN_ANNOTATION: "now"}}})
        operator.start()
        status = env.wait("the second run", lambda s: len(runs_in(s)) == 2 and s)
        assert runs_in(status) == [(1, "Created", "Superseded"), (2, "Requested", "")]
        env.wait_for_pod(run=2)
