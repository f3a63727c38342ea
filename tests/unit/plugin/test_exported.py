"""What the API server and controllers added to an object is removed from its manifest."""

import copy
from typing import Any

import pytest

from initpipeline.plugin.wrap import exported

TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount"


def container(**fields: Any) -> dict[str, Any]:
    return {"name": "a", "image": "busybox", **fields}


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"uid": "1"}, True),
        ({"resourceVersion": "1"}, True),
        ({"name": "a", "creationTimestamp": None}, False),
    ],
    ids=["UID", "resourceVersion", "written by hand"],
)
def test_manifest_with_uid_or_resource_version_was_read_back(
    metadata: dict[str, Any], expected: bool
) -> None:
    assert exported.was_read_back({"metadata": metadata}) is expected


@pytest.mark.parametrize(
    "key",
    [
        "kubectl.kubernetes.io/last-applied-configuration",
        "deployment.kubernetes.io/revision",
        "deprecated.daemonset.template.generation",
        "meta.helm.sh/release-name",
        "argocd.argoproj.io/tracking-id",
        "cni.projectcalico.org/podIP",
    ],
)
def test_annotations_about_the_old_object_are_dropped(key: str) -> None:
    assert exported.own_annotations({key: "x", "example.com/mine": "y"}) == {
        "example.com/mine": "y"
    }


@pytest.mark.parametrize("volume", ["kube-api-access-x7v2c", "default-token-9zxcv"])
def test_token_volume_that_admission_added_is_dropped(volume: str) -> None:
    mounts = [{"name": volume, "mountPath": TOKEN}, {"name": "data", "mountPath": "/data"}]
    spec = {
        "initContainers": [container(volumeMounts=mounts[:1])],
        "containers": [container(volumeMounts=mounts)],
        "volumes": [{"name": "data"}, {"name": volume}],
    }
    assert exported.pod_spec(spec) == {
        "initContainers": [container()],
        "containers": [container(volumeMounts=mounts[1:])],
        "volumes": [{"name": "data"}],
    }


@pytest.mark.parametrize(
    ("name", "path"),
    [("my-token-12345", "/var/run/token"), ("my-own", TOKEN)],
    ids=["elsewhere", "in the usual place"],
)
def test_token_volume_of_the_user_is_kept(name: str, path: str) -> None:
    mount = {"name": name, "mountPath": path}
    spec = {"containers": [container(volumeMounts=[mount])], "volumes": [{"name": mount["name"]}]}
    assert exported.pod_spec(spec) == spec


@pytest.mark.parametrize("field", ["nodeName", "priority", "preemptionPolicy", "overhead"])
def test_field_set_by_the_scheduler_or_admission_is_dropped(field: str) -> None:
    spec = {"containers": [container()], "priorityClassName": "high"}
    assert exported.pod_spec({**spec, field: "x"}) == spec


def test_message_policy_default_is_dropped_from_init_containers_only() -> None:
    file, other = {"terminationMessagePolicy": "File"}, {"terminationMessagePath": "/dev/x"}
    template = {"spec": {"initContainers": [container(**file, **other)], "containers": [file]}}
    before = copy.deepcopy(template)
    assert exported.template(template)["spec"] == {
        "initContainers": [container(**other)],
        "containers": [file],
    }
    assert template == before, "the input is not changed"


def test_job_template_has_no_labels_of_the_job() -> None:
    labels = {"job-name": "a", "batch.kubernetes.io/controller-uid": "1", "app": "a"}
    template = {"metadata": {"labels": labels}, "spec": {}}
    assert exported.job_template(template) == {"metadata": {"labels": {"app": "a"}}, "spec": {}}
