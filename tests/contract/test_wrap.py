"""The API server accepts the InitPipeline that wrap creates from a workload, and its Pod.

Each workload is tested as written and as read from a cluster. kubectl reads the same values.
"""

import json
from pathlib import Path
from typing import Final

import pytest
import yaml

from initpipeline.api import names
from initpipeline.api.raw import Raw
from initpipeline.core import podspec
from initpipeline.core.facts import Pipeline
from initpipeline.plugin.manifests import read
from initpipeline.plugin.wrap import fields
from initpipeline.plugin.wrap.convert import convert
from initpipeline.plugin.wrap.workloads import KINDS, WrapOptions
from tests.kubectl import Kubectl

WORKLOADS: Final[dict[str, Raw]] = yaml.safe_load(
    Path(__file__).with_name("workloads.yaml").read_text()
)
each_workload = pytest.mark.parametrize("manifest", WORKLOADS.values(), ids=WORKLOADS.keys())
STRICT: Final = ("create", "--dry-run=server", "--validate=strict", "-o", "json", "-f")

SCALARS: Final = (
    *("22:22", "8080:80", "1:30:00", "2026-01-01", "2026-01-01T00:00:00Z", "0644", "0o17", "0x1F"),
    *(
        "0b11",
        "1_000",
        "-5",
        "+5",
        "0.5",
        ".5",
        "5.",
        "1e3",
        "12e5",
        "1.2.3",
        "500m",
        "08",
        "1_0.5",
    ),
    *("y", "N", "yes", "Off", "on", "true", "FALSE", "tRue", "~", "null", "NULL", "=", "a b"),
)


def test_workloads_cover_each_kind() -> None:
    assert {manifest["kind"] for manifest in WORKLOADS.values()} == set(KINDS)


@each_workload
def test_wrapped_workload_creates_the_same_pod_if_written_or_read_from_a_cluster(
    kubectl: Kubectl, manifest: Raw, tmp_path: Path
) -> None:
    """The Pods are compared with the API server's defaults."""
    read_back = kubectl(*STRICT, "-", stdin=manifest)
    specs = [pod_of(kubectl, text, tmp_path) for text in (json.dumps(manifest), read_back)]
    if manifest["kind"] == "Pod":
        # In a Pod that was read from a cluster, the scheduler may have set the node.
        specs[0].pop("nodeName", None)
    assert specs[0] == specs[1]


def test_plain_scalars_have_the_values_of_kubectl(kubectl: Kubectl, tmp_path: Path) -> None:
    lines = [f"  {number}: {scalar}\n" for number, scalar in enumerate(SCALARS)]
    text = f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a}}\ndata:\n{''.join(lines)}"
    file = tmp_path / "scalars.yaml"
    file.write_text(text)
    output = kubectl(
        "create", "--dry-run=client", "--validate=false", "-o", "json", "-f", str(file)
    )
    expected = json.loads(output)["data"]
    [document] = read(text)
    actual = {str(key): value for key, value in document.manifest["data"].items()}
    assert {s: actual[str(n)] for n, s in enumerate(SCALARS)} == {
        s: expected[str(n)] for n, s in enumerate(SCALARS)
    }


SCHEMAS: Final = {
    "Pod": ("api/v1", "io.k8s.api.core.v1.PodSpec"),
    "Deployment": ("apis/apps/v1", "io.k8s.api.apps.v1.DeploymentSpec"),
    "DaemonSet": ("apis/apps/v1", "io.k8s.api.apps.v1.DaemonSetSpec"),
    "StatefulSet": ("apis/apps/v1", "io.k8s.api.apps.v1.StatefulSetSpec"),
    "Job": ("apis/batch/v1", "io.k8s.api.batch.v1.JobSpec"),
    "CronJob": ("apis/batch/v1", "io.k8s.api.batch.v1.CronJobSpec"),
    "ObjectMeta": ("api/v1", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
}


def test_schemas_cover_each_kind() -> None:
    assert set(SCHEMAS) == {*KINDS, "ObjectMeta"} == {*fields.SPEC_FIELDS, "ObjectMeta"}


@pytest.mark.newest
@pytest.mark.parametrize("kind", SCHEMAS)
def test_each_published_field_has_a_rule(kubectl: Kubectl, kind: str) -> None:
    """A field that Kubernetes adds needs a rule in wrap/fields.py."""
    path, name = SCHEMAS[kind]
    document = json.loads(kubectl("get", "--raw", f"/openapi/v3/{path}"))
    published = set(document["components"]["schemas"][name]["properties"])
    rules = fields.METADATA_FIELDS if kind == "ObjectMeta" else fields.SPEC_FIELDS[kind]
    assert set(rules) == published


def pod_of(kubectl: Kubectl, text: str, directory: Path) -> Raw:
    """Wrap a manifest, create its objects in a dry run, and return the stored spec of the Pod."""
    conversion = convert(text, WrapOptions())
    file = directory / "wrapped.yaml"
    file.write_text(conversion.text)
    stored = pipeline_in(kubectl(*STRICT, str(file)))
    template = pipeline_in(conversion.text)["spec"]["template"]
    assert stored["spec"]["template"] == template, "nothing is dropped"
    stored["metadata"].setdefault("resourceVersion", "1")
    stored["metadata"].setdefault("name", "generated")
    pod = podspec.build(Pipeline.from_api(stored), 1)
    spec: Raw = json.loads(kubectl(*STRICT, "-", stdin=pod))["spec"]
    return spec


def pipeline_in(text: str) -> Raw:
    """Returns the only InitPipeline in a file."""
    [pipeline] = [d.manifest for d in read(text) if d.manifest["kind"] == names.KIND]
    return dict(pipeline)
