"""status.effectiveResources follows the resources that a real kubelet has allocated."""

from typing import Any

from kubernetes import client

from initpipeline.api.raw import Raw
from tests.e2e.e2e_env import E2EEnv
from tests.operator_process import OperatorProcess
from tests.statuses import run_number
from tests.templates import container, template


def requesting(name: str, script: str, cpu: str, memory: str, **more: Any) -> Raw:
    resources = {"requests": {"cpu": cpu}, "limits": {"memory": memory}}
    return container(name, script, resources=resources, **more)


def allocated(pod: Raw) -> list[str]:
    """Return the CPU requests of the app containers that the kubelet reports as allocated."""
    statuses = pod["status"].get("containerStatuses", ())
    return [one["resources"]["requests"]["cpu"] for one in statuses if one.get("resources")]


def effective(pipeline: Raw) -> Raw | None:
    resources: Raw | None = pipeline.get("status", {}).get("effectiveResources")
    return resources


def all_effective(env: E2EEnv) -> list[Raw | None]:
    """Return the values of effectiveResources since the start of the first run, in their order."""
    values: list[Raw | None] = []
    for state in env.pipelines.of("demo"):
        if run_number(state) and effective(state) not in values[-1:]:
            values.append(effective(state))
    return values


def test_effective_resources_change_only_with_a_resize(
    env: E2EEnv,
    operator: OperatorProcess,  # noqa: ARG001
) -> None:
    pod = template(
        requesting("proxy", "exec sleep 3600", "1m", "16Mi", restartPolicy="Always"),
        requesting("one", "true", "30m", "32Mi"),
    )
    pod["spec"]["containers"] = [requesting("app", "exec sleep 3600", "0.0205", "0.0625Gi")]
    env.create_ready("demo", pod)
    before = {"requests": {"cpu": "31m", "memory": "80Mi"}, "limits": {"memory": "80Mi"}}
    after = {"requests": {"cpu": "51m", "memory": "80Mi"}, "limits": {"memory": "80Mi"}}
    env.pods.wait("demo", "the request is allocated", lambda pod: allocated(pod) == ["21m"])

    more = {"name": "app", "resources": {"requests": {"cpu": "50m"}}}
    client.CoreV1Api(env.api).patch_namespaced_pod_resize(
        "demo", env.namespace, {"spec": {"containers": [more]}}
    )
    env.pods.wait("demo", "the new request is allocated", lambda pod: allocated(pod) == ["50m"])
    env.pipelines.wait("demo", "the new size", lambda pipeline: effective(pipeline) == after)
    assert all_effective(env) == [before, after]
    assert run_number(env.pipeline("demo")) == 1
