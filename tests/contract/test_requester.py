"""The policy manifests/base/requester.yaml: a user who may not create Pods starts no run.

The user "creator" may do everything with InitPipelines, change and delete Pods, and create Pods in
another namespace only.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest
from kubernetes import client

from initpipeline.api import names
from initpipeline.api.raw import Raw
from tests.api_client import Pipelines, allow, connected, manifest, refusal
from tests.cluster.cluster import Cluster
from tests.contract.admission_client import minimal_template
from tests.contract.contract_env import create_namespace
from tests.installation import BASE
from tests.kubectl import Kubectl
from tests.poll import poll_until

POLICY: Final = BASE / "requester.yaml"
TAKES_EFFECT_SECONDS: Final = 30
NAME: Final = "shop"

PIPELINES: Final = {
    "apiGroups": [names.GROUP],
    "resources": [names.PLURAL, f"{names.PLURAL}/status"],
    "verbs": ["*"],
}
PODS: Final = {"apiGroups": [""], "resources": ["pods"], "verbs": ["create"]}
OTHER_PODS: Final = {
    "apiGroups": [""],
    "resources": ["pods", "pods/exec", "pods/ephemeralcontainers", "pods/binding"],
    "verbs": ["get", "list", "watch", "update", "patch", "delete"],
}
"""All permissions for Pods but the one that is required."""

Request = Callable[[Pipelines], Any]


def spec(**fields: Any) -> Raw:
    return {"template": minimal_template(), **fields}


def with_service_account(pipelines: Pipelines) -> None:
    template = minimal_template()
    template["spec"]["serviceAccountName"] = "admin"
    pipelines.create(manifest("other", {"template": template}))


def replace(pipelines: Pipelines) -> None:
    found = pipelines.get(NAME)
    found["spec"]["backoffLimit"] = 3
    put(pipelines, found)


def put(pipelines: Pipelines, body: Raw) -> None:
    custom = client.CustomObjectsApi(pipelines.api)
    custom.replace_namespaced_custom_object(
        names.GROUP, names.VERSION, pipelines.namespace, names.PLURAL, NAME, body
    )


def generated(pipelines: Pipelines) -> None:
    body = manifest("", spec())
    body["metadata"] = {"generateName": "shop-"}
    pipelines.create(body)


def applied(name: str, **metadata: Any) -> Request:
    """Returns a server-side apply of an InitPipeline, which also creates it."""
    body = manifest(name, spec(backoffLimit=2))
    body["metadata"] |= metadata
    return lambda pipelines: apply(pipelines, body)


def apply(pipelines: Pipelines, body: Raw, subresource: str = "") -> None:
    name = body["metadata"]["name"]
    path = f"/apis/{names.API_VERSION}/namespaces/{pipelines.namespace}/{names.PLURAL}/{name}"
    pipelines.api.call_api(
        f"{path}{subresource}?fieldManager=m&force=true",
        "PATCH",
        header_params={"Content-Type": "application/apply-patch+yaml"},
        body=body,
        response_types_map={},
    )


def applied_token(pipelines: Pipelines) -> None:
    """Apply nothing but the request for a run."""
    body = manifest(NAME, {})
    del body["spec"]
    body["metadata"].update(annotated(rerun="a")["metadata"])
    apply(pipelines, body)


def applied_status(pipelines: Pipelines) -> None:
    body = manifest(NAME, {})
    del body["spec"]
    apply(pipelines, body | {"status": {"observedGeneration": 1}}, "/status")


def replace_status(pipelines: Pipelines) -> None:
    body = pipelines.get(NAME) | {"status": {}}
    custom = client.CustomObjectsApi(pipelines.api)
    custom.replace_namespaced_custom_object_status(
        names.GROUP, names.VERSION, pipelines.namespace, names.PLURAL, NAME, body
    )


def replace_with_generation(pipelines: Pipelines) -> None:
    """Send the generation that the changed InitPipeline would have, as if nothing had changed."""
    found = pipelines.get(NAME)
    found["spec"]["backoffLimit"] = 3
    found["metadata"]["generation"] += 1
    put(pipelines, found)


def patched(change: Raw, **options: Any) -> Request:
    return lambda pipelines: pipelines.patch(NAME, change, **options)


def annotated(**annotations: str | None) -> Raw:
    values = {f"{names.GROUP}/{name}": value for name, value in annotations.items()}
    return {"metadata": {"annotations": values}}


STARTS_RUNS: Final[dict[str, Request]] = {
    "create": lambda pipelines: pipelines.create(manifest("other", spec())),
    "create suspended": lambda pipelines: pipelines.create(manifest("other", spec(suspend=True))),
    "create in a dry run": lambda pipelines: pipelines.create(
        manifest("other", spec()), dry_run="All"
    ),
    "create with generateName": generated,
    "create by server-side apply": applied("other"),
    "create with a deletionTimestamp": applied(
        "other", deletionTimestamp="2026-01-01T00:00:00Z", finalizers=["example.com/wait"]
    ),
    "create with a ServiceAccount": with_service_account,
    "change by server-side apply": applied(NAME),
    "change a policy": patched({"spec": {"backoffLimit": 1}}),
    "change the template": patched({"spec": {"template": {"spec": {"hostNetwork": True}}}}),
    "change in a dry run": patched({"spec": {"backoffLimit": 1}}, dry_run="All"),
    "replace": replace,
    "replace with another generation": replace_with_generation,
    "suspend": patched({"spec": {"suspend": True}}),
    "request a run": patched(annotated(rerun="a")),
    "request another run": patched(annotated(rerun="before-2")),
    "request a run by server-side apply": applied_token,
    "status by server-side apply": applied_status,
    "replace status": replace_status,
    "remove the run from status": lambda pipelines: pipelines.patch_status(NAME, {"run": None}),
}

STARTS_NO_RUN: Final[dict[str, Request]] = {
    "label": patched({"metadata": {"labels": {"a": "b"}}}),
    "annotate": patched({"metadata": {"annotations": {"a": "b"}}}),
    "set an owner": patched(
        {
            "metadata": {
                "ownerReferences": [
                    {"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": "b"}
                ]
            }
        }
    ),
    "withdraw the request for a run": patched(annotated(rerun=None)),
    "repeat the spec": patched({"spec": {"backoffLimit": 0}}),
}


@pytest.fixture(scope="module")
def places(control_plane: Cluster, api: client.ApiClient) -> Iterator[dict[str, Pipelines]]:
    """Yields the InitPipelines of one namespace, as each user sees them."""
    namespace, elsewhere = create_namespace(api), create_namespace(api)
    allow(api, namespace, f"creator-{namespace}", [PIPELINES, OTHER_PODS])
    allow(api, elsewhere, f"creator-{namespace}", [PODS])
    allow(api, namespace, f"owner-{namespace}", [PIPELINES, PODS])
    kubeconfigs = {
        role: control_plane.kubeconfig_for(f"{role}-{namespace}") for role in ("creator", "owner")
    }
    with connected(kubeconfigs["creator"]) as creator, connected(kubeconfigs["owner"]) as owner:
        yield {
            "admin": Pipelines(api, namespace),
            "creator": Pipelines(creator, namespace),
            "owner": Pipelines(owner, namespace),
        }


@pytest.fixture(scope="module")
def policy(places: dict[str, Pipelines], kubectl: Kubectl) -> Iterator[None]:
    """Puts the policy in force."""
    probe = manifest("probe", spec())

    def is_refused() -> bool:
        return refusal(lambda: places["creator"].create(probe, dry_run="All")) is not None

    assert not is_refused()
    kubectl("apply", "-f", str(POLICY))
    poll_until(is_refused, TAKES_EFFECT_SECONDS, "the policy is in force")
    yield
    kubectl("delete", "-f", str(POLICY))
    poll_until(lambda: not is_refused(), TAKES_EFFECT_SECONDS, "the policy is no longer in force")


@pytest.fixture
def existing(places: dict[str, Pipelines]) -> Iterator[dict[str, Pipelines]]:
    """Creates an InitPipeline for which a run was requested."""
    body = manifest(NAME, spec(backoffLimit=0))
    body["metadata"].update(annotated(rerun="before")["metadata"])
    places["admin"].create(body)
    yield places
    for found in places["admin"].list():
        places["admin"].patch(found["metadata"]["name"], {"metadata": {"finalizers": None}})
        if "deletionTimestamp" not in found["metadata"]:
            places["admin"].delete(found["metadata"]["name"], "Background")


pytestmark = pytest.mark.usefixtures("policy")


@pytest.mark.parametrize("request_", STARTS_RUNS.values(), ids=STARTS_RUNS)
def test_user_who_may_not_create_pods_starts_no_run(
    existing: dict[str, Pipelines], request_: Request
) -> None:
    before = existing["admin"].list()
    error = refusal(lambda: request_(existing["creator"]))
    assert error is not None
    assert error.status == 403
    assert "cannot create pods in the namespace" in str(error.body)
    assert 'bind a role with the verb \\"create\\" on \\"pods\\"' in str(error.body)
    assert existing["admin"].list() == before


@pytest.mark.parametrize("request_", STARTS_RUNS.values(), ids=STARTS_RUNS)
def test_user_who_may_create_pods_starts_runs(
    existing: dict[str, Pipelines], request_: Request
) -> None:
    request_(existing["owner"])


@pytest.mark.parametrize("request_", STARTS_NO_RUN.values(), ids=STARTS_NO_RUN)
def test_change_that_starts_no_run_needs_no_permission_for_pods(
    existing: dict[str, Pipelines], request_: Request
) -> None:
    request_(existing["creator"])


def test_finalizer_of_a_deleted_pipeline_is_removed_without_permission_for_pods(
    existing: dict[str, Pipelines],
) -> None:
    pipelines = existing["creator"]
    pipelines.patch(NAME, {"metadata": {"finalizers": ["example.com/wait"]}})
    pipelines.delete(NAME, "Background")
    assert pipelines.get(NAME)["metadata"]["deletionTimestamp"]
    pipelines.patch(NAME, {"metadata": {"finalizers": None}})
    assert pipelines.list() == []
