"""A Deployment is converted to an InitPipeline, broken and repaired, all through git."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from initpipeline.api.raw import Raw
from initpipeline.plugin import main
from tests.argocd.applications import Application
from tests.e2e.e2e_env import E2EEnv
from tests.statuses import runs
from tests.templates import container, deployment, template

pytestmark = pytest.mark.argocd

HEALTHY = ("Synced", "Healthy")


def manifest() -> list[Raw]:
    """Returns a Deployment with its Service."""
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
    """Returns the converted manifests, as the plugin prints them."""
    file = tmp_path / "shop.yaml"
    file.write_text(yaml.safe_dump_all(manifest()))
    assert main.main(["wrap", str(file)]) == 0
    return capsys.readouterr().out


@pytest.fixture
def wrapped_application(application: Application, wrapped: str) -> Application:
    """Creates an Application with the converted manifests, and waits until it is Healthy."""
    sync_and_wait(application, wrapped)
    return application


def sync_and_wait(application: Application, text: str, *options: str) -> None:
    """Commits the text, syncs it with these options, and waits until it is Healthy."""
    application.repository.put(application.name, "shop", text)
    application.create(*options)
    application.wait(*HEALTHY)


def with_step(text: str, **step: Any) -> str:
    """Returns the manifests with these fields of the step changed."""
    objects = list(yaml.safe_load_all(text))
    objects[0]["spec"]["template"]["spec"]["initContainers"][0].update(step)
    return yaml.safe_dump_all(objects)


def commit(application: Application, text: str) -> int:
    """Commits the text. Returns a version: later versions of the Application include it."""
    application.repository.put(application.name, "shop", text)
    return application.refresh() - 1


PROBE = {"tcpSocket": {"port": 80}}


@pytest.mark.parametrize(
    ("mistake", "message"),
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
def test_failure_is_reported_until_git_has_the_correction(
    wrapped_application: Application, env: E2EEnv, wrapped: str, mistake: Raw, message: str
) -> None:
    since = commit(wrapped_application, with_step(wrapped, **mistake))
    wrapped_application.wait("Synced", "Progressing", since)
    wrapped_application.wait_health("shop", lambda health: message in health.get("message", ""))

    since = commit(wrapped_application, wrapped)
    wrapped_application.wait(*HEALTHY, since)
    assert runs(env.pipeline("shop")) == [
        (1, "Created", "Initialized"),
        (2, "SpecChanged", "Superseded"),
        (3, "SpecChanged", ""),
    ]


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        pytest.param(
            {"readinessProbe": PROBE},
            "spec.template.spec.initContainers[0].readinessProbe: Forbidden",
            id="forbidden-in-a-pipeline",
        ),
        pytest.param({"command": "true"}, "must be of type array", id="wrong-type"),
    ],
)
def test_refused_manifest_leaves_the_pipeline_unchanged(
    wrapped_application: Application, env: E2EEnv, wrapped: str, mistake: Raw, message: str
) -> None:
    since = commit(wrapped_application, with_step(wrapped, **mistake))
    wrapped_application.wait_failed(message, since)
    assert runs(env.pipeline("shop")) == [(1, "Created", "")]

    since = commit(wrapped_application, wrapped)
    wrapped_application.wait(*HEALTHY, since)
    assert runs(env.pipeline("shop")) == [(1, "Created", "")]


def test_misspelled_field_fails_a_server_side_apply(
    application: Application, env: E2EEnv, wrapped: str
) -> None:
    sync_and_wait(application, wrapped, "ServerSideApply=true")

    since = commit(application, with_step(wrapped, imagee="busybox"))
    application.wait_failed("imagee: field not declared in schema", since)
    assert runs(env.pipeline("shop")) == [(1, "Created", "")]


def test_misspelled_field_stays_out_of_sync_with_client_side_apply(
    wrapped_application: Application, env: E2EEnv, wrapped: str
) -> None:
    """Argo CD lets the API server drop the field, as for any custom resource."""
    since = commit(wrapped_application, with_step(wrapped, imagee="busybox"))
    wrapped_application.wait("OutOfSync", "Healthy", since)
    assert runs(env.pipeline("shop")) == [(1, "Created", "")]
