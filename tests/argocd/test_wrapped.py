"""A Deployment moves over, is broken and repaired, all through git."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from initpipeline.plugin import main
from tests.argocd.applications import Application
from tests.e2e.conftest import E2EEnv, runs
from tests.e2e.templates import container, deployment, template
from tests.watching import Object

pytestmark = pytest.mark.argocd

HEALTHY = ("Synced", "Healthy")


def manifest() -> list[Object]:
    """A Deployment with its Service, as somebody may have them in a file."""
    workload = deployment("shop", template(container("migrate", "echo migrating")))
    selector = workload["spec"]["selector"]["matchLabels"]
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "shop"},
        "spec": {"selector": selector, "ports": [{"port": 80}]},
    }
    return [workload, service]


@pytest.fixture
def wrapped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What the plugin makes of them: the text of a file."""
    file = tmp_path / "shop.yaml"
    file.write_text(yaml.safe_dump_all(manifest()))
    assert main.main(["wrap", str(file)]) == 0
    return capsys.readouterr().out


@pytest.fixture
def at_work(application: Application, wrapped: str) -> Application:
    """What was wrapped is in git, and Healthy."""
    begin(application, wrapped)
    return application


def begin(application: Application, text: str, *options: str) -> None:
    """Have it in git, synced with these options, and Healthy."""
    application.repository.put(application.name, "shop", text)
    application.create(*options)
    application.wait(*HEALTHY)


def broken(text: str, **step: Any) -> str:
    """The same with something else in the step."""
    objects = list(yaml.safe_load_all(text))
    objects[0]["spec"]["template"]["spec"]["initContainers"][0].update(step)
    return yaml.safe_dump_all(objects)


def change(application: Application, text: str) -> int:
    """Commit it; the version of the Application after which it is known."""
    application.repository.put(application.name, "shop", text)
    return application.refresh() - 1


PROBE = {"tcpSocket": {"port": 80}}


@pytest.mark.parametrize(
    ("mistake", "told"),
    [
        pytest.param(
            {"image": "busybox:no-such-tag"},
            "ImagePullFailed: init container 1 of 1",
            id="image",
        ),
        pytest.param(
            {"command": ["sh", "-c", "echo the schema is locked; exit 3"]},
            'StepFailed: init container 1 of 1 "migrate" exited with 3',
            id="command",
        ),
        pytest.param(
            {"envFrom": [{"configMapRef": {"name": "settings"}}]},
            'configmap "settings" not found',
            id="ConfigMap",
        ),
        pytest.param(
            {"command": ["/bin/no-such-program"]},
            'StepFailed: init container 1 of 1 "migrate" could not be started',
            id="program",
        ),
        pytest.param(
            {"resources": {"requests": {"cpu": "1000"}}},
            "PodUnschedulable: 0/1 nodes are available: 1 Insufficient cpu",
            id="size",
        ),
        pytest.param(
            {
                "command": ["sh", "-c", "exec dd if=/dev/zero of=/dev/null bs=200M count=3"],
                "resources": {"limits": {"memory": "20Mi"}},
            },
            "exited with 137 (OOMKilled)",
            id="memory",
        ),
    ],
)
def test_a_mistake_is_told_until_git_has_it_repaired(
    at_work: Application, env: E2EEnv, wrapped: str, mistake: Object, told: str
) -> None:
    since = change(at_work, broken(wrapped, **mistake))
    at_work.wait("Synced", "Progressing", since)
    at_work.wait_health("shop", lambda said: told in said.get("message", ""))

    since = change(at_work, wrapped)
    at_work.wait(*HEALTHY, since)
    assert runs(env.pipeline("shop")) == [
        (1, "Created", "Initialized"),
        (2, "SpecChanged", "Superseded"),
        (3, "SpecChanged", ""),
    ]


@pytest.mark.parametrize(
    ("mistake", "told"),
    [
        pytest.param(
            {"readinessProbe": PROBE},
            "spec.template.spec.initContainers[0].readinessProbe: Forbidden",
            id="what-no-pipeline-may-have",
        ),
        pytest.param({"command": "true"}, "must be of type array", id="wrong-type"),
    ],
)
def test_what_is_refused_leaves_the_pipeline_at_work(
    at_work: Application, env: E2EEnv, wrapped: str, mistake: Object, told: str
) -> None:
    since = change(at_work, broken(wrapped, **mistake))
    at_work.wait_failed(told, since)
    assert runs(env.pipeline("shop")) == [(1, "Created", "")]

    since = change(at_work, wrapped)
    at_work.wait(*HEALTHY, since)
    assert runs(env.pipeline("shop")) == [(1, "Created", "")]


def test_a_misspelled_field_is_named_with_server_side_apply(
    application: Application, env: E2EEnv, wrapped: str
) -> None:
    begin(application, wrapped, "ServerSideApply=true")

    since = change(application, broken(wrapped, imagee="busybox"))
    application.wait_failed("imagee: field not declared in schema", since)
    assert runs(env.pipeline("shop")) == [(1, "Created", "")]


def test_a_misspelled_field_is_a_difference_for_ever_with_client_side_apply(
    at_work: Application, env: E2EEnv, wrapped: str
) -> None:
    """Argo CD has the API server drop it without a word, as for any custom resource."""
    since = change(at_work, broken(wrapped, imagee="busybox"))
    at_work.wait("OutOfSync", "Healthy", since)
    assert runs(env.pipeline("shop")) == [(1, "Created", "")]
