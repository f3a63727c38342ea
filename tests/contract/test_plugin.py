"""The kubectl plugin on a real API server: what it asks, what it writes, what it says.

No operator runs but where a test starts one; the status is what a test writes.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client

from initpipeline.api import names
from initpipeline.plugin import completion, main
from tests.builders import NAME, fresh_pod, pipeline, running_pod
from tests.cluster.cluster import Cluster
from tests.contract.conftest import Kubectl, allow
from tests.contract.operator_world import World, condition, ready
from tests.operator_process import OperatorProcess
from tests.unit.core.simulation import started

pytest_plugins = ["tests.contract.operator_fixtures"]


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str


Call = Callable[..., Answer]


@pytest.fixture
def call(
    control_plane: Cluster,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Call:
    """Run it in the test's namespace, as the administrator or with another kubeconfig."""
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig))

    def call(*arguments: str, kubeconfig: Path | None = None, where: str = namespace) -> Answer:
        given = ["--kubeconfig", str(kubeconfig)] if kubeconfig else []
        code = main.main([*arguments, *given, *(["-n", where] if where else [])])
        return Answer(code, *capsys.readouterr())

    return call


class TestNames:
    def test_a_slip(self, call: Call, world: World) -> None:
        world.create()
        answer = call("status", "dmeo")
        assert answer == Answer(
            4,
            "",
            f'error: no InitPipeline "dmeo" in namespace "{world.namespace}": did you mean demo?\n',
        )

    def test_another_namespace(self, call: Call, api: client.ApiClient) -> None:
        elsewhere = World.new(api)
        elsewhere.create(pipeline())
        answer = call("history", NAME)
        assert answer.code == 4
        assert elsewhere.namespace in answer.err
        assert answer.err.rstrip().endswith("; choose the namespace with -n")

    def test_in_all_namespaces_it_is_found(self, call: Call, api: client.ApiClient) -> None:
        """By a name that no other test uses."""
        place = World.new(api).namespace
        body = {**pipeline().raw(), "metadata": {"name": "only-here"}}
        body.pop("status")
        custom = client.CustomObjectsApi(api)
        custom.create_namespaced_custom_object(
            names.GROUP, names.VERSION, place, names.PLURAL, body
        )
        answer = call("status", "only-here", "-A", "-o", "json", where="")
        assert json.loads(answer.out)["namespace"] == place

    def test_as_kubectl_prints_them(self, call: Call, world: World, kubectl: Kubectl) -> None:
        world.create()
        [name] = kubectl("get", "ipl", "-n", world.namespace, "-o", "name").split()
        assert call("status", name).code == 0

    @pytest.mark.usefixtures("world")
    def test_none_at_all(self, call: Call, namespace: str) -> None:
        assert call("status") == Answer(
            0, "", f'no InitPipelines in namespace "{namespace}"; -A lists all namespaces\n'
        )


class TestNotUsable:
    """Exit code 3, and a line that says what to do."""

    def test_no_permission(self, call: Call, control_plane: Cluster, namespace: str) -> None:
        answer = call("status", kubeconfig=control_plane.kubeconfig_for("nobody-special"))
        assert (answer.code, answer.out) == (3, "")
        assert 'User "nobody-special" cannot list resource "initpipelines"' in answer.err
        assert answer.err.rstrip().endswith(
            f"see kubectl auth can-i list initpipelines -n {namespace}"
        )

    def test_no_credentials(self, call: Call, control_plane: Cluster, tmp_path: Path) -> None:
        config = kubeconfig(control_plane, tmp_path, {"token": "not one"})
        answer = call("status", kubeconfig=config)
        assert answer.code == 3
        assert "does not accept the credentials of context" in answer.err

    def test_another_authority(self, call: Call, control_plane: Cluster, tmp_path: Path) -> None:
        document = yaml.safe_load(control_plane.kubeconfig.read_text())
        del document["clusters"][0]["cluster"]["certificate-authority-data"]
        config = tmp_path / "config"
        config.write_text(yaml.safe_dump(document))
        answer = call("status", kubeconfig=config)
        assert answer.code == 3
        assert "certificate verify failed" in answer.err
        assert len(answer.err.splitlines()) == 1


def kubeconfig(cluster: Cluster, directory: Path, user: dict[str, Any]) -> Path:
    """The cluster's, with another user."""
    document = yaml.safe_load(cluster.kubeconfig.read_text())
    document["users"][0]["user"] = user
    path = directory / "kubeconfig"
    path.write_text(yaml.safe_dump(document))
    return path


class TestExecCredentials:
    """An exec plugin that gives the certificate of a user, and counts how often it was asked."""

    @pytest.fixture
    def script(self, tmp_path: Path) -> Path:
        path = tmp_path / "login.py"
        path.write_text(
            "import base64, json, pathlib, sys, yaml\n"
            "source, version, count = sys.argv[1:]\n"
            "with pathlib.Path(count).open('a') as file: file.write('asked\\n')\n"
            "user = yaml.safe_load(pathlib.Path(source).read_text())['users'][0]['user']\n"
            "decoded = lambda name: base64.b64decode(user[name + '-data']).decode()\n"
            "print(json.dumps({'apiVersion': version, 'kind': 'ExecCredential', 'status': {\n"
            "    'clientCertificateData': decoded('client-certificate'),\n"
            "    'clientKeyData': decoded('client-key')}}))\n"
        )
        return path

    @pytest.mark.parametrize("version", ["v1", "v1beta1"])
    def test_are_used(
        self,
        call: Call,
        world: World,
        control_plane: Cluster,
        tmp_path: Path,
        script: Path,
        version: str,
    ) -> None:
        world.create()
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
        answer = call("rerun", NAME, kubeconfig=config)
        assert (answer.code, answer.err) == (0, "")
        fields = (world.pipeline() or {})["metadata"]["managedFields"]
        assert "kubectl-initpipeline" in [entry["manager"] for entry in fields]
        assert (tmp_path / "count").read_text() == "asked\n"


def write_status(world: World, status: dict[str, Any]) -> None:
    """As the operator would."""
    client.CustomObjectsApi(world.api).patch_namespaced_custom_object_status(
        names.GROUP, names.VERSION, world.namespace, names.PLURAL, NAME, {"status": status}
    )


def test_status_is_that_of_the_api(call: Call, world: World) -> None:
    world.create()
    write_status(world, started(running_pod()).status.to_api())
    answer = call("status", NAME)
    assert answer.code == 0
    assert answer.out.splitlines()[0] == f"demo  namespace {world.namespace}  Ready  PodReady  2/2"
    assert "\x1b" not in answer.out, "colours are for terminals"


def test_one_that_was_given_up_is_a_failure_to_a_script(call: Call, world: World) -> None:
    world.create()
    failed = fresh_pod().init("one", exit=1).phase("Failed").restarts("Never")
    write_status(world, started(failed).status.to_api())
    assert call("status", NAME).code == 1


@pytest.mark.parametrize("output", ["json", "yaml"])
@pytest.mark.parametrize("command", ["status", "history"])
def test_outputs_are_read_back(call: Call, world: World, command: str, output: str) -> None:
    world.create()
    write_status(world, started(running_pod()).status.to_api())
    shown = call(command, NAME, "-o", output).out
    data = json.loads(shown) if output == "json" else yaml.safe_load(shown)
    assert (data["run"] if command == "status" else data[0])["number"] == 1


class TestWrites:
    def test_rerun_sets_a_token_and_nothing_else(self, call: Call, world: World) -> None:
        world.create()
        before = world.pipeline() or {}
        answer = call("rerun", NAME)
        after = world.pipeline() or {}
        token = after["metadata"]["annotations"][names.RERUN_ANNOTATION]
        assert answer.out == f"initpipeline.initpipeline.dev/demo rerun requested ({token})\n"
        assert after["spec"] == before["spec"]
        assert after["metadata"]["generation"] == before["metadata"]["generation"]

    def test_suspend_and_resume(self, call: Call, world: World) -> None:
        world.create()
        said = []
        for command in ("suspend", "suspend", "resume", "resume"):
            said.append(call(command, NAME).out.removeprefix(f"{names.SINGULAR}.{names.GROUP}/"))
            assert (world.pipeline() or {})["spec"]["suspend"] is (command == "suspend")
        assert said == [
            "demo suspended\n",
            "demo already suspended\n",
            "demo resumed\n",
            "demo already resumed\n",
        ]

    def test_several_and_one_that_is_not_there(self, call: Call, world: World) -> None:
        world.create()
        answer = call("suspend", NAME, "nobody")
        assert answer.code == 4
        assert (world.pipeline() or {})["spec"]["suspend"] is True

    def test_a_wait_ends_in_time(self, call: Call, world: World) -> None:
        """No operator is there to answer."""
        world.create()
        answer = call("rerun", NAME, "--wait", "--timeout", "1s")
        assert answer.code == 124
        assert answer.err.splitlines()[-1].startswith("error: timed out; demo: no run yet")


class TestWithAnOperator:
    @pytest.mark.usefixtures("call", "operator")
    def test_rerun_waits_for_its_run(self, world: World) -> None:
        world.create()
        world.live(running_pod())
        world.wait("run 1 is Ready", ready)
        command = [sys.executable, "-c", "import sys; from initpipeline.plugin import main;"]
        command[-1] += "sys.exit(main.main())"
        arguments = ["rerun", NAME, "--wait", "--timeout", "60s", "-n", world.namespace]
        with subprocess.Popen([*command, *arguments], stderr=subprocess.PIPE, text=True) as waiting:
            world.wait("the request", lambda s: s["run"]["number"] == 2)
            world.delete_pod()
            world.live(running_pod(2), run=2)
            _, said = waiting.communicate(timeout=60)
        assert waiting.returncode == 0, said
        assert said.splitlines()[-1] == "demo: run 2 is Ready: the Pod is Ready"

    def test_explain_notices_that_it_is_gone(
        self, call: Call, world: World, operator: OperatorProcess
    ) -> None:
        """While it is there, what it does itself is not reported as missing."""
        world.create()
        world.live(fresh_pod().init("one", running=True))
        world.wait("the step runs", lambda s: condition(s, "Ready")["reason"] == "StepRunning")
        assert json.loads(call("explain", NAME, "-o", "json").out)["operator"] == {
            "absent": None,
            "undone": [],
        }
        operator.stop()
        call("rerun", NAME)
        shown = call("explain", NAME).out
        assert shown.startswith("The operator does not appear to be running, or does not watch ")
        assert 'has yet to start run 2 (Requested) and delete the Pod "demo"' in shown


class TestWarnings:
    """What explain tells that stands in events alone."""

    @pytest.fixture
    def waiting(self, world: World, operator: OperatorProcess) -> World:  # noqa: ARG002
        """A step waits for a volume, which the kubelet warns of."""
        world.create()
        world.live(fresh_pod())
        pod = world.pod() or {}
        about = {"kind": "Pod", "namespace": world.namespace, "name": NAME}
        event = {
            "metadata": {"name": "warned", "namespace": world.namespace},
            "involvedObject": about | {"uid": pod["metadata"]["uid"]},
            "type": "Warning",
            "reason": "FailedMount",
            "message": 'secret "keys" not found',
            "lastTimestamp": "2030-01-01T12:00:00Z",
        }
        other = event | {"metadata": {"name": "of-another", "namespace": world.namespace}}
        other |= {"involvedObject": about | {"uid": "another"}, "reason": "Unhealthy"}
        for one in (event, other):
            client.CoreV1Api(world.api).create_namespaced_event(world.namespace, one)
        return world

    @pytest.mark.usefixtures("waiting")
    def test_are_those_of_the_pod(self, call: Call) -> None:
        told = json.loads(call("explain", NAME, "-o", "json").out)["podWarnings"]
        assert [(one["reason"], one["message"]) for one in told] == [
            ("FailedMount", 'secret "keys" not found')
        ]

    def test_are_left_out_for_who_may_not_list_events(
        self, call: Call, waiting: World, control_plane: Cluster
    ) -> None:
        rules = [
            {"apiGroups": [names.GROUP], "resources": [names.PLURAL], "verbs": ["get", "list"]},
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]},
        ]
        allow(waiting.api, waiting.namespace, "reader", rules)
        answer = call("explain", NAME, kubeconfig=control_plane.kubeconfig_for("reader"))
        assert (answer.code, answer.err) == (0, "")
        assert "StepPending" in answer.out
        assert "Warnings" not in answer.out


class TestCompletion:
    @pytest.mark.parametrize(
        ("words", "proposals"),
        [
            pytest.param(["status", ""], [NAME], id="names"),
            pytest.param(["rerun", "x", "d"], [NAME], id="further names"),
            pytest.param(["logs", NAME, ""], ["app", "one", "two"], id="steps"),
            pytest.param(["logs", NAME, "t"], ["two"], id="a step"),
            pytest.param(["logs", "nobody", ""], [], id="steps of none"),
        ],
    )
    @pytest.mark.usefixtures("call")
    def test_proposals(self, world: World, words: list[str], proposals: list[str]) -> None:
        world.create()
        found, _ = completion.complete([words[0], "-n", world.namespace, *words[1:]])
        assert found == proposals

    @pytest.mark.usefixtures("call")
    def test_namespaces(self, namespace: str) -> None:
        assert namespace in completion.complete(["status", "-n", "test-"])[0]

    @pytest.mark.usefixtures("call")
    def test_kubectl_asks_for_it(
        self, control_plane: Cluster, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It finds both programs on the PATH, by their names."""
        world.create()
        monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")

        def kubectl(*arguments: str) -> str:
            command = [str(control_plane.kubectl), *arguments]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout

        words = ["initpipeline", "status", "-n", world.namespace]
        assert kubectl("__complete", *words, "").splitlines() == [NAME, ":4"]
        assert kubectl(*words).splitlines()[1].startswith(f"{NAME}  NotReady")
