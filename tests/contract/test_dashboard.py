"""The dashboard on a real API server: what it lists, streams and patches, and how it ends."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from initpipeline.api.names import RERUN_ANNOTATION
from tests.builders import NAME
from tests.cluster.cluster import Cluster
from tests.contract.conftest import allow
from tests.contract.contract_env import ContractEnv

pytest_plugins = ["tests.contract.operator_fixtures"]

PROGRAM = "import sys; from initpipeline.plugin.main import main; sys.exit(main())"


@contextmanager
def dashboard(
    kubeconfig: Path, namespace: str, *options: str
) -> Iterator[tuple[requests.Session, str, "subprocess.Popen[str]"]]:
    """Runs the subcommand. Yields a browser that has opened its address, the origin, the process.

    The process ends on SIGINT, with the exit code 0 and without an error.
    """
    command = [sys.executable, "-c", PROGRAM, "dashboard", "--no-open", "--port", "0"]
    command += ["--kubeconfig", str(kubeconfig), "-n", namespace, *options]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        with requests.Session() as browser:
            assert browser.get(address).url == address.partition("?")[0]
            yield browser, address.partition("/?")[0], process
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert errors == "Ctrl-C ends the dashboard\n"


def messages(response: requests.Response) -> Iterator[str]:
    """Yields the messages of a stream."""
    for line in response.iter_lines(chunk_size=1):
        if line.startswith(b"data: "):
            yield line.decode()


def test_list_and_page_are_streamed_and_rerun_is_patched(
    control_plane: Cluster, env: ContractEnv
) -> None:
    with dashboard(control_plane.kubeconfig, env.namespace) as (browser, origin, _):
        with browser.get(f"{origin}/-/stream/list?since=0", stream=True) as stream:
            arriving = messages(stream)
            env.create()
            assert any(f"{env.namespace}/{NAME}" in one for one in arriving)
        page = browser.get(f"{origin}/{env.namespace}/{NAME}").text
        csrf = re.search(r'name="csrf" content="([^"]+)"', page)
        assert csrf is not None
        action = f"{origin}/-/action/{env.namespace}/{NAME}/rerun"
        headers = {"Origin": origin, "X-InitPipeline-CSRF": csrf[1]}
        with browser.get(f"{origin}/-/stream/{env.namespace}/{NAME}", stream=True) as stream:
            arriving = messages(stream)
            assert browser.post(action, headers=headers).status_code == 200
            assert any(RERUN_ANNOTATION in one for one in arriving)


def test_user_without_rights_sees_which_are_missing(
    control_plane: Cluster, env: ContractEnv
) -> None:
    user = "looks-only"
    rules = [
        {"apiGroups": ["initpipeline.dev"], "resources": ["initpipelines"]}
        | {"verbs": ["get", "list", "watch"]}
    ]
    allow(env.api, env.namespace, user, rules)
    env.create()
    with dashboard(control_plane.kubeconfig_for(user), env.namespace) as (browser, origin, _):
        with browser.get(f"{origin}/-/stream/list?since=0", stream=True) as stream:
            seen = ""
            for one in messages(stream):
                seen = json.loads(one.removeprefix("data: "))["problems"]
                if "Pods" in seen and "events" in seen:
                    break
        assert f'User "{user}" cannot list resource' in seen.replace("&#34;", '"')
        page = browser.get(f"{origin}/{env.namespace}/{NAME}").text
        assert "you may not &#34;patch&#34; initpipelines" in page


def test_read_only_dashboard_refuses_actions(control_plane: Cluster, namespace: str) -> None:
    with dashboard(control_plane.kubeconfig, namespace, "--read-only") as (browser, origin, _):
        response = browser.post(f"{origin}/-/action/{namespace}/{NAME}/rerun")
        assert response.status_code in (403, 404)
