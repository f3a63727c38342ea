"""Conversion of a file of manifests: workloads become InitPipelines, other objects stay."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from initpipeline.api import names
from initpipeline.core import lenient
from initpipeline.plugin.manifests import Document, ManifestError, read, to_yaml
from initpipeline.plugin.wrap.fields import CONTROLLER_LABELS
from initpipeline.plugin.wrap.labels import matches
from initpipeline.plugin.wrap.rules import CannotWrapError
from initpipeline.plugin.wrap.workloads import (
    KINDS,
    WrapOptions,
    Wrapped,
    is_workload,
    name_of,
    title_of,
    wrap,
)


@dataclass(frozen=True, slots=True)
class Remark:
    """What is reported to the user about one object of the file."""

    title: str
    """The outcome for this object."""
    notes: tuple[str, ...] = ()
    """What behaves differently afterwards, and what the user has to do."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """A converted file."""

    text: str
    """YAML with the objects in the order of the file. Claims precede the pipeline that uses
    them."""
    remarks: tuple[Remark, ...]


def convert(text: str, options: WrapOptions) -> Conversion:
    """Converts each workload of a file, and leaves those unchanged that cannot be converted.

    Raises ManifestError if the text does not consist of manifests or contains no workload. Raises
    CannotWrapError if no workload can be converted, or an option does not apply.
    """
    documents = read(text)
    workloads = [document for document in documents if is_workload(document.manifest)]
    if not workloads:
        raise ManifestError(_nothing_to_wrap(documents))
    if options.name and len(workloads) > 1:
        raise CannotWrapError(f"--name is for a single workload, but there are {len(workloads)}")
    outcomes = [
        (document, _attempt(document, options) if document in workloads else None)
        for document in documents
    ]
    wrapped = [outcome for _, outcome in outcomes if isinstance(outcome, Wrapped)]
    if not wrapped:
        raise CannotWrapError("; ".join(str(outcome) for _, outcome in outcomes if outcome))
    texts = [text for document, outcome in outcomes for text in _texts(document, outcome)]
    remarks = [
        remark
        for document, outcome in outcomes
        for remark in _remarks(document.manifest, outcome, outcomes)
    ]
    return Conversion("---\n".join(texts), tuple(remarks))


_Outcome = Wrapped | CannotWrapError | None
"""The converted workload, or why it cannot be converted. None: the object is not a workload."""


def _attempt(document: Document, options: WrapOptions) -> Wrapped | CannotWrapError:
    try:
        return wrap(document.manifest, options)
    except CannotWrapError as error:
        return error
    except (AttributeError, KeyError, TypeError, ValueError):
        return CannotWrapError(
            f"{title_of(document.manifest)} is not valid: kubectl create --dry-run=server -f FILE "
            "shows the errors"
        )


def _kind(manifest: Mapping[str, Any]) -> str:
    """Returns the kind, with the apiVersion if only that is not supported."""
    kind = str(manifest["kind"])
    if kind not in KINDS:
        return kind
    return f"{kind} of apiVersion {manifest.get('apiVersion') or 'none'}"


def _nothing_to_wrap(documents: Sequence[Document]) -> str:
    kinds = list(dict.fromkeys(_kind(document.manifest) for document in documents))
    content = f"only {', '.join(kinds)}" if kinds else "no object"
    return f"nothing to wrap: there is {content}; wrap supports {', '.join(KINDS)}"


def _texts(document: Document, outcome: _Outcome) -> Iterator[str]:
    if not isinstance(outcome, Wrapped):
        yield document.rendered()
        return
    namespace = outcome.pipeline["metadata"].get("namespace")
    for claim in outcome.claims:
        place = {"namespace": namespace} if namespace else {}
        name = {"name": claim["metadata"]["name"]}
        yield to_yaml({**claim, "metadata": {**name, **place, **claim["metadata"]}})
    yield to_yaml(outcome.pipeline)


def _remarks(
    manifest: Mapping[str, Any],
    outcome: _Outcome,
    outcomes: Sequence[tuple[Document, _Outcome]],
) -> Iterator[Remark]:
    title = title_of(manifest)
    if isinstance(outcome, Wrapped):
        name = name_of(outcome.pipeline)
        yield Remark(f'{title} becomes {names.KIND} "{name}"', outcome.notes)
    elif outcome is not None:
        yield Remark(f"left unchanged: {outcome}")
    else:
        for other, its_outcome in outcomes:
            if isinstance(its_outcome, Wrapped):
                yield from _reference_remarks(manifest, title, other.manifest, its_outcome)


def _reference_remarks(
    manifest: Mapping[str, Any], title: str, workload: Mapping[str, Any], wrapped: Wrapped
) -> Iterator[Remark]:
    """Yields a remark for each reference to a converted workload that no longer works."""
    if _namespace(manifest) != _namespace(workload):
        return
    spec = lenient.mapping(manifest.get("spec"))
    workload_title = title_of(workload)
    for field in ("scaleTargetRef", "targetRef", "workloadRef"):
        target = lenient.mapping(spec.get(field))
        # The kind in a KEDA ScaledObject is optional and defaults to Deployment.
        kind = target.get("kind") or ("Deployment" if field == "scaleTargetRef" else None)
        if (kind, target.get("name")) == (workload["kind"], name_of(workload)):
            yield Remark(f"{title} has lost its target, {workload_title}")
    labels = (wrapped.pipeline["spec"]["template"].get("metadata") or {}).get("labels") or {}
    for selector in _selectors(manifest["kind"], spec):
        wanted = lenient.mapping(selector.get("matchLabels"))
        lost = sorted(CONTROLLER_LABELS & wanted.keys())
        own = {key: value for key, value in wanted.items() if key not in lost}
        if lost and matches({**selector, "matchLabels": own}, labels):
            yield Remark(
                f"{title} may select Pods of {workload_title} by {', '.join(lost)}, which the "
                "InitPipeline's Pod does not have"
            )
    is_budget = manifest["kind"] == "PodDisruptionBudget" and "selector" in spec
    has_integer = isinstance(spec.get("minAvailable"), int)
    if is_budget and not has_integer and matches(spec["selector"], labels):
        yield Remark(
            f"{title} blocks every eviction of the Pod: only an integer minAvailable works, as "
            f"{names.PLURAL} have no scale subresource"
        )


def _selectors(kind: str, spec: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yields the label selectors of Pods in a spec."""
    for field in ("selector", "podSelector"):
        selector = spec.get(field)
        if isinstance(selector, dict):
            yield {"matchLabels": selector} if kind == "Service" else selector


def _namespace(manifest: Mapping[str, Any]) -> str:
    return str(lenient.mapping(manifest.get("metadata")).get("namespace") or "")
