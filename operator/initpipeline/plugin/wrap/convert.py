"""A whole file of manifests, its workloads made InitPipelines and the rest as it was."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from initpipeline.api import names
from initpipeline.plugin.manifests import Document, ManifestError, read, to_yaml
from initpipeline.plugin.wrap.fields import CONTROLLER_LABELS
from initpipeline.plugin.wrap.labels import as_mapping, matches
from initpipeline.plugin.wrap.rules import CannotWrapError
from initpipeline.plugin.wrap.workloads import KINDS, WrapOptions, Wrapped, is_workload, wrap


@dataclass(frozen=True, slots=True)
class Remark:
    """What a person is told about one object of the file."""

    title: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Conversion:
    """What a file becomes."""

    text: str
    """YAML: as many documents as the file had, in its order, and claims before their pipeline."""
    remarks: tuple[Remark, ...]


def convert(text: str, options: WrapOptions) -> Conversion:
    """Wrap each workload of a file that can be wrapped.

    Raises ManifestError where the text is no file of manifests, CannotWrapError where there is
    nothing in it to wrap, or a wish that cannot be granted.
    """
    documents = read(text)
    workloads = [document for document in documents if is_workload(document.manifest)]
    if not workloads:
        raise ManifestError(_nothing_to_wrap(documents))
    if options.name and len(workloads) > 1:
        raise CannotWrapError(f"--name is for one workload, and there are {len(workloads)}")
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
"""None: it is no workload."""


def _attempt(document: Document, options: WrapOptions) -> Wrapped | CannotWrapError:
    try:
        return wrap(document.manifest, options)
    except CannotWrapError as error:
        return error
    except (AttributeError, KeyError, TypeError, ValueError):
        title = f'{document.manifest["kind"]} "{_name(document.manifest)}"'
        return CannotWrapError(
            f"{title} is not one that the API server would take: "
            "kubectl create --dry-run=server -f shows what is wrong"
        )


def _kind(manifest: Mapping[str, Any]) -> str:
    """With its apiVersion where that is what is wrong."""
    kind = str(manifest["kind"])
    if kind not in KINDS:
        return kind
    return f"{kind} of apiVersion {manifest.get('apiVersion') or 'none'}"


def _nothing_to_wrap(documents: Sequence[Document]) -> str:
    kinds = list(dict.fromkeys(_kind(document.manifest) for document in documents))
    found = f"only {', '.join(kinds)}" if kinds else "no object"
    return f"nothing to wrap: there is {found}; what can be wrapped is a {', '.join(KINDS)}"


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
    title = f'{manifest["kind"]} "{_name(manifest)}"'
    if isinstance(outcome, Wrapped):
        name = _name(outcome.pipeline)
        yield Remark(f'{title} becomes {names.KIND} "{name}"', outcome.notes)
    elif outcome is not None:
        yield Remark(f"left as it is: {outcome}")
    else:
        for other, its_outcome in outcomes:
            if isinstance(its_outcome, Wrapped):
                yield from _of_companion(manifest, title, other.manifest, its_outcome)


def _of_companion(
    manifest: Mapping[str, Any], title: str, workload: Mapping[str, Any], wrapped: Wrapped
) -> Iterator[Remark]:
    """An object that was about a workload, which is an InitPipeline now."""
    if _namespace(manifest) != _namespace(workload):
        return
    spec = as_mapping(manifest.get("spec"))
    was = f'{workload["kind"]} "{_name(workload)}"'
    for field in ("scaleTargetRef", "targetRef", "workloadRef"):
        target = as_mapping(spec.get(field))
        # The kind in a KEDA ScaledObject is optional and defaults to Deployment.
        kind = target.get("kind") or ("Deployment" if field == "scaleTargetRef" else None)
        if (kind, target.get("name")) == (workload["kind"], _name(workload)):
            yield Remark(f"{title} has lost its target, {was}")
    labels = (wrapped.pipeline["spec"]["template"].get("metadata") or {}).get("labels") or {}
    for selector in _selectors(manifest["kind"], spec):
        wanted = as_mapping(selector.get("matchLabels"))
        lost = sorted(CONTROLLER_LABELS & wanted.keys())
        own = {key: value for key, value in wanted.items() if key not in lost}
        if lost and matches({**selector, "matchLabels": own}, labels):
            yield Remark(
                f"{title} may select Pods of {was} by {', '.join(lost)}, which the InitPipeline's "
                "Pod does not have"
            )
    budget = manifest["kind"] == "PodDisruptionBudget" and "selector" in spec
    counted = isinstance(spec.get("minAvailable"), int)
    if budget and not counted and matches(spec["selector"], labels):
        yield Remark(
            f"{title} blocks every eviction of the Pod: only a number as minAvailable works "
            f"without a scale subresource, which {names.PLURAL} do not have"
        )


def _selectors(kind: str, spec: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yields the label selectors of Pods in a spec."""
    for field in ("selector", "podSelector"):
        found = spec.get(field)
        if isinstance(found, dict):
            yield {"matchLabels": found} if kind == "Service" else found


def _namespace(manifest: Mapping[str, Any]) -> str:
    return str(as_mapping(manifest.get("metadata")).get("namespace") or "")


def _name(manifest: Mapping[str, Any]) -> str:
    metadata = as_mapping(manifest.get("metadata"))
    return str(metadata.get("name") or metadata.get("generateName") or "")
