"""`kubectl initpipeline wrap` prints manifests on stdout and remarks on stderr."""

import io
from pathlib import Path

import pytest
import yaml

from initpipeline.plugin import main

DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop}
spec: {template: {spec: {initContainers: [{name: step}], containers: [{name: app}, {name: b}]}}}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "shop.yaml"
    made.write_text(DEPLOYMENT)
    return made


def test_file_is_converted_to_stdout_with_remarks_on_stderr(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["wrap", str(file)]) == 0
    out, err = capsys.readouterr()
    assert yaml.safe_load(out)["kind"] == "InitPipeline"
    assert err.splitlines()[0] == 'Deployment "shop" becomes InitPipeline "shop"'


def test_dash_reads_standard_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(DEPLOYMENT.encode())))
    assert main.main(["wrap", "-"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["metadata"] == {"name": "shop"}


def test_options_apply_to_the_pipeline_and_the_notes(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--name", "cart", "--init-container", "app", "-n", "other"]
    assert main.main(["wrap", str(file), *arguments]) == 0
    out, err = capsys.readouterr()
    pipeline = yaml.safe_load(out)
    assert pipeline["metadata"]["name"] == "cart"
    assert [c["name"] for c in pipeline["spec"]["template"]["spec"]["containers"]] == ["b"]
    assert err.splitlines()[-1].endswith("kubectl scale deployment shop --replicas=0 -n other")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(None, "No such file or directory", id="no file"),
        pytest.param(b"\xff\xfe", "can't decode", id="binary file"),
        pytest.param(
            b"kind: Service\n", "nothing to wrap: there is only Service;", id="no workload"
        ),
        pytest.param(
            DEPLOYMENT.replace("apps/v1", "v1").encode(),
            "there is only Deployment of apiVersion v1;",
            id="workload of an unsupported version",
        ),
        pytest.param(DEPLOYMENT.replace("initC", "c").encode(), "no init containers", id="no step"),
    ],
)
def test_error_is_one_line_and_stdout_is_empty(
    content: bytes | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "shop.yaml"
    if content is not None:
        file.write_bytes(content)
    assert main.main(["wrap", str(file)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err
