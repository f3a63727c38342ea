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
from tests.kubectl import Kubectl


@pytest.fixture
def options(control_plane: Cluster, kubectl: Kubectl, namespace: str) -> list[str]:
    """Creates the InitPipeline "demo", whose run is initialized. Returns the arguments for it."""
    kubectl = kubectl.within(namespace)
    initialized = pod().init("one", exit=0, start=2, end=9).init("two", exit=0, start=10, end=12)
    status = InitPipelineStatus(
        run=Run(number=1, trigger=Trigger.CREATED, start_time=at(0), initialized_time=at(12)),
        init_container_statuses=tuple(initialized.raw()["status"]["initContainerStatuses"]),
    )
    raw = pipeline().raw()
    raw["metadata"] = {"name": "demo"}
    kubectl("create", "-f", "-", stdin=raw)
    patch = json.dumps({"status": status.to_api()})
    kubectl("patch", "ipl", "demo", "--subresource=status", "--type=merge", "-p", patch)
    return ["demo", "-n", namespace, "--kubeconfig", str(control_plane.kubeconfig)]


def test_chart_fits_the_width_of_the_terminal(
    options: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "90")
    assert main.main(["timeline", *options]) == 0
    out = capsys.readouterr().out
    assert "Steps of run 1" in out
    assert "succeeded in 7s" in out
    assert max(len(line) for line in out.splitlines()) <= 90
    assert "\x1b" not in out, "only terminals get colours"


def test_svg_output_is_an_image(
    options: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "demo.svg"
    assert main.main(["timeline", *options, "--output", "svg", str(file)]) == 0
    assert main.main(["timeline", *options, "-o", "svg"]) == 0
    for picture in (file.read_text(), capsys.readouterr().out):
        assert Xml.fromstring(picture).get("role") == "img"


def test_json_output_has_runs_and_steps(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["timeline", *options, "-o", "json"]) == 0
    runs, steps = json.loads(capsys.readouterr().out)["sections"]
    assert [row["label"] for row in runs["rows"] + steps["rows"]] == ["1 Created", "one", "two"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["demo.svg"], "FILE requires -o svg", id="without SVG output"),
        pytest.param(
            ["-o", "svg", "/nowhere/demo.svg"], "No such file or directory", id="missing directory"
        ),
    ],
)
def test_unusable_file_argument_is_an_error(
    arguments: list[str], message: str, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["timeline", *options, *arguments]) == 1
    assert message in capsys.readouterr().err
