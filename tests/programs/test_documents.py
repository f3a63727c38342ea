"""The commands of the documents succeed on a real kubelet, in the order of a user's work."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.cluster.build import built as program
from tests.cluster.cluster import Cluster
from tests.cluster.helm import HELM
from tests.cluster.progress import Lines
from tests.documents.commands import ROOT, Section, sections
from tests.documents.runs import JOURNEY, is_elsewhere
from tests.image.build import IMAGE as BUILT
from tests.image.build import built
from tests.kubectl import Kubectl
from tests.kubectl import program as kubectl_program
from tests.poll import poll_until

pytestmark = [pytest.mark.cluster, pytest.mark.long]

COPIED: Final = ("manifests", "crds")
IMAGE: Final = "registry.example/initpipeline:0.1.0"
SYSTEM: Final = "initpipeline-system"
SECONDS: Final = 300
WATCH_SECONDS: Final = 5
NOTHING_FOUND: Final = 1
"""The exit code of grep without a match."""
TIMED_OUT: Final = 124

CONTAINER: Final = {"image": "busybox:1.36", "command": ["sh", "-c", "sleep 3600"]}
DEPLOYMENT: Final = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web"},
    "spec": {
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {
                "initContainers": [{**CONTAINER, "name": "prepare", "command": ["true"]}],
                "containers": [{**CONTAINER, "name": "app"}],
            },
        },
    },
}

BEFORE: Final = {
    "Metrics": "kubectl create namespace monitoring",
    "InitPipelineNotRunning": "kubectl apply -f manifests/examples/volume-permissions.yaml",
    "Restore": "kubectl delete ipl --all && kubectl wait pod --all --for=delete --timeout=2m",
    "Label existing InitPipelines": "kubectl -n default label ipl notes initpipeline.dev/bucket-",
    "Uninstall": "kubectl apply -k manifests/production",
    "Install with Helm": f"kubectl wait namespace/{SYSTEM} --for=delete --timeout=2m",
}
"""What the text of a section asks for before its commands."""


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Start a cluster whose node has the operator's image, under the name of the documents."""
    image = built(Lines())
    with Cluster(f"documents-{os.getpid()}") as cluster:
        cluster.import_image(image)
        cluster.tag_image(BUILT, IMAGE)
        yield cluster


@pytest.fixture
def shell(cluster: Cluster, tmp_path: Path) -> "Shell":
    return Shell(cluster, tmp_path)


class Shell:
    """A user's terminal, in a copy of the files that the commands name."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self._folder = folder / "initpipeline"
        for name in COPIED:
            shutil.copytree(ROOT / name, self._folder / name, symlinks=True)
        (self._folder / "deploy.yaml").write_text(json.dumps(DEPLOYMENT))
        tools = folder / "bin"
        tools.mkdir()
        (tools / "kubectl").symlink_to(kubectl_program())
        (tools / "helm").symlink_to(program(HELM, Lines()) / "helm")
        self._kubectl = Kubectl(cluster.kubeconfig)
        self._environment = {
            "KUBECONFIG": str(cluster.kubeconfig),
            "PATH": os.pathsep.join(
                [str(tools), str(Path(sys.executable).parent), os.environ["PATH"]]
            ),
            "HOME": str(folder),
            "IMAGE": IMAGE,
        }

    def write(self, section: Section) -> None:
        """Write the files of the section."""
        for name, content in section.files:
            file = self._folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)

    def run(self, command: str) -> None:
        """Run the command, which must succeed. A search may find nothing, and a watch is ended."""
        text = command.replace("POD", self._a_pod()) if "/pods/POD" in command else command
        is_watch = text.rstrip().endswith(("-w", "--watch"))
        seconds = WATCH_SECONDS if is_watch else SECONDS
        done = subprocess.run(
            ["timeout", str(seconds), "bash", "-o", "pipefail", "-c", text],
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        expected = {0}
        if is_watch:
            expected = {TIMED_OUT}
        elif "| grep" in text and not done.stderr:
            expected = {0, NOTHING_FOUND}
        assert done.returncode in expected, f"$ {text}\n{done.stdout}{done.stderr}"

    def runs(self) -> list[int]:
        """Return the numbers of the runs of the InitPipeline `notes`, the oldest first."""
        status = self._kubectl.json("get", "ipl", "notes")["status"]
        earlier = [run["number"] for run in status.get("history", ())]
        return [*sorted(earlier), status["run"]["number"]]

    def wait_for_runs(self, expected: list[int]) -> None:
        """Wait until these are the numbers of the runs."""
        poll_until(lambda: self.runs() == expected, SECONDS, f"runs {expected}", state=self.runs)

    def restart_the_operator(self) -> None:
        """Let each container of the operator end, so that its log has an earlier part."""
        for pod in self._pods():
            end = ("python", "-c", "import os, signal; os.kill(1, signal.SIGTERM)")
            self._kubectl("exec", "-n", SYSTEM, pod, "--", *end)
            restarted = "--for=jsonpath={.status.containerStatuses[0].restartCount}=1"
            self._kubectl("wait", "-n", SYSTEM, f"pod/{pod}", restarted, "--timeout=60s")
            self._kubectl("wait", "-n", SYSTEM, f"pod/{pod}", "--for=condition=Ready")

    def _a_pod(self) -> str:
        return self._pods()[0]

    def _pods(self) -> list[str]:
        pods = self._kubectl.within(SYSTEM).json("get", "pods")["items"]
        return [pod["metadata"]["name"] for pod in pods]


def _journey() -> Iterator[Section]:
    for document, heading in JOURNEY:
        for section in sections():
            if section.document == document and heading in ("*", section.heading):
                yield section


def test_commands_of_the_documents_succeed(shell: Shell) -> None:
    failures = []
    for section in _journey():
        shell.write(section)
        if section.heading == "InitPipelineNotRunning":
            shell.restart_the_operator()
        before = shell.runs() if section.heading == "Restore" else []
        for command in [BEFORE.get(section.heading, ""), *section.commands]:
            if not command or is_elsewhere(section.document, command):
                continue
            print(f"{section.document} $ {command}", flush=True)
            try:
                shell.run(command)
            except AssertionError as failure:
                failures.append(f"{section.document}, {section.heading}: {failure}")
        if before:
            shell.wait_for_runs([*before, before[-1] + 1])
    assert not failures, "\n".join(failures)
