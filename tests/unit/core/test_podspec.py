"""The manifest of a run's Pod: the template, and the operator's additions."""

import hashlib
from typing import Any

import pytest

from initpipeline.api import names
from initpipeline.core import podspec
from initpipeline.core.template_annotation import unpacked
from tests.builders import PIPELINE_UID, PipelineBuilder, pipeline

TEMPLATE: dict[str, Any] = {
    "metadata": {
        "name": "ignored",
        "namespace": "elsewhere",
        "generateName": "ignored-",
        "creationTimestamp": None,
        "labels": {
            "app": "shop",
            names.NAME_LABEL: "not yours to set",
            names.BUCKET_LABEL: "not yours to set",
        },
        "annotations": {"note": "kept", names.RUN_ANNOTATION: "99"},
        "finalizers": ["example.com/keep"],
    },
    "spec": {
        "restartPolicy": "OnFailure",
        "initContainers": [
            {"name": "one", "image": "busybox"},
            {"name": "two", "image": "busybox", "terminationMessagePolicy": "File"},
            {"name": "log", "image": "busybox", "restartPolicy": "Always"},
        ],
        "containers": [{"name": "app", "image": "nginx", "resources": {"limits": {"cpu": 0.5}}}],
    },
}


def built(of: PipelineBuilder | None = None, run: int = 3) -> dict[str, Any]:
    return podspec.build((of or pipeline().with_template(TEMPLATE)).build(), run)


def test_manifest_is_that_of_a_pod() -> None:
    assert (built()["apiVersion"], built()["kind"]) == ("v1", "Pod")


def test_pod_has_name_and_namespace_of_the_pipeline() -> None:
    metadata = built()["metadata"]
    assert (metadata["name"], metadata["namespace"]) == ("demo", "default")
    assert "generateName" not in metadata


def test_labels_and_annotations_of_the_operator_override_the_template() -> None:
    metadata = built()["metadata"]
    del metadata["annotations"][names.TEMPLATE_ANNOTATION]
    assert metadata["labels"] == {"app": "shop", names.NAME_LABEL: "demo"}
    assert metadata["annotations"] == {
        "note": "kept",
        names.RUN_ANNOTATION: "3",
        names.TEMPLATE_HASH_ANNOTATION: pipeline().with_template(TEMPLATE).build().template_hash,
        names.RERUN_TOKEN_ANNOTATION: "",
    }


def test_pod_has_the_packed_template_as_annotation() -> None:
    of = pipeline().with_template(TEMPLATE)
    text = built(of)["metadata"]["annotations"][names.TEMPLATE_ANNOTATION]
    assert unpacked(text) == TEMPLATE


@pytest.mark.parametrize("size", [200_000, 255_000])
def test_template_annotation_beyond_the_size_limit_is_omitted(size: int) -> None:
    """The API server accepts 256 KiB of annotations."""
    annotations = {"example.com/large": "x" * size}
    template = {**TEMPLATE, "metadata": {"annotations": annotations}}
    of = pipeline().with_template(template)
    noise = "".join(hashlib.sha256(str(i).encode()).hexdigest() for i in range(170))
    of = of.with_template({**template, "spec": {**TEMPLATE["spec"], "hostname": noise}})
    found = built(of)["metadata"]["annotations"]
    assert (names.TEMPLATE_ANNOTATION in found) == (size == 200_000)


def test_template_annotation_is_kept_at_exactly_the_size_limit() -> None:
    """The API server counts the bytes of keys and values."""
    template = {**TEMPLATE, "metadata": {"annotations": {"example.com/large": "é" * 100_000}}}
    of = pipeline().with_template(template).build()

    def annotations(token: str) -> dict[str, str]:
        found: dict[str, str] = podspec.build(of, 1, rerun_token=token)["metadata"]["annotations"]
        return found

    free = 256 * 1024 - sum(len(f"{k}{v}".encode()) for k, v in annotations("").items())
    assert names.TEMPLATE_ANNOTATION in annotations("x" * free)
    assert names.TEMPLATE_ANNOTATION not in annotations("x" * (free + 1))


def test_operator_annotation_in_the_template_is_not_copied() -> None:
    of = pipeline().with_template(
        {
            **TEMPLATE,
            "metadata": {
                "annotations": {
                    names.TEMPLATE_ANNOTATION: "x",
                    names.RERUN_IN_PLACE_ANNOTATION: "true",
                }
            },
        }
    )
    found = built(of)["metadata"]["annotations"]
    assert names.RERUN_IN_PLACE_ANNOTATION not in found
    assert found[names.TEMPLATE_ANNOTATION] != "x"


def test_labels_of_the_pipeline_are_not_copied_to_the_pod() -> None:
    labelled = PipelineBuilder(labels={"app.kubernetes.io/instance": "argocd-tracks-this"})
    assert built(labelled)["metadata"]["labels"] == {names.NAME_LABEL: "demo"}


def test_bucket_of_the_pipeline_is_copied_to_the_pod() -> None:
    """Otherwise the watch of the replica that serves the pipeline would not report the Pod."""
    labelled = PipelineBuilder(labels={names.BUCKET_LABEL: "a"}).with_template(TEMPLATE)
    labels = built(labelled)["metadata"]["labels"]
    assert labels == {"app": "shop", names.NAME_LABEL: "demo", names.BUCKET_LABEL: "a"}


def test_pod_is_controlled_by_the_pipeline() -> None:
    assert built()["metadata"]["ownerReferences"] == [
        {
            "apiVersion": "initpipeline.dev/v1alpha1",
            "kind": "InitPipeline",
            "name": "demo",
            "uid": PIPELINE_UID,
            "controller": True,
            "blockOwnerDeletion": True,
        }
    ]


def test_finalizers_of_the_template_are_copied() -> None:
    assert built()["metadata"]["finalizers"] == ["example.com/keep"]


def test_operator_adds_no_finalizer() -> None:
    assert "finalizers" not in built(pipeline())["metadata"]


def test_spec_is_that_of_the_template_except_init_containers() -> None:
    spec = built()["spec"]
    template = TEMPLATE["spec"]
    assert {**spec, "initContainers": None} == {**template, "initContainers": None}


@pytest.mark.parametrize(
    ("name", "policy"),
    [
        pytest.param("one", "FallbackToLogsOnError", id="no policy"),
        pytest.param("two", "File", id="a policy is kept"),
        pytest.param("log", "FallbackToLogsOnError", id="a sidecar is an init container too"),
    ],
)
def test_init_container_without_message_policy_gets_fallback_to_logs(
    name: str, policy: str
) -> None:
    [container] = [c for c in built()["spec"]["initContainers"] if c["name"] == name]
    assert container["terminationMessagePolicy"] == policy


def test_scheduling_gate_is_added_to_those_of_the_template() -> None:
    own, gates = {"name": names.RUN_GATE}, [{"name": "example.com/quota"}]
    template = {**TEMPLATE, "spec": {**TEMPLATE["spec"], "schedulingGates": gates}}
    for of, expected in ((TEMPLATE, [own]), (template, [*gates, own])):
        manifest = built(pipeline().with_template(of))
        spec = {**manifest["spec"], "schedulingGates": expected}
        assert podspec.gated(manifest) == {**manifest, "spec": spec}


def test_app_containers_are_unchanged() -> None:
    assert built()["spec"]["containers"] == TEMPLATE["spec"]["containers"]


def test_same_run_has_the_same_manifest() -> None:
    assert built() == built()
