"""The manifest of the Pod that the operator creates for a run."""

from typing import Any, Final

from initpipeline.api import names
from initpipeline.api.reasons import LogTails
from initpipeline.core import in_place
from initpipeline.core.facts import Pipeline
from initpipeline.core.template import INIT_MESSAGE_POLICY
from initpipeline.core.template_annotation import packed

_LARGEST_ANNOTATIONS: Final = 256 * 1024
"""The API server's limit for all annotations of an object, in bytes: TotalAnnotationSizeLimitB."""


def build(
    pipeline: Pipeline,
    run: int,
    rerun_in_place: str | None = None,
    rerun_token: str | None = None,
) -> dict[str, Any]:
    """Returns the manifest of the Pod for this run.

    The manifest is the template with these additions:

    - name, label, annotations and owner, by which the operator recognizes the Pod;
    - terminationMessagePolicy FallbackToLogsOnError on init containers that set no policy, unless
      spec.logTails is Omit: the end of the log is often the only evidence of a failure that remains
      when the Pod is gone;
    - with ``rerun_in_place`` IN_PLACE, the operator's restart rules on the app containers.

    ``rerun_in_place`` is the value of the annotation RERUN_IN_PLACE_ANNOTATION. None: the Pod does
    not get the annotation. ``rerun_token`` is the last token for which a run has started. None: no
    run was requested.

    Of the pipeline's labels only BUCKET_LABEL is copied to the Pod: GitOps tools recognize the
    objects that they manage by their labels, and would prune the Pod.
    """
    template = pipeline.template
    spec = template["spec"]
    if rerun_in_place == names.IN_PLACE:
        spec = in_place.with_rules(spec)
    if pipeline.policies.log_tails is LogTails.RECORD:
        steps = [_with_evidence(c) for c in spec.get("initContainers") or ()]
        spec = {**spec, "initContainers": steps}
    annotations = {
        names.RUN_ANNOTATION: str(run),
        names.TEMPLATE_HASH_ANNOTATION: pipeline.template_hash,
        names.RERUN_TOKEN_ANNOTATION: rerun_token or "",
    }
    if rerun_in_place:
        annotations[names.RERUN_IN_PLACE_ANNOTATION] = rerun_in_place
    metadata = _metadata(pipeline, template, annotations)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _metadata(
    pipeline: Pipeline, template: dict[str, Any], annotations: dict[str, str]
) -> dict[str, Any]:
    """Returns the Pod's metadata: that of the template, and the operator's, with these
    annotations."""
    given = template.get("metadata") or {}
    labels = {
        **_without(names.POD_LABELS, given.get("labels") or {}),
        names.NAME_LABEL: pipeline.name,
    }
    if pipeline.bucket:
        labels[names.BUCKET_LABEL] = pipeline.bucket
    annotations = {
        **_without(names.POD_ANNOTATIONS, given.get("annotations") or {}),
        **annotations,
    }
    metadata = {
        "name": pipeline.name,
        "namespace": pipeline.namespace,
        "labels": labels,
        "annotations": _with_template(annotations, template),
        "ownerReferences": [_owner_reference(pipeline)],
    }
    finalizers = given.get("finalizers")
    return {**metadata, "finalizers": finalizers} if finalizers else metadata


def gated(manifest: dict[str, Any]) -> dict[str, Any]:
    """Returns the manifest with the operator's scheduling gate."""
    spec = manifest["spec"]
    gates = [*(spec.get("schedulingGates") or ()), {"name": names.RUN_GATE}]
    return {**manifest, "spec": {**spec, "schedulingGates": gates}}


def _without(ours: frozenset[str], values: dict[str, str]) -> dict[str, str]:
    """Returns the labels or annotations of the template, without those that the operator sets."""
    return {key: value for key, value in values.items() if key not in ours}


def _with_template(annotations: dict[str, str], template: dict[str, Any]) -> dict[str, str]:
    """Returns the annotations with the packed template, if that fits within the API server's
    limit."""
    text = packed(template)
    if text is None:
        return annotations
    extended = {**annotations, names.TEMPLATE_ANNOTATION: text}
    size = sum(len(f"{key}{value}".encode()) for key, value in extended.items())
    return extended if size <= _LARGEST_ANNOTATIONS else annotations


def _owner_reference(pipeline: Pipeline) -> dict[str, Any]:
    """Returns the ownerReference that makes the pipeline the Pod's controller. The garbage
    collector deletes the Pod with the pipeline."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "name": pipeline.name,
        "uid": pipeline.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def _with_evidence(container: dict[str, Any]) -> dict[str, Any]:
    if container.get("terminationMessagePolicy"):
        return container
    return {**container, "terminationMessagePolicy": INIT_MESSAGE_POLICY}
