"""InitPipelines work with kubectl's commands."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from initpipeline.api import names
from tests.e2e.e2e_env import E2EEnv
from tests.e2e.presence import BOTH
from tests.kubectl import Kubectl
from tests.operator_process import OperatorProcess
from tests.poll import poll_until
from tests.statuses import status_of
from tests.templates import container, template

SECONDS = 60
TWO_STEPS = template(container("one", "sleep 1"), container("two", "sleep 1"))


def manifest(name: str = "shop", **spec: Any) -> dict[str, Any]:
    """Return an InitPipeline."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": name},
        "spec": {"template": TWO_STEPS, **spec},
    }


@contextmanager
def following(kubectl: Kubectl, file: Path, *arguments: str) -> Iterator[None]:
    """Run kubectl during the context, with its output in a file."""
    with file.open("w") as output:
        process = subprocess.Popen(kubectl.command(*arguments), stdout=output)
    try:
        yield
    finally:
        process.terminate()
        process.wait(SECONDS)


@pytest.mark.usefixtures("operator")
def test_get_watch_wait_and_describe_report_the_run(kubectl: Kubectl, tmp_path: Path) -> None:
    # All of these commands only read, so they share a pipeline.
    output = tmp_path / "output"
    with following(kubectl, output, "get", "ipl", "--watch", "-o", "wide", "--output-watch-events"):
        kubectl("create", "-f", "-", stdin=manifest())
        for condition in ("Initialized", "Ready"):
            kubectl("wait", f"--for=condition={condition}", "ipl/shop", f"--timeout={SECONDS}s")
        poll_until(lambda: "PodReady" in output.read_text(), SECONDS, "kubectl prints PodReady")
    rows = [line.split() for line in output.read_text().splitlines()]
    assert [name for name in rows[0] if name != "EVENT"] == (
        ["NAME", "READY", "INIT", "STEP", "RUNS", "REASON", "AGE", "POD", "NODE", "TRIGGER"]
    )
    steps = [row[3:5] for row in rows if "StepRunning" in row]
    assert list(map(list, dict.fromkeys(map(tuple, steps)))) == [["0/2", "one"], ["1/2", "two"]]
    event, name, ready, progress, run, reason, _age, pod, _node, trigger = rows[-1]
    assert (event, name, ready, progress, run) == ("MODIFIED", "shop", "True", "2/2", "1")
    assert (reason, pod, trigger) == ("PodReady", "shop", "Created")

    description = " ".join(kubectl("describe", "ipl", "shop").split())
    assert "Message: the Pod is Ready" in description
    assert "Initialized Time:" in description
    assert "run 1 started (Created)" in description, "an event"


@pytest.mark.usefixtures("operator")
@pytest.mark.parametrize("options", [(), ("--server-side",)], ids=["client-side", "server-side"])
def test_diff_and_apply_of_an_unchanged_manifest_are_empty(
    kubectl: Kubectl, env: E2EEnv, options: tuple[str, ...]
) -> None:
    """Neither defaults nor the operator's writes appear in the diff."""
    kubectl("apply", *options, "-f", "-", stdin=manifest())
    assert kubectl("diff", *options, "-f", "-", stdin=manifest()) == ""
    env.wait_ready("shop", run=1)
    assert kubectl("diff", *options, "-f", "-", stdin=manifest()) == ""
    applied = kubectl("apply", *options, "-f", "-", stdin=manifest())
    assert applied.strip().endswith(("unchanged", "serverside-applied"))
    assert env.pipeline("shop")["metadata"]["generation"] == 1


@pytest.mark.usefixtures("operator")
def test_server_side_apply_keeps_the_fields_of_each_manager(kubectl: Kubectl, env: E2EEnv) -> None:
    def apply(manager: str, **spec: Any) -> str:
        body = manifest() | {"spec": spec}
        options = ("--server-side", f"--field-manager={manager}")
        return kubectl("apply", *options, "-f", "-", stdin=body)

    apply("developer", template=TWO_STEPS)
    apply("platform", initDeadlineSeconds=300, backoffLimit=2)
    env.wait_ready("shop", run=1)

    # Neither manager conflicts with the operator or removes the other's fields.
    more = template(*TWO_STEPS["spec"]["initContainers"], container("three", "true"))
    apply("developer", template=more)
    apply("platform", initDeadlineSeconds=600, backoffLimit=2)
    second = env.wait_ready("shop", run=2)
    assert second["status"]["initProgress"] == "3/3"
    assert second["spec"]["initDeadlineSeconds"] == 600

    with pytest.raises(subprocess.CalledProcessError) as refused:
        apply("developer", template=more, backoffLimit=0)
    assert 'conflict with "platform": .spec.backoffLimit' in refused.value.stderr


@pytest.mark.parametrize("presence", BOTH)
def test_delete_honours_each_cascade_option(
    kubectl: Kubectl, env: E2EEnv, operator: OperatorProcess, presence: Any
) -> None:
    ways = ("background", "foreground", "orphan")
    kubectl("create", "-f", "-", stdin=[manifest(way) for way in ways])
    pods = {way: env.wait_ready(way, run=1)["status"]["podUID"] for way in ways}

    with presence(operator):
        for way in ways:
            kubectl("delete", "ipl", way, f"--cascade={way}", f"--timeout={SECONDS}s")
        env.wait_gone("background", pods["background"])
        # kubectl waits until the pipeline is gone, which is deleted after its Pod.
        kubectl("wait", "--for=delete", "pod/foreground", "--timeout=1ms")
    orphan = env.pod("orphan")
    assert orphan["metadata"]["uid"] == pods["orphan"]
    assert "ownerReferences" not in orphan["metadata"]
    assert "deletionTimestamp" not in orphan["metadata"]
    assert status_of(orphan, "Ready") == "True"


def test_pipeline_without_an_operator_is_deleted(kubectl: Kubectl) -> None:
    """The operator sets no finalizer, so none has to be removed."""
    kubectl("create", "-f", "-", stdin=manifest())
    kubectl("delete", "ipl", "shop", f"--timeout={SECONDS}s")
    assert kubectl("get", "ipl", "-o", "name") == ""
