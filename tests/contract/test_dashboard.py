"""The dashboard on a real API server: what it lists, streams and patches, and how it ends."""

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import requests
import yaml

from initpipeline.api.names import RERUN_ANNOTATION
from tests.api_client import allow
from tests.browser.dashboard import serving
from tests.builders import NAME
from tests.cluster.cluster import Cluster
from tests.contract.contract_env import ContractEnv

pytest_plugins = ["tests.contract.operator_fixtures"]

SECONDS: Final = 60.0


@contextmanager
def dashboard(
    kubeconfig: Path, namespace: str, *options: str
) -> Iterator[tuple[requests.Session, str]]:
    """Yields a browser that has opened the address of a dashboard, and the origin."""
    with serving(kubeconfig, "-n", namespace, *options) as served, requests.Session() as browser:
        assert browser.get(served.address).url == f"{served.origin}/"
        yield browser, served.origin


def messages(response: requests.Response) -> Iterator[str]:
    """Yields the messages of a stream, which has one every ten seconds. Fails after a minute."""
    end = time.monotonic() + SECONDS
    for line in response.iter_lines(chunk_size=1):
        assert time.monotonic() < end, f"no expected message within {SECONDS:.0f} s"
        if line.startswith(b"data: "):
            yield line.decode()


def test_list_and_page_are_streamed_and_rerun_is_patched(
    control_plane: Cluster, env: ContractEnv
) -> None:
    with dashboard(control_plane.kubeconfig, env.namespace) as (browser, origin):
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
    with dashboard(control_plane.kubeconfig_for(user), env.namespace) as (browser, origin):
        with browser.get(f"{origin}/-/stream/list?since=0", stream=True) as stream:
            seen = ""
            for one in messages(stream):
                seen = json.loads(one.removeprefix("data: ")).get("problems", "")
                if "Pods" in seen and "events" in seen:
                    break
        assert f'User "{user}" cannot list resource' in seen.replace("&#34;", '"')
        page = browser.get(f"{origin}/{env.namespace}/{NAME}").text
        assert "you may not &#34;patch&#34; initpipelines" in page


def test_read_only_dashboard_refuses_actions(control_plane: Cluster, namespace: str) -> None:
    with dashboard(control_plane.kubeconfig, namespace, "--read-only") as (browser, origin):
        response = browser.post(f"{origin}/-/action/{namespace}/{NAME}/rerun")
        assert response.status_code in (403, 404)


def test_expired_credentials_are_reported_until_the_user_logs_in_again(
    control_plane: Cluster, env: ContractEnv, tmp_path: Path
) -> None:
    content = yaml.safe_load(control_plane.kubeconfig.read_text())
    valid, kubeconfig = content["users"], tmp_path / "kubeconfig"
    expired = [{"name": one["name"], "user": {"token": "expired"}} for one in valid]
    kubeconfig.write_text(yaml.safe_dump({**content, "users": expired}))
    env.create()
    with dashboard(kubeconfig, env.namespace) as (browser, origin):
        with browser.get(f"{origin}/-/stream/list?since=0", stream=True) as stream:
            arriving = messages(stream)
            assert any("does not accept the credentials" in one for one in arriving)
            kubeconfig.write_text(yaml.safe_dump(content))
            assert any(f"{env.namespace}/{NAME}" in one for one in arriving)
        page = f"{origin}/{env.namespace}/{NAME}"
        csrf = re.search(r'name="csrf" content="([^"]+)"', browser.get(page).text)
        assert csrf is not None
        headers = {"Origin": origin, "X-InitPipeline-CSRF": csrf[1]}
        action = f"{origin}/-/action/{env.namespace}/{NAME}/rerun"
        assert browser.post(action, headers=headers).status_code == 200


def test_edited_manifest_is_planned_in_a_dry_run(control_plane: Cluster, env: ContractEnv) -> None:
    env.create()
    with dashboard(control_plane.kubeconfig, env.namespace) as (browser, origin):
        with browser.get(f"{origin}/-/stream/list?since=0", stream=True) as stream:
            assert any(f"{env.namespace}/{NAME}" in one for one in messages(stream))
        path = f"{env.namespace}/{NAME}"
        csrf = re.search(r'name="csrf" content="([^"]+)"', browser.get(f"{origin}/{path}").text)
        assert csrf is not None
        headers = {"Origin": origin, "X-InitPipeline-CSRF": csrf[1]}
        manifest = yaml.safe_load(browser.get(f"{origin}/-/spec/{path}").text)

        def planned() -> str:
            url = f"{origin}/-/plan/{path}"
            answer = browser.post(url, yaml.safe_dump(manifest).encode(), headers=headers)
            return "\n".join(answer.json()["lines"])

        assert "is created" not in planned()
        manifest["spec"]["backoffLimit"] = 4
        assert "spec.backoffLimit: 0 -> 4" in planned()
        del manifest["spec"]["template"]["spec"]["containers"][0]["image"]
        assert "the Pod is refused" in planned()
        manifest["spec"]["backoffLimit"] = -1
        assert "the InitPipeline is refused" in planned()
    assert env.pipeline()["spec"].get("backoffLimit", 0) != 4  # type: ignore[index]
