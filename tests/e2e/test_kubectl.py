"""InitPipelines in the hands of a person with kubectl."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from initpipeline.api import names
from tests.e2e.conftest import E2EEnv, status_of
from tests.e2e.presence import gone, there
from tests.e2e.templates import container, template
from tests.kubectl import Kubectl
from tests.operator_process import OperatorProcess
from tests.poll import poll_until

SECONDS = 60
TWO_STEPS = template(container("one", "sleep 1"), container("two", "sleep 1"))


def manifest(name: str = "shop", **spec: Any) -> dict[str, Any]:
    """An InitPipeline, as a file has it."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": name},
        "spec": {"template": TWO_STEPS, **spec},
    }


@contextmanager
def following(kubectl: Kubectl, file: Path, *arguments: str) -> Iterator[None]:
    """kubectl with its output in a file, for as long as the block lasts."""
    with file.open("w") as output:
        process = subprocess.Popen(kubectl.command(*arguments), stdout=output)
    try:
        yield
    finally:
        process.terminate()
        process.wait(SECONDS)


@pytest.mark.usefixtures("operator")
def test_a_pipeline_is_created_followed_waited_for_and_described(
    kubectl: Kubectl, tmp_path: Path
) -> None:
    """One pipeline for what does not change it."""
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

    told = " ".join(kubectl("describe", "ipl", "shop").split())
    assert "Message: the Pod is Ready" in told
    assert "Initialized Time:" in told
    assert "run 1 started (Created)" in told, "an event"


@pytest.mark.usefixtures("operator")
@pytest.mark.parametrize("options", [(), ("--server-side",)], ids=["client-side", "server-side"])
def test_what_was_applied_is_no_difference_once_it_has_run(
    kubectl: Kubectl, env: E2EEnv, options: tuple[str, ...]
) -> None:
    """Neither the defaults nor what the operator writes."""
    kubectl("apply", *options, "-f", "-", stdin=manifest())
    assert kubectl("diff", *options, "-f", "-", stdin=manifest()) == ""
    env.wait_ready("shop", run=1)
    assert kubectl("diff", *options, "-f", "-", stdin=manifest()) == ""
    applied = kubectl("apply", *options, "-f", "-", stdin=manifest())
    assert applied.strip().endswith(("unchanged", "serverside-applied"))
    assert env.pipeline("shop")["metadata"]["generation"] == 1


@pytest.mark.usefixtures("operator")
def test_two_field_managers_each_keep_their_own(kubectl: Kubectl, env: E2EEnv) -> None:
    def apply(manager: str, **spec: Any) -> str:
        body = manifest() | {"spec": spec}
        options = ("--server-side", f"--field-manager={manager}")
        return kubectl("apply", *options, "-f", "-", stdin=body)

    apply("developer", template=TWO_STEPS)
    apply("platform", initDeadlineSeconds=300, backoffLimit=2)
    env.wait_ready("shop", run=1)

    # Neither is in conflict with the operator, nor takes the other's away.
    more = template(*TWO_STEPS["spec"]["initContainers"], container("three", "true"))
    apply("developer", template=more)
    apply("platform", initDeadlineSeconds=600, backoffLimit=2)
    second = env.wait_ready("shop", run=2)
    assert second["status"]["initProgress"] == "3/3"
    assert second["spec"]["initDeadlineSeconds"] == 600

    with pytest.raises(subprocess.CalledProcessError) as refused:
        apply("developer", template=more, backoffLimit=0)
    assert 'conflict with "platform": .spec.backoffLimit' in refused.value.stderr


@pytest.mark.parametrize(
    "presence", [pytest.param(there, id="operator-there"), pytest.param(gone, id="operator-gone")]
)
def test_each_way_to_delete_does_what_it_says(
    kubectl: Kubectl, env: E2EEnv, operator: OperatorProcess, presence: Any
) -> None:
    ways = ("background", "foreground", "orphan")
    kubectl("create", "-f", "-", stdin=[manifest(way) for way in ways])
    pods = {way: env.wait_ready(way, run=1)["status"]["podUID"] for way in ways}

    with presence(operator):
        for way in ways:
            kubectl("delete", "ipl", way, f"--cascade={way}", f"--timeout={SECONDS}s")
        env.wait_gone("background", pods["background"])
        # kubectl waits for the pipeline, and the pipeline for its Pod.
        kubectl("wait", "--for=delete", "pod/foreground", "--timeout=1ms")
    orphan = env.pod("orphan")
    assert orphan["metadata"]["uid"] == pods["orphan"]
    assert "ownerReferences" not in orphan["metadata"]
    assert "deletionTimestamp" not in orphan["metadata"]
    assert status_of(orphan, "Ready") == "True"


def test_one_that_was_never_served_is_deleted(kubectl: Kubectl) -> None:
    """No operator was ever there to set a finalizer, and none is needed to remove one."""
    kubectl("create", "-f", "-", stdin=manifest())
    kubectl("delete", "ipl", "shop", f"--timeout={SECONDS}s")
    assert kubectl("get", "ipl", "-o", "name") == ""
