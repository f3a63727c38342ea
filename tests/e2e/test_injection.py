"""Containers that an admission policy adds to the Pod are part of the pipeline.

The status describes the created Pod, not the template.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from kubernetes import client

from tests.e2e.e2e_env import E2EEnv
from tests.e2e.traces import assert_trace
from tests.operator_process import OperatorProcess
from tests.poll import poll_until
from tests.statuses import reason_of, run_number
from tests.templates import IMAGE, container, template

INJECTED = f"""
[
  JSONPatch{{op: "add", path: "/spec/initContainers/0", value: Object.spec.initContainers{{
    name: "fetch-secrets", image: "{IMAGE}", command: ["sh", "-c", "sleep 1"]}}}},
  JSONPatch{{op: "add", path: "/spec/initContainers/1", value: Object.spec.initContainers{{
    name: "proxy", image: "{IMAGE}", command: ["sleep", "3600"], restartPolicy: "Always"}}}}
]
"""


INJECTED_APP = f"""
[
  JSONPatch{{op: "add", path: "/spec/containers/-", value: Object.spec.containers{{
    name: "proxy", image: "{IMAGE}", command: ["sh", "-c", "sleep 3; exit 1"]}}}}
]
"""


@contextmanager
def injecting(env: E2EEnv, expression: str = INJECTED) -> Iterator[None]:
    """Add containers to each Pod by a MutatingAdmissionPolicy during the context.

    By default these are a step and a sidecar before the template's own. Service meshes and secret
    stores do the same by webhooks.
    """
    api = client.AdmissionregistrationV1Api(env.api)
    name = env.namespace
    selector = {"matchLabels": {"kubernetes.io/metadata.name": env.namespace}}
    policy = {
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {
                "namespaceSelector": selector,
                "resourceRules": [
                    {
                        "apiGroups": [""],
                        "apiVersions": ["v1"],
                        "operations": ["CREATE"],
                        "resources": ["pods"],
                    }
                ],
            },
            "reinvocationPolicy": "Never",
            "failurePolicy": "Fail",
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}],
        },
    }
    api.create_mutating_admission_policy(policy)
    try:
        api.create_mutating_admission_policy_binding(
            {"metadata": {"name": name}, "spec": {"policyName": name}}
        )
        _wait_until_it_injects(env)
        yield
    finally:
        api.delete_mutating_admission_policy(name)
        api.delete_mutating_admission_policy_binding(name)


def _wait_until_it_injects(env: E2EEnv) -> None:
    # The API server watches policies, so a new one takes effect after a delay.
    core = client.CoreV1Api(env.api)
    probe = {"metadata": {"name": "probe"}, "spec": template(container("one", "true"))["spec"]}

    def injects() -> bool:
        pod = core.create_namespaced_pod(env.namespace, probe, dry_run="All")
        return len(pod.spec.init_containers) + len(pod.spec.containers) > 2

    poll_until(injects, 30, "the policy injects containers")


def test_status_contains_injected_init_containers(
    env: E2EEnv,
    operator: OperatorProcess,  # noqa: ARG001
) -> None:
    with injecting(env):
        last = env.create_ready("demo", template(container("one", "sleep 1")))

    assert_trace(
        env.pipelines.until("demo", last),
        """
        run 1 Created
        ?0/3 StepRunning: init container 1 of 3 "fetch-secrets" is running
        ?1/3 StepRunning: sidecar 2 of 3 "proxy" is running
        ?2/3 StepRunning: init container 3 of 3 "one" is running
        3/3 PodReady: the Pod is Ready
        """,
    )
    steps = [status["name"] for status in last["status"]["initContainerStatuses"]]
    assert steps == ["fetch-secrets", "proxy", "one"]
    template_steps = last["spec"]["template"]["spec"]["initContainers"]
    assert [step["name"] for step in template_steps] == ["one"], "the template is unchanged"


def test_restart_of_an_injected_app_container_is_not_in_place_unsupported(
    env: E2EEnv,
    operator: OperatorProcess,  # noqa: ARG001
) -> None:
    """The kubelet restarts it alone, since it has no rule to restart all containers."""
    with injecting(env, INJECTED_APP):
        env.create_ready("demo", template(container("one", "true")), rerunStrategy="InPlace")
        state = env.pipelines.wait("demo", "a second run", lambda state: run_number(state) == 2)

    assert state["status"]["run"]["trigger"] == "ContainerRestarted"
    assert state["status"]["run"]["cause"]["container"] == "proxy"
    assert reason_of(state, "InPlaceUnavailable") != "InPlaceUnsupported"
