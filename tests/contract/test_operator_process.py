"""The operator's process: how it fails to start, what it logs, how it ends."""

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

from tests.cluster.cluster import Cluster
from tests.contract.conftest import allow
from tests.contract.operator_world import World, until
from tests.operator_process import OperatorProcess

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
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch", "get", "create"]},
]


class TestBadStart:
    """One line on stderr that says what to do, and exit code 1."""

    @staticmethod
    def error(kubeconfig: Path, *arguments: str) -> str:
        environment = {**os.environ, "KUBECONFIG": str(kubeconfig)}
        environment.pop("KUBERNETES_SERVICE_HOST", None)
        command = [sys.executable, "-m", "initpipeline", "run", *arguments]
        answer = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=30, check=False
        )
        lines = answer.stderr.splitlines()
        assert len(lines) == 1, answer.stderr
        assert (answer.returncode, answer.stdout) == (1, "")
        return lines[0]

    @pytest.fixture
    def kubeconfig(self, control_plane: Cluster, tmp_path: Path) -> Any:
        """Writes the administrator's, changed."""

        def write(cluster: Mapping[str, object] | None = None, user: object = None) -> Path:
            content = yaml.safe_load(control_plane.kubeconfig.read_text())
            content["clusters"][0]["cluster"] |= cluster or {}
            content["users"][0]["user"] = user or content["users"][0]["user"]
            path = tmp_path / "kubeconfig"
            path.write_text(yaml.safe_dump(content))
            return path

        return write

    def test_no_kubeconfig(self, tmp_path: Path) -> None:
        error = self.error(tmp_path / "absent")
        assert "there is no file" in error
        assert "set KUBECONFIG" in error

    def test_nobody_listens(self, kubeconfig: Any) -> None:
        error = self.error(kubeconfig(cluster={"server": "https://127.0.0.1:1"}))
        assert error.startswith("error: no answer from the API server at https://127.0.0.1:1 (")
        assert error.endswith("): check that the cluster runs and that the address is correct")

    def test_a_certificate_of_somebody_else(self, kubeconfig: Any) -> None:
        """Where no authority is named, the machine's own are asked."""
        path = kubeconfig()
        content = yaml.safe_load(path.read_text())
        del content["clusters"][0]["cluster"]["certificate-authority-data"]
        path.write_text(yaml.safe_dump(content))
        assert "CERTIFICATE_VERIFY_FAILED" in self.error(path).upper()

    def test_a_token_that_nobody_knows(self, kubeconfig: Any) -> None:
        error = self.error(kubeconfig(user={"token": "nonsense"}))
        assert "answered 401: Unauthorized: renew the credentials" in error

    def test_no_credentials(self, kubeconfig: Any) -> None:
        error = self.error(kubeconfig(user={"username": "", "password": ""}))
        assert "answered 403" in error
        assert "bind a role" in error

    def test_no_permission(self, control_plane: Cluster) -> None:
        error = self.error(control_plane.kubeconfig_for("nobody-in-particular"))
        assert error.startswith("error: not permitted to list initpipelines in all namespaces: ")

    def test_some_permissions(
        self, control_plane: Cluster, api: client.ApiClient, namespace: str
    ) -> None:
        """The first that is missing is named, and where."""
        allow(api, namespace, "half", MOST_RULES)
        error = self.error(control_plane.kubeconfig_for("half"), "--namespace", namespace)
        assert error.startswith(f'error: not permitted to delete pods in namespace "{namespace}": ')


class TestLog:
    def test_each_line_is_a_json_object(self, operator: OperatorProcess, world: World) -> None:
        world.create()
        world.wait_for_pod(run=1)
        operator.stop()
        started, run, *_, stopped = operator.lines()
        assert [line["message"] for line in (started, run, stopped)] == [
            "operator started",
            "run started",
            "operator stopped",
        ]
        assert run["pipeline"] == f"{world.namespace}/demo"
        assert (run["run"], run["trigger"], run["level"]) == (1, "Created", "INFO")

    def test_an_idle_operator_says_nothing(self, operator: OperatorProcess) -> None:
        time.sleep(1)
        assert [line["message"] for line in operator.lines()] == ["operator started"]


class TestEnd:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_is_a_clean_end(
        self, operator: OperatorProcess, world: World, number: int
    ) -> None:
        world.create()
        world.wait_for_pod(run=1)
        os.kill(operator.pid, number)
        until(lambda: not operator.running, "the end", operator.tail)
        assert (operator.stop(), operator.lines()[-1]["message"]) == (0, "operator stopped")

    def test_so_it_is_while_it_starts(self, operator: OperatorProcess) -> None:
        """Kopf has not taken over the signal yet, or asks what kinds there are."""
        assert operator.stop() == 0, operator.tail()
        assert {line["level"] for line in operator.lines()} == {"INFO"}

    def test_work_is_not_cut_short(self, operator: OperatorProcess, world: World) -> None:
        """A run that was begun has its Pod, or the next start creates it: never two."""
        world.create()
        until(lambda: world.status().get("run"), "the first run", world.status)
        operator.stop()
        operator.start()
        world.wait_for_pod(run=1)
        assert world.status()["run"]["number"] == 1
