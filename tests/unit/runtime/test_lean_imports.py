"""What the operator's process imports. Each test has a process of its own, because other tests
import the whole official client."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml

UNUSED = (
    "initpipeline.plugin",
    "kubernetes.client",
    "pykube",
    "requests",
    "rich",
    # Only if an endpoint for traces is set.
    "initpipeline.runtime.trace_export",
    "opentelemetry",
    "google",
)
"""Packages that the operator does not use."""


def run(code: str, **environment: str) -> Any:
    """Returns the value that the code has assigned to ``result``."""
    code = f"{code}\nimport json; print(json.dumps(result))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def kubeconfig(folder: Path, user: dict[str, Any]) -> str:
    """Writes a kubeconfig and returns its path."""
    named = {"cluster": {"server": "https://example.test:6443"}, "user": user}
    context = {"cluster": "one", "user": "one"}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "one",
        "clusters": [{"name": "one", "cluster": named["cluster"]}],
        "users": [{"name": "one", "user": named["user"]}],
        "contexts": [{"name": "one", "context": context}],
    }
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(document))
    return str(path)


class TestModules:
    def test_import_of_operator_loads_no_unused_package(self) -> None:
        modules = run("import sys, initpipeline.runtime.main\nresult = list(sys.modules)")
        unused = [name for name in modules if name.startswith(UNUSED)]
        assert unused == []

    @pytest.mark.parametrize(
        ("environment", "loaded"),
        [({}, False), ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}, True)],
    )
    def test_run_loads_opentelemetry_only_if_an_endpoint_is_set(
        self, environment: dict[str, str], loaded: bool
    ) -> None:
        """There is no cluster, which the operator finds out after it has prepared traces."""
        code = (
            "import sys\n"
            "from initpipeline.runtime.main import main\n"
            "assert main(['run']) == 1\n"
            "result = 'opentelemetry' in sys.modules"
        )
        assert run(code, KUBECONFIG="/nonexistent", **environment) is loaded

    def test_import_of_operator_loads_only_configuration_of_official_client(self) -> None:
        modules = run("import sys, initpipeline.runtime.main\nresult = list(sys.modules)")
        loaded = [name for name in modules if name.startswith("kubernetes.aio.client")]
        expected = ["configuration", "exceptions"]
        assert sorted(loaded) == [f"kubernetes.aio.client.{name}" for name in expected]

    def test_later_import_gets_whole_official_client(self) -> None:
        code = (
            "from initpipeline.runtime.lean_imports import Configuration, config\n"
            "import kubernetes.aio, kubernetes.client\n"
            "from kubernetes.aio import config as whole\n"
            "aio = kubernetes.aio.client\n"
            "result = [kubernetes.client.V1Pod.__name__, aio.CoreV1Api.__name__,\n"
            "          aio.Configuration is Configuration, whole is config]"
        )
        assert run(code) == ["V1Pod", "CoreV1Api", True, True]

    def test_earlier_import_of_official_client_is_kept(self) -> None:
        code = (
            "import kubernetes.aio\n"
            "from initpipeline.runtime.lean_imports import Configuration\n"
            "result = [kubernetes.aio.client.Configuration is Configuration,\n"
            "          kubernetes.aio.client.ApiClient.__name__]"
        )
        assert run(code) == [True, "ApiClient"]


class TestCredentials:
    CODE = (
        "import asyncio\n"
        "from initpipeline.runtime.client import load_configuration\n"
        "async def token():\n"
        "    loaded = await load_configuration()\n"
        "    return loaded.host, await loaded.get_api_key_with_prefix('BearerToken')\n"
        "result = asyncio.run(token())"
    )
    EXEC: ClassVar = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": sys.executable,
        "args": [
            "-c",
            "import json; print(json.dumps({'apiVersion': 'client.authentication.k8s.io/v1', "
            "'kind': 'ExecCredential', 'status': {'token': 'issued'}}))",
        ],
        "interactiveMode": "Never",
    }

    @pytest.mark.parametrize(
        ("user", "token"), [({"token": "static"}, "static"), ({"exec": EXEC}, "issued")]
    )
    def test_kubeconfig_has_token(self, tmp_path: Path, user: dict[str, Any], token: str) -> None:
        loaded = run(self.CODE, KUBECONFIG=kubeconfig(tmp_path, user))
        assert loaded == ["https://example.test:6443", f"Bearer {token}"]
