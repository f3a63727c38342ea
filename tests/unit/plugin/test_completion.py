"""Shell completion without a cluster."""

from pathlib import Path

import pytest

from initpipeline.plugin import completion


@pytest.fixture(autouse=True)
def _unreachable_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets a kubeconfig whose server does not answer."""
    config = tmp_path / "config"
    config.write_text(
        "clusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'}}]\n"
        "contexts: [{name: near, context: {cluster: c}}, {name: far, context: {cluster: c}}]\n"
        "current-context: near\n"
    )
    monkeypatch.setenv("KUBECONFIG", str(config))


@pytest.mark.parametrize(
    ("arguments", "proposals"),
    [
        pytest.param(["sta"], ["status"], id="a command"),
        pytest.param(["-n", "a", "his"], ["history"], id="a command after an option"),
        pytest.param(["re"], ["rerun", "resume"], id="two commands"),
        pytest.param(["status", "-o", ""], ["json", "table", "wide", "yaml"], id="outputs"),
        pytest.param(["history", "-o", "j"], ["json"], id="outputs of another command"),
        pytest.param(["status", "--wa"], ["--watch"], id="an option"),
        pytest.param(["rerun", "shop", "--w"], ["--wait"], id="an option after a name"),
        pytest.param(["status", "--context", ""], ["far", "near"], id="contexts"),
        pytest.param(["pl"], ["plan"], id="plan"),
        pytest.param(["status", ""], [], id="names, but no answer"),
        pytest.param(["history", "a", "x"], [], id="unknown argument"),
    ],
)
def test_argument_is_completed(arguments: list[str], proposals: list[str]) -> None:
    assert completion.complete(arguments) == (proposals, completion.NO_FILES)


def test_kubeconfig_option_completes_files() -> None:
    assert completion.complete(["status", "--kubeconfig", ""]) == ([], completion.FILES)


def test_plan_completes_files() -> None:
    assert completion.complete(["plan", "-f", ""]) == ([], completion.FILES)


def test_output_has_the_format_of_cobra(capsys: pytest.CaptureFixture[str]) -> None:
    assert completion.main(["sus"]) == 0
    assert capsys.readouterr().out == "suspend\n:4\n"


def test_no_argument_completes_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert completion.main([]) == 0
    assert "status\n" in capsys.readouterr().out
