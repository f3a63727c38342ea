"""`kubectl initpipeline timeline` on a real API server."""

import json
from pathlib import Path
from xml.etree import ElementTree as Xml

import pytest

from initpipeline.api.models import InitPipelineStatus, Run
from initpipeline.api.reasons import Trigger
from initpipeline.plugin import main
from tests.builders import at, pipeline, pod
from tests.cluster.cluster import Cluster
from tests.contract.conftest import Kubectl


@pytest.fixture
def options(control_plane: Cluster, kubectl: Kubectl, namespace: str) -> list[str]:
    """Of a namespace with the InitPipeline "demo", which is initialized and has a sidecar."""
    where = ["-n", namespace]
    shown = pod().init("one", exit=0, start=2, end=9).init("two", exit=0, start=10, end=12)
    status = InitPipelineStatus(
        run=Run(number=1, trigger=Trigger.CREATED, start_time=at(0), initialized_time=at(12)),
        init_container_statuses=tuple(shown.raw()["status"]["initContainerStatuses"]),
    )
    raw = pipeline().raw()
    raw["metadata"] = {"name": "demo"}
    kubectl(*where, "create", "-f", "-", stdin=raw)
    patch = json.dumps({"status": status.to_api()})
    kubectl(*where, "patch", "ipl", "demo", "--subresource=status", "--type=merge", "-p", patch)
    return ["demo", *where, "--kubeconfig", str(control_plane.kubeconfig)]


def test_in_the_terminal(
    options: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "90")
    assert main.main(["timeline", *options]) == 0
    out = capsys.readouterr().out
    assert "Steps of run 1" in out
    assert "succeeded in 7s" in out
    assert max(len(line) for line in out.splitlines()) <= 90
    assert "\x1b" not in out, "no colours where there is no terminal"


def test_as_svg(options: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "demo.svg"
    assert main.main(["timeline", *options, "--output", "svg", str(file)]) == 0
    assert main.main(["timeline", *options, "-o", "svg"]) == 0
    for picture in (file.read_text(), capsys.readouterr().out):
        assert Xml.fromstring(picture).get("role") == "img"


def test_as_data(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["timeline", *options, "-o", "json"]) == 0
    runs, steps = json.loads(capsys.readouterr().out)["sections"]
    assert [row["label"] for row in runs["rows"] + steps["rows"]] == ["1 Created", "one", "two"]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        pytest.param(["demo.svg"], "a file is for --output svg, not for chart", id="not asked for"),
        pytest.param(
            ["-o", "svg", "/nowhere/demo.svg"], "No such file or directory", id="no place"
        ),
    ],
)
def test_a_file_that_cannot_be(
    more: list[str], words: str, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["timeline", *options, *more]) == 1
    assert words in capsys.readouterr().err
