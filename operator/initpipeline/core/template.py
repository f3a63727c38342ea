"""Compares Pod templates by the Pod that the API server would store for them.

The API server sets defaults in a Pod, drops empty fields and rounds quantities before it stores the
Pod. Two templates are equal if the API server would store the same Pod for both. ``normal_form``
therefore removes from a template all that does not affect the stored Pod.

The fields, and some of their defaults, are generated from the Kubernetes API's Go types
(api/podfields.py). Other defaults are set by Go code, in
k8s.io/kubernetes/pkg/apis/core/v1/defaults.go. They are listed in this module.
tests/contract/test_template.py compares the results with a real API server.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, Final

from initpipeline.api import names
from initpipeline.api.podfields import DEFAULTS, KINDS
from initpipeline.core import lenient
from initpipeline.core.quantity import Notation, Quantity
from initpipeline.core.resources import pod_level_defaults

_SET_BY_CODE: Final[Mapping[str, Mapping[str, Any]]] = {
    "ConfigMapVolumeSource": {"defaultMode": 0o644},
    "Container": {"terminationMessagePath": "/dev/termination-log"},
    "DownwardAPIVolumeSource": {"defaultMode": 0o644},
    "HTTPGetAction": {"path": "/", "scheme": "HTTP"},
    "HostPathVolumeSource": {"type": ""},
    "ObjectFieldSelector": {"apiVersion": "v1"},
    "PersistentVolumeClaimSpec": {"volumeMode": "Filesystem"},
    "PodSpec": {
        "dnsPolicy": "ClusterFirst",
        "enableServiceLinks": True,
        "restartPolicy": "Always",
        "schedulerName": "default-scheduler",
        "securityContext": {},
        # Set by the admission plugin ServiceAccount.
        "serviceAccountName": "default",
        "terminationGracePeriodSeconds": 30,
    },
    "Probe": {
        "failureThreshold": 3,
        "periodSeconds": 10,
        "successThreshold": 1,
        "timeoutSeconds": 1,
    },
    "ProjectedVolumeSource": {"defaultMode": 0o644},
    "SecretVolumeSource": {"defaultMode": 0o644},
    "ServiceAccountTokenProjection": {"expirationSeconds": 3600},
}
"""Defaults that do not depend on other fields. ``_without_conditional`` removes those that do."""

INIT_MESSAGE_POLICY: Final = "FallbackToLogsOnError"
"""The terminationMessagePolicy that podspec.build sets on init containers without a policy, unless
spec.logTails is Omit. The hash is the same in both cases, so that a change of logTails starts no
run."""

_UNORDERED: Final[Mapping[str, frozenset[str]]] = {
    "Capabilities": frozenset({"add", "drop"}),
    "ContainerRestartRuleOnExitCodes": frozenset({"values"}),
    "LabelSelector": frozenset({"matchExpressions"}),
    "LabelSelectorRequirement": frozenset({"values"}),
    "NodeAffinity": frozenset({"preferredDuringSchedulingIgnoredDuringExecution"}),
    "NodeSelector": frozenset({"nodeSelectorTerms"}),
    "NodeSelectorRequirement": frozenset({"values"}),
    "NodeSelectorTerm": frozenset({"matchExpressions", "matchFields"}),
    "PersistentVolumeClaimSpec": frozenset({"accessModes"}),
    "PodAffinity": frozenset(
        {
            "preferredDuringSchedulingIgnoredDuringExecution",
            "requiredDuringSchedulingIgnoredDuringExecution",
        }
    ),
    "PodAffinityTerm": frozenset({"matchLabelKeys", "mismatchLabelKeys", "namespaces"}),
    "PodAntiAffinity": frozenset(
        {
            "preferredDuringSchedulingIgnoredDuringExecution",
            "requiredDuringSchedulingIgnoredDuringExecution",
        }
    ),
    "PodSpec": frozenset(
        {
            "readinessGates",
            "resourceClaims",
            "schedulingGates",
            "tolerations",
            "topologySpreadConstraints",
            "volumes",
        }
    ),
    "PodTemplate": frozenset({"finalizers"}),
    "ResourceRequirements": frozenset({"claims"}),
    "TopologySpreadConstraint": frozenset({"matchLabelKeys"}),
}
"""Lists whose order has no effect: their items are combined by AND or OR, are added up, or are only
referred to by name. The order of all other lists may matter, such as that of variables and mounts.
"""

_ALL_DEFAULTS: Final = {
    type_: {**DEFAULTS.get(type_, {}), **_SET_BY_CODE.get(type_, {})}
    for type_ in {*DEFAULTS, *_SET_BY_CODE}
}

_VERSION: Final = 2
"""Increase this with each change of this module that changes a normal form."""

_FORM: Final = hashlib.sha256(
    json.dumps(
        (_VERSION, KINDS, _ALL_DEFAULTS, {key: sorted(_UNORDERED[key]) for key in _UNORDERED}),
        sort_keys=True,
    ).encode()
).hexdigest()[:4]
_HASH_LENGTH: Final = 16

_IMAGE: Final = re.compile(
    r"(?P<name>[^@]*?)(?P<tag>:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?P<digest>@.+)?", re.DOTALL
)
_REPOSITORY: Final = re.compile(
    r"(?:[A-Za-z0-9.-]+(?::[0-9]+)?/|\[[0-9a-fA-F:]+\](?::[0-9]+)?/)?"
    r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*"
)
_DIGEST: Final = re.compile(
    r"@[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"
)
_LONGEST_REPOSITORY: Final = 255
"""Characters. The API server parses images by the rules of github.com/distribution/reference."""
_DEEPEST: Final = 50
"""Levels. Only managedFields can be nested more deeply, and a template cannot have that field."""


MOST_ELEMENTS: Final = 20_000
"""Maximum number of fields and list items of a template that is compared by its normal form."""


_NESTED: Final = (dict, list)


class Unordered(list[Any]):
    """A list whose order has no effect."""


def normal_form(template: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the template without all that does not affect the stored Pod. Never raises: a value
    that the API server would refuse is returned unchanged."""
    metadata = lenient.mapping(template.get("metadata"))
    spec = lenient.mapping(template.get("spec"))
    form = {"metadata": _metadata(metadata), "spec": _pod_spec(spec)}
    return {key: value for key, value in form.items() if value}


def digest(template: Mapping[str, Any]) -> str:
    """Returns a hash that two templates share if the API server would store the same Pod for both.

    For a template of more than MOST_ELEMENTS, the hash is that of its JSON with sorted keys:
    computing the normal form would take seconds of CPU, which slows the reconciles of all
    pipelines.

    The first four digits identify the version of the rules. Only hashes of the same version can be
    compared (``is_comparable``).
    """
    text = json_text(template) if is_large(template) else canonical(normal_form(template))
    content = hashlib.sha256(text.encode()).hexdigest()
    return (_FORM + content)[:_HASH_LENGTH]


def is_large(template: Mapping[str, Any]) -> bool:
    count = 0
    pending: list[Any] = [template]
    while pending and count <= MOST_ELEMENTS:
        value = pending.pop()
        items = list(value.values()) if isinstance(value, dict) else value
        count += len(items)
        pending += [item for item in items if isinstance(item, _NESTED)]
    return count > MOST_ELEMENTS


def is_comparable(hash_: str | None) -> bool:
    """Returns whether the hash is one of this version of the rules, like those of ``digest``."""
    return hash_ is not None and len(hash_) == _HASH_LENGTH and hash_.startswith(_FORM)


def _metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the template's part of the Pod's metadata, without labels and annotations that the
    operator sets."""
    fields = {
        "labels": _without(metadata.get("labels"), names.POD_LABELS),
        "annotations": _without(metadata.get("annotations"), names.POD_ANNOTATIONS),
        "finalizers": Unordered(_list(metadata.get("finalizers"))),
    }
    return {key: value for key, value in fields.items() if value}


def _without(values: Any, ours: frozenset[str]) -> dict[str, Any]:
    return {
        key: value
        for key, value in lenient.mapping(values).items()
        if key not in ours and value is not None
    }


def _pod_spec(spec: Mapping[str, Any]) -> dict[str, Any]:
    spec = dict(spec)
    account = spec.get("serviceAccountName") or spec.pop("serviceAccount", None)
    spec = {**spec, "serviceAccountName": account}
    spec.pop("serviceAccount", None)
    form = _fields("PodSpec", spec)
    host_network = spec.get("hostNetwork") is True
    for key in ("initContainers", "containers"):
        for container in _objects(form.get(key)):
            _without_conditional(container, key == "initContainers", host_network)
    for volume in _objects(form.get("volumes")):
        _without_source(volume)
    _without_pod_level_defaults(form, spec)
    return form


def _without_conditional(container: dict[str, Any], is_init: bool, host_network: bool) -> None:
    """Remove from a container the defaults that depend on other fields."""
    policy = INIT_MESSAGE_POLICY if is_init else "File"
    _drop(container, "terminationMessagePolicy", policy)
    _drop(container, "imagePullPolicy", _pull_policy(container.get("image")))
    resources = container.get("resources")
    if isinstance(resources, dict):
        _drop_equal(resources, "requests", lenient.mapping(resources.get("limits")))
    if host_network:
        for port in _objects(container.get("ports")):
            _drop(port, "hostPort", port.get("containerPort"))


def _without_source(volume: dict[str, Any]) -> None:
    """Remove an emptyDir at its defaults, because a volume without a source is an emptyDir. Remove
    the default pull policy of an image volume."""
    if not (volume.keys() & KINDS["Volume"].keys()) - {"emptyDir"}:
        _drop(volume, "emptyDir", {})
    image = volume.get("image")
    if isinstance(image, dict):
        _drop(image, "pullPolicy", _pull_policy(image.get("reference")))


def _without_pod_level_defaults(form: dict[str, Any], spec: Mapping[str, Any]) -> None:
    """Remove the Pod-level requests and limits that equal their defaults. If all do, keep the
    limits: for a Pod without Pod-level resources, the API server sets no default."""
    resources = form.get("resources")
    if not isinstance(resources, dict) or not resources:
        return
    try:
        requests, limits = pod_level_defaults(spec)
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError):
        return  # The API server will refuse the Pod.
    default_limits = {k: _amount(q) for k, q in limits.items()}
    _drop_equal(resources, "requests", {k: _amount(q) for k, q in requests.items()})
    _drop_equal(resources, "limits", default_limits)
    if not resources:
        resources["limits"] = default_limits


def _drop(fields: dict[str, Any], key: str, default: Any) -> None:
    if key in fields and _same(fields[key], default):
        del fields[key]


def _drop_equal(fields: dict[str, Any], key: str, defaults: Mapping[str, Any]) -> None:
    """Drop the entries of a map that equal their defaults, and the map if it becomes empty."""
    values = fields.get(key)
    if not isinstance(values, dict):
        return
    kept = {name: value for name, value in values.items() if defaults.get(name) != value}
    fields[key] = kept
    if not kept:
        del fields[key]


def _pull_policy(image: Any) -> str:
    """Returns the API server's default of imagePullPolicy: Always if the tag is latest, or if the
    image has neither tag nor digest. IfNotPresent otherwise, even if the image cannot be parsed.
    """
    match = _IMAGE.fullmatch(image) if isinstance(image, str) else None
    if match is None or len(match["name"]) > _LONGEST_REPOSITORY:
        return "IfNotPresent"
    tag, content = match["tag"], match["digest"]
    if not _REPOSITORY.fullmatch(match["name"]) or (content and not _DIGEST.fullmatch(content)):
        return "IfNotPresent"
    return "Always" if tag == ":latest" or not (tag or content) else "IfNotPresent"


def _object(type_: str, raw: Any) -> Any:
    return _fields(type_, raw) if isinstance(raw, dict) else raw


def _fields(type_: str, raw: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of an object of this type, without empty fields and fields that have their
    default value."""
    kinds, defaults = KINDS.get(type_, {}), _ALL_DEFAULTS.get(type_, {})
    unordered = _UNORDERED.get(type_, frozenset())
    form: dict[str, Any] = {}
    for key, value in raw.items():
        if value is None:
            continue
        kind = kinds.get(key, "")
        normal = _value(kind, value)
        if key in defaults and _same(normal, defaults[key]):
            continue
        if not normal and not kind.startswith("*"):
            continue  # The Go field is not a pointer, so zero and absent are the same.
        if key in unordered and isinstance(normal, list):
            normal = Unordered(normal)
        form[key] = normal
    return form


def _value(kind: str, raw: Any) -> Any:
    if kind == "{}Quantity":
        if not isinstance(raw, dict):
            return raw
        return {name: _quantity(value) for name, value in raw.items() if value is not None}
    if kind == "[]int" and isinstance(raw, list):
        return [_plain(0 if item is None else item) for item in raw]
    type_ = kind.lstrip("*[]")
    if type_ == "Quantity":
        amount = _quantity(raw)
        return None if amount == _ZERO and not kind.startswith("*") else amount
    if kind.startswith("[]") and isinstance(raw, list):
        return [_object(type_, {} if item is None else item) for item in raw]
    return _object(type_, raw) if type_ else _plain(raw)


def _plain(raw: Any, depth: int = 0) -> Any:
    """Returns the normal form of a value that holds no quantities and no objects of known types."""
    if isinstance(raw, float) and raw.is_integer():
        return int(raw)
    if depth > _DEEPEST:
        return None
    if isinstance(raw, list):
        return ["" if item is None else _plain(item, depth + 1) for item in raw]
    if isinstance(raw, dict):
        return {key: _plain(value, depth + 1) for key, value in raw.items() if value is not None}
    return raw


def _quantity(raw: Any) -> Any:
    if not isinstance(raw, str | int | float):
        return raw
    try:
        return _amount(Quantity.parse(str(raw)))
    except ValueError:
        return raw


def _amount(quantity: Quantity) -> str:
    """Returns the same text for equal amounts, in any notation."""
    return str(Quantity(quantity.milli, Notation.BINARY))


_ZERO: Final = _amount(Quantity(0))


def _same(value: Any, default: Any) -> bool:
    """Returns whether two values are equal and have the same type. For Python, True equals 1."""
    return type(value) is type(default) and bool(value == default)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _objects(value: Any) -> list[dict[str, Any]]:
    return [item for item in _list(value) if isinstance(item, dict)]


def canonical(form: Any) -> str:
    """Returns the JSON of a normal form or a part of it. Parts that differ only in the order of
    Unordered lists have the same JSON."""
    return json_text(_sorted(form))


def _sorted(value: Any) -> Any:
    """Returns the value, in which each Unordered list is replaced by the sorted JSON texts of its
    items."""
    if isinstance(value, dict):
        return {
            key: _sorted(one) if isinstance(one, _NESTED) else one for key, one in value.items()
        }
    if isinstance(value, list):
        items = [_sorted(item) for item in value]
        return sorted(map(json_text, items)) if isinstance(value, Unordered) else items
    return value


json_text: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode
