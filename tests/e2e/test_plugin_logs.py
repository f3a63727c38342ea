"""The plugin prints the same bytes of real containers' logs as kubectl, even if streams are cut."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from initpipeline.api.raw import Raw
from tests.cluster.cluster import Cluster
from tests.e2e import node_faults, target
from tests.e2e.cutting_proxy import cutting_proxy
from tests.e2e.e2e_env import E2EEnv
from tests.kubectl import Kubectl
from tests.templates import container, sidecar, template

SECONDS = 90

ODD = (
    # A progress bar, CR LF, colours, NUL, invalid UTF-8, characters that str.splitlines() splits
    # at, an empty line, and no newline at the end.
    r"pull 10%%\rpull 60%%\rdone\r\n",
    r"\033[32mok\033[0m\n",
    r"\000nul \377\376 raw\n\n",
    r"\342\200\250ls \302\205nel\v\f\n",
    r"no newline at the end",
)
STEPS = (
    container("odd", f"printf '{''.join(ODD)}'"),
    container("long", "head -c 3000000 /dev/zero | tr '\\0' x; echo; echo planned"),
    container("crlf", "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); printf 'row %d\\r\\n' $i; done"),
    container("silent", "true"),
    sidecar("beside", "echo beside; exec sleep 3600"),
)
SLOW = container(
    "slow", "i=0; while [ $i -lt 80 ]; do i=$((i+1)); printf 'row '; sleep 0.1; echo $i; done"
)
ROWS = "".join(f"row {number}\n" for number in range(1, 81)).encode()

Logs = Callable[..., "subprocess.CompletedProcess[bytes]"]


def command(kubeconfig: Path, namespace: str, *arguments: str) -> list[str]:
    """Return the plugin's command line. It runs as a process, with its output in a pipe."""
    program = "import sys; from initpipeline.plugin import main; sys.exit(main.main())"
    options = ["--kubeconfig", str(kubeconfig), "-n", namespace]
    return [sys.executable, "-c", program, "logs", "demo", *arguments, *options]


@pytest.fixture
def logs(cluster: target.Target, env: E2EEnv) -> Logs:
    def logs(
        *arguments: str, kubeconfig: Path = cluster.kubeconfig
    ) -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run(
            command(kubeconfig, env.namespace, *arguments),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            timeout=SECONDS,
            check=False,
        )

    return logs


def kubectl_logs(kubectl: Kubectl, *arguments: str) -> bytes:
    """Return the output of kubectl logs."""
    return subprocess.run(
        kubectl.command("logs", "demo", *arguments),
        stdout=subprocess.PIPE,
        timeout=SECONDS,
        check=True,
    ).stdout


@pytest.mark.usefixtures("operator")
def test_logs_of_arbitrary_bytes_equal_those_of_kubectl(
    env: E2EEnv, kubectl: Kubectl, logs: Logs
) -> None:
    env.create("demo", template(*STEPS))
    followed = logs("-f")
    env.wait_ready("demo", 1)
    each = {step["name"]: kubectl_logs(kubectl, "-c", step["name"]) for step in STEPS}
    assert len(each["long"]) > 3_000_000
    assert each["crlf"].count(b"\n") == 3000
    assert each["odd"].endswith(b"no newline at the end")
    for name, expected in each.items():
        assert logs(name).stdout == expected
    every = b"".join(each.values())
    assert logs().stdout == every
    assert (followed.returncode, followed.stdout) == (0, every)
    assert logs("odd", "-f").stdout == each["odd"]


def second_attempt_runs(state: Raw) -> bool:
    steps = state.get("status", {}).get("initContainerStatuses", ())
    return any(step.get("restartCount") and "running" in step["state"] for step in steps)


@pytest.mark.usefixtures("operator")
def test_logs_of_the_previous_attempt_equal_those_of_kubectl(
    env: E2EEnv, kubectl: Kubectl, logs: Logs
) -> None:
    once = "test -e /data/seen && exec sleep 3600; touch /data/seen; printf 'a\\rb\\377'; exit 1"
    fails = container("fails", once, volumeMounts=[{"name": "data", "mountPath": "/data"}])
    env.create("demo", template(fails, volumes=[{"name": "data", "emptyDir": {}}]))
    env.pipelines.wait("demo", "a second attempt", second_attempt_runs)
    assert logs("fails", "-p").stdout == kubectl_logs(kubectl, "-c", "fails", "-p") == b"a\rb\xff"


@pytest.mark.usefixtures("operator")
def test_logs_followed_during_a_kubelet_restart_are_complete(
    env: E2EEnv, cluster: target.Target, node: Cluster
) -> None:
    """The container and its log continue during the restart."""
    env.create("demo", template(SLOW))
    env.wait_reason("demo", "StepRunning")
    following = subprocess.Popen(
        command(cluster.kubeconfig, env.namespace, "-f"),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,  # communicate() would lose what a buffered readline() has read ahead
    )
    assert following.stdout is not None
    first = following.stdout.readline()
    with node_faults.kubelet_stopped(env.api, node):
        pass
    rest, err = following.communicate(timeout=SECONDS)
    assert (following.returncode, first + rest) == (0, ROWS), err


@pytest.mark.usefixtures("operator")
def test_logs_followed_through_a_cutting_load_balancer_are_complete(
    env: E2EEnv, cluster: target.Target, logs: Logs, tmp_path: Path
) -> None:
    env.create("demo", template(SLOW))
    env.wait_reason("demo", "StepRunning")
    with cutting_proxy(cluster.kubeconfig, tmp_path / "kubeconfig", 1.7) as kubeconfig:
        followed = logs("-f", kubeconfig=kubeconfig)
    assert (followed.returncode, followed.stdout) == (0, ROWS), followed.stderr
    notes = followed.stderr.decode().splitlines()
    assert any("was interrupted, retrying" in note for note in notes)


@pytest.mark.usefixtures("operator")
def test_logs_with_a_closed_pipe_end_without_error_output(
    env: E2EEnv, cluster: target.Target
) -> None:
    env.create_ready("demo", template(STEPS[1]))
    with subprocess.Popen(
        command(cluster.kubeconfig, env.namespace),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as writing:
        assert writing.stdout is not None
        assert writing.stdout.read(10) == b"x" * 10
        writing.stdout.close()
        assert writing.stderr is not None
        assert writing.stderr.read() == b""
    assert writing.returncode == 0
