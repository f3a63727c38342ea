"""What `kubectl get -o yaml` shows beside what a person wrote."""

import copy
from typing import Any

import pytest

from initpipeline.plugin.wrap import exported

TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount"


def container(**fields: Any) -> dict[str, Any]:
    return {"name": "a", "image": "busybox", **fields}


@pytest.mark.parametrize(
    ("metadata", "so"),
    [
        ({"uid": "1"}, True),
        ({"resourceVersion": "1"}, True),
        ({"name": "a", "creationTimestamp": None}, False),
    ],
    ids=["with a UID", "with a version", "by hand"],
)
def test_was_read_back(metadata: dict[str, Any], so: bool) -> None:
    assert exported.was_read_back({"metadata": metadata}) is so


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
def test_bookkeeping_of_other_tools_is_dropped(key: str) -> None:
    assert exported.own_annotations({key: "x", "example.com/mine": "y"}) == {
        "example.com/mine": "y"
    }


@pytest.mark.parametrize("volume", ["kube-api-access-x7v2c", "default-token-9zxcv"])
def test_the_service_accounts_token_is_the_next_pods_own(volume: str) -> None:
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
def test_a_token_that_a_person_mounts_is_kept(name: str, path: str) -> None:
    mount = {"name": name, "mountPath": path}
    spec = {"containers": [container(volumeMounts=[mount])], "volumes": [{"name": mount["name"]}]}
    assert exported.pod_spec(spec) == spec


@pytest.mark.parametrize("field", ["nodeName", "priority", "preemptionPolicy", "overhead"])
def test_what_was_decided_for_the_old_pod_is_not_for_the_next(field: str) -> None:
    spec = {"containers": [container()], "priorityClassName": "high"}
    assert exported.pod_spec({**spec, field: "x"}) == spec


def test_the_default_that_would_lose_evidence_is_dropped_from_init_containers_alone() -> None:
    file, other = {"terminationMessagePolicy": "File"}, {"terminationMessagePath": "/dev/x"}
    template = {"spec": {"initContainers": [container(**file, **other)], "containers": [file]}}
    before = copy.deepcopy(template)
    assert exported.template(template)["spec"] == {
        "initContainers": [container(**other)],
        "containers": [file],
    }
    assert template == before, "what was given is not changed"


def test_a_jobs_template_belongs_to_no_job() -> None:
    labels = {"job-name": "a", "batch.kubernetes.io/controller-uid": "1", "app": "a"}
    template = {"metadata": {"labels": labels}, "spec": {}}
    assert exported.job_template(template) == {"metadata": {"labels": {"app": "a"}}, "spec": {}}
