"""The kubectl plugin on a real API server: its requests, its writes, its output.

An operator runs only if a test starts one. Otherwise the test writes the status.
"""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client

from initpipeline.api import names
from initpipeline.plugin import completion
from tests.api_client import allow, manifest
from tests.builders import NAME, fresh_pod, pipeline, running_pod
from tests.cluster.cluster import Cluster
from tests.contract.contract_env import ContractEnv
from tests.faultproxy import Answer, FaultProxy
from tests.kubectl import Kubectl
from tests.operator_process import OperatorProcess
from tests.plugin import Call, PluginResult, run_plugin
from tests.statuses import condition, is_ready
from tests.unit.core.simulation import new_pipeline, started

pytest_plugins = ["tests.contract.operator_fixtures"]


@pytest.fixture
def call(
    control_plane: Cluster,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Call:
    """Returns a function that runs the plugin in the test's namespace, by default as the
    administrator."""
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig))

    def call(
        *arguments: str, kubeconfig: Path | None = None, namespace: str = namespace
    ) -> PluginResult:
        options = ["--kubeconfig", str(kubeconfig)] if kubeconfig else []
        options += ["-n", namespace] if namespace else []
        return run_plugin(capsys, *arguments, *options)

    return call


class TestNames:
    def test_similar_name_is_suggested(self, call: Call, env: ContractEnv) -> None:
        env.create()
        result = call("status", "dmeo")
        assert result == PluginResult(
            4,
            "",
            f'error: no InitPipeline "dmeo" in namespace "{env.namespace}": did you mean demo?\n',
        )

    def test_namespace_that_has_the_name_is_suggested(
        self, call: Call, api: client.ApiClient
    ) -> None:
        elsewhere = ContractEnv.new(api)
        elsewhere.create(pipeline())
        result = call("history", NAME)
        assert result.code == 4
        assert elsewhere.namespace in result.err
        assert result.err.rstrip().endswith("; choose the namespace with -n")

    def test_all_namespaces_option_finds_a_name_in_another_namespace(
        self, call: Call, api: client.ApiClient
    ) -> None:
        """The name is unique to this test."""
        other = ContractEnv.new(api)
        other.pipelines.create(manifest("only-here", pipeline().raw()["spec"]))
        result = call("status", "only-here", "-A", "-o", "json", namespace="")
        assert json.loads(result.out)["namespace"] == other.namespace

    def test_name_with_resource_as_printed_by_kubectl_is_accepted(
        self, call: Call, env: ContractEnv, kubectl: Kubectl
    ) -> None:
        env.create()
        [name] = kubectl("get", "ipl", "-n", env.namespace, "-o", "name").split()
        assert call("status", name).code == 0

    @pytest.mark.usefixtures("env")
    def test_empty_namespace_is_reported_on_stderr(self, call: Call, namespace: str) -> None:
        assert call("status") == PluginResult(
            0, "", f'no InitPipelines in namespace "{namespace}"; -A lists all namespaces\n'
        )


class TestNotUsable:
    """The exit code is 3, and the error is one line with the remedy."""

    def test_missing_permission_is_an_error_with_a_remedy(
        self, call: Call, control_plane: Cluster, namespace: str
    ) -> None:
        result = call("status", kubeconfig=control_plane.kubeconfig_for("unprivileged"))
        assert (result.code, result.out) == (3, "")
        assert 'User "unprivileged" cannot list resource "initpipelines"' in result.err
        assert result.err.rstrip().endswith(
            f"see kubectl auth can-i list initpipelines -n {namespace}"
        )

    def test_invalid_token_is_an_error(
        self, call: Call, control_plane: Cluster, tmp_path: Path
    ) -> None:
        config = kubeconfig(control_plane, tmp_path, {"token": "not one"})
        result = call("status", kubeconfig=config)
        assert result.code == 3
        assert "does not accept the credentials of context" in result.err

    def test_unknown_certificate_authority_is_an_error_of_one_line(
        self, call: Call, control_plane: Cluster, tmp_path: Path
    ) -> None:
        document = yaml.safe_load(control_plane.kubeconfig.read_text())
        del document["clusters"][0]["cluster"]["certificate-authority-data"]
        config = tmp_path / "config"
        config.write_text(yaml.safe_dump(document))
        result = call("status", kubeconfig=config)
        assert result.code == 3
        assert "certificate verify failed" in result.err
        assert len(result.err.splitlines()) == 1


class TestAdmission:
    """A webhook or a policy denies the request, with an HTTP code that its author chose."""

    WEBHOOK = 'admission webhook "w" denied the request: configmaps "rules" not found'
    POLICY = "initpipelines \"demo\" is forbidden: ValidatingAdmissionPolicy 'p' denied the request"

    @pytest.mark.parametrize(
        ("code", "message", "details"),
        [
            (400, WEBHOOK, {}),
            (401, WEBHOOK, {}),
            (401, POLICY, {}),
            (403, WEBHOOK, {}),
            (403, POLICY, {"name": "demo", "kind": "initpipelines"}),
            (404, WEBHOOK, {}),
            (404, WEBHOOK, {"name": "rules", "kind": "configmaps"}),
            (409, WEBHOOK, {}),
            (503, WEBHOOK, {}),
        ],
    )
    def test_denied_request_is_an_error_with_the_message_of_admission(
        self,
        call: Call,
        env: ContractEnv,
        control_plane: Cluster,
        tmp_path: Path,
        code: int,
        message: str,
        details: dict[str, str],
    ) -> None:
        env.create()
        status = {"kind": "Status", "code": code, "message": message, "details": details}
        with FaultProxy(tmp_path) as proxy:
            config = proxy.kubeconfig(control_plane.kubeconfig)
            with proxy.inject(Answer(code, body=json.dumps(status).encode()), method="PATCH"):
                result = call("rerun", NAME, kubeconfig=config)
            server = proxy.server
        assert result == PluginResult(
            1, "", f"error: {server} refused the request ({code}): {message}\n"
        )


def kubeconfig(cluster: Cluster, directory: Path, user: dict[str, Any]) -> Path:
    """Writes the cluster's kubeconfig with another user."""
    document = yaml.safe_load(cluster.kubeconfig.read_text())
    document["users"][0]["user"] = user
    path = directory / "kubeconfig"
    path.write_text(yaml.safe_dump(document))
    return path


class TestExecCredentials:
    """The exec plugin returns the certificate of a user, and counts its calls."""

    @pytest.fixture
    def script(self, tmp_path: Path) -> Path:
        path = tmp_path / "login.py"
        path.write_text(
            "import base64, json, pathlib, sys, yaml\n"
            "source, version, count = sys.argv[1:]\n"
            "with pathlib.Path(count).open('a') as file: file.write('called\\n')\n"
            "user = yaml.safe_load(pathlib.Path(source).read_text())['users'][0]['user']\n"
            "decoded = lambda name: base64.b64decode(user[name + '-data']).decode()\n"
            "print(json.dumps({'apiVersion': version, 'kind': 'ExecCredential', 'status': {\n"
            "    'clientCertificateData': decoded('client-certificate'),\n"
            "    'clientKeyData': decoded('client-key')}}))\n"
        )
        return path

    @pytest.mark.parametrize("version", ["v1", "v1beta1"])
    def test_credentials_of_an_exec_plugin_are_used_once(
        self,
        call: Call,
        env: ContractEnv,
        control_plane: Cluster,
        tmp_path: Path,
        script: Path,
        version: str,
    ) -> None:
        env.create()
        source = control_plane.kubeconfig_for("logged-in", ["system:masters"])
        version = f"client.authentication.k8s.io/{version}"
        arguments = [str(script), str(source), version, str(tmp_path / "count")]
        exec_plugin = {
            "apiVersion": version,
            "command": sys.executable,
            "args": arguments,
            "interactiveMode": "Never",
        }
        config = kubeconfig(control_plane, tmp_path, {"exec": exec_plugin})
        result = call("rerun", NAME, kubeconfig=config)
        assert (result.code, result.err) == (0, "")
        fields = (env.pipeline() or {})["metadata"]["managedFields"]
        assert "kubectl-initpipeline" in [entry["manager"] for entry in fields]
        assert (tmp_path / "count").read_text() == "called\n"


def write_status(env: ContractEnv, status: dict[str, Any]) -> None:
    """Write a status, as the operator would."""
    env.pipelines.patch_status(NAME, status)


def test_status_prints_the_status_of_the_api(call: Call, env: ContractEnv) -> None:
    env.create()
    write_status(env, started(running_pod()).status.to_api())
    result = call("status", NAME)
    assert result.code == 0
    assert result.out.splitlines()[0] == f"demo  namespace {env.namespace}  Ready  PodReady  2/2"
    assert "\x1b" not in result.out, "only terminals get colours"


def test_status_of_a_stalled_pipeline_exits_with_1(call: Call, env: ContractEnv) -> None:
    env.create()
    failed = fresh_pod().init("one", exit=1).phase("Failed").restarts("Never")
    write_status(env, started(failed).status.to_api())
    assert call("status", NAME).code == 1


def test_status_watch_of_a_suspended_pipeline_ends_with_1(call: Call, env: ContractEnv) -> None:
    env.create(replace(pipeline(), policies={"suspend": True}))
    write_status(env, new_pipeline(suspend=True).reconcile(None).status.to_api())
    result = call("status", NAME, "--watch")
    assert result.code == 1
    assert result.out.splitlines()[0] == (
        f"demo  namespace {env.namespace}  Suspended  Suspended  0/2"
    )


@pytest.mark.parametrize("output", ["json", "yaml"])
@pytest.mark.parametrize("command", ["status", "history"])
def test_json_and_yaml_output_can_be_parsed(
    call: Call, env: ContractEnv, command: str, output: str
) -> None:
    env.create()
    write_status(env, started(running_pod()).status.to_api())
    shown = call(command, NAME, "-o", output).out
    data = json.loads(shown) if output == "json" else yaml.safe_load(shown)
    assert (data["run"] if command == "status" else data[0])["number"] == 1


class TestWrites:
    def test_rerun_sets_only_the_token(self, call: Call, env: ContractEnv) -> None:
        env.create()
        before = env.pipeline() or {}
        result = call("rerun", NAME)
        after = env.pipeline() or {}
        token = after["metadata"]["annotations"][names.RERUN_ANNOTATION]
        assert result.out == f"initpipeline.initpipeline.dev/demo rerun requested ({token})\n"
        assert after["spec"] == before["spec"]
        assert after["metadata"]["generation"] == before["metadata"]["generation"]

    def test_suspend_and_resume_set_the_field_once(self, call: Call, env: ContractEnv) -> None:
        env.create()
        outputs = []
        for command in ("suspend", "suspend", "resume", "resume"):
            outputs.append(call(command, NAME).out.removeprefix(f"{names.SINGULAR}.{names.GROUP}/"))
            assert (env.pipeline() or {})["spec"]["suspend"] is (command == "suspend")
        assert outputs == [
            "demo suspended\n",
            "demo already suspended\n",
            "demo resumed\n",
            "demo already resumed\n",
        ]

    def test_missing_name_among_several_exits_with_4_after_the_others(
        self, call: Call, env: ContractEnv
    ) -> None:
        env.create()
        result = call("suspend", NAME, "missing")
        assert result.code == 4
        assert (env.pipeline() or {})["spec"]["suspend"] is True

    def test_wait_without_operator_times_out_with_124(self, call: Call, env: ContractEnv) -> None:
        env.create()
        result = call("rerun", NAME, "--wait", "--timeout", "1s")
        assert result.code == 124
        last = result.err.splitlines()[-1]
        assert last.startswith("error: timed out; demo: no run yet")
        assert f"; to see why: kubectl initpipeline explain {NAME}" in last


class TestWithAnOperator:
    @pytest.mark.usefixtures("call", "operator")
    def test_rerun_with_wait_ends_when_its_run_is_ready(self, env: ContractEnv) -> None:
        env.create()
        env.run_pod(running_pod())
        env.wait("run 1 is Ready", is_ready)
        command = [sys.executable, "-c", "import sys; from initpipeline.plugin import main;"]
        command[-1] += "sys.exit(main.main())"
        arguments = ["rerun", NAME, "--wait", "--timeout", "60s", "-n", env.namespace]
        with subprocess.Popen([*command, *arguments], stderr=subprocess.PIPE, text=True) as waiting:
            env.wait("the request", lambda s: s["run"]["number"] == 2)
            env.delete_pod()
            env.run_pod(running_pod(2), run=2)
            _, errors = waiting.communicate(timeout=60)
        assert waiting.returncode == 0, errors
        assert errors.splitlines()[-1] == "demo: run 2 is Ready: the Pod is Ready"

    def test_explain_reports_a_stopped_operator(
        self, call: Call, env: ContractEnv, operator: OperatorProcess
    ) -> None:
        """While the operator runs, it is not reported as absent."""
        env.create()
        env.run_pod(fresh_pod().init("one", running=True))
        env.wait("the step runs", lambda s: condition(s, "Ready")["reason"] == "StepRunning")
        assert json.loads(call("explain", NAME, "-o", "json").out)["operator"] == {
            "absent": None,
            "undone": [],
        }
        operator.stop()
        call("rerun", NAME)
        shown = call("explain", NAME).out
        assert shown.startswith("The operator does not appear to be running, or does not watch ")
        assert 'it still has to do this: start run 2 (Requested) and delete the Pod "demo"' in shown


class TestWarnings:
    """Warnings of explain that only events report."""

    @pytest.fixture
    def waiting(self, env: ContractEnv, operator: OperatorProcess) -> ContractEnv:  # noqa: ARG002
        """Returns an environment with a step that waits for a volume, and a kubelet warning."""
        env.create()
        env.run_pod(fresh_pod())
        pod = env.pod() or {}
        about = {"kind": "Pod", "namespace": env.namespace, "name": NAME}
        event = {
            "metadata": {"name": "warned", "namespace": env.namespace},
            "involvedObject": about | {"uid": pod["metadata"]["uid"]},
            "type": "Warning",
            "reason": "FailedMount",
            "message": 'secret "keys" not found',
            "lastTimestamp": "2030-01-01T12:00:00Z",
        }
        other = event | {"metadata": {"name": "of-another", "namespace": env.namespace}}
        other |= {"involvedObject": about | {"uid": "another"}, "reason": "Unhealthy"}
        for one in (event, other):
            client.CoreV1Api(env.api).create_namespaced_event(env.namespace, one)
        return env

    @pytest.mark.usefixtures("waiting")
    def test_warnings_are_those_of_the_pod(self, call: Call) -> None:
        warnings = json.loads(call("explain", NAME, "-o", "json").out)["podWarnings"]
        assert [(one["reason"], one["message"]) for one in warnings] == [
            ("FailedMount", 'secret "keys" not found')
        ]

    def test_warnings_are_omitted_without_permission_to_list_events(
        self, call: Call, waiting: ContractEnv, control_plane: Cluster
    ) -> None:
        rules = [
            {"apiGroups": [names.GROUP], "resources": [names.PLURAL], "verbs": ["get", "list"]},
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]},
        ]
        allow(waiting.api, waiting.namespace, "reader", rules)
        result = call("explain", NAME, kubeconfig=control_plane.kubeconfig_for("reader"))
        assert (result.code, result.err) == (0, "")
        assert "StepPending" in result.out
        assert "Warnings" not in result.out


class TestCompletion:
    @pytest.mark.parametrize(
        ("arguments", "proposals"),
        [
            pytest.param(["status", ""], [NAME], id="names"),
            pytest.param(["rerun", "x", "d"], [NAME], id="further names"),
            pytest.param(["logs", NAME, ""], ["app", "one", "two"], id="steps"),
            pytest.param(["logs", NAME, "t"], ["two"], id="a step"),
            pytest.param(["logs", "missing", ""], [], id="steps of a missing pipeline"),
        ],
    )
    @pytest.mark.usefixtures("call")
    def test_names_and_steps_are_completed(
        self, env: ContractEnv, arguments: list[str], proposals: list[str]
    ) -> None:
        env.create()
        completed, _ = completion.complete([arguments[0], "-n", env.namespace, *arguments[1:]])
        assert completed == proposals

    @pytest.mark.usefixtures("call")
    def test_namespaces_are_completed(self, namespace: str) -> None:
        assert namespace in completion.complete(["status", "-n", "test-"])[0]

    @pytest.mark.usefixtures("call")
    def test_kubectl_runs_both_programs(
        self, control_plane: Cluster, env: ContractEnv, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """kubectl finds the plugin and its completion on the PATH."""
        env.create()
        monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")

        def kubectl(*arguments: str) -> str:
            command = [str(control_plane.kubectl), *arguments]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout

        arguments = ["initpipeline", "status", "-n", env.namespace]
        assert kubectl("__complete", *arguments, "").splitlines() == [NAME, ":4"]
        assert kubectl(*arguments).splitlines()[1].startswith(f"{NAME}  NotReady")
