"""Version skew: how the CRD of the cluster differs from that of this version of the operator, and
which fields of a status the API server has not stored.

The schema of a Pod's template and of its container statuses is that of a Kubernetes version, which
the CRD and the operator need not have in common. So it is not compared.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from initpipeline.api.crd import model_schema
from initpipeline.api.models import InitPipeline
from initpipeline.api.podtemplate import Schema


@dataclass(frozen=True, slots=True)
class Skew:
    """The fields by which a CRD differs from the models. A value of an enumeration counts as a
    field, and is written like spec.rerunPolicy=Never."""

    missing: tuple[str, ...]
    """Those that the CRD lacks: it is older than the operator."""
    unknown: tuple[str, ...]
    """Those that the operator does not know: the CRD is newer."""


def skew(served: Schema) -> Skew:
    """Returns how the schema of InitPipelines that an API server publishes differs from the
    models."""
    known = model_schema(InitPipeline.model_json_schema(), {})
    theirs = served.get("properties", {})
    missing: list[str] = []
    unknown: list[str] = []
    for name, field in known["properties"].items():
        _compare(name, field, theirs.get(name, {}), missing, unknown)
    return Skew(tuple(missing), tuple(unknown))


def _compare(
    path: str, known: Schema, served: Schema, missing: list[str], unknown: list[str]
) -> None:
    if "items" in known:
        _compare(f"{path}[]", known["items"], served.get("items", {}), missing, unknown)
    if "enum" in known and "enum" in served:
        missing += [f"{path}={one}" for one in known["enum"] if one not in served["enum"]]
        unknown += [f"{path}={one}" for one in served["enum"] if one not in known["enum"]]
    if "properties" not in known:
        return
    ours, theirs = known["properties"], served.get("properties", {})
    unknown += [f"{path}.{name}" for name in theirs if name not in ours]
    for name, field in ours.items():
        if name in theirs:
            _compare(f"{path}.{name}", field, theirs[name], missing, unknown)
        else:
            missing.append(f"{path}.{name}")


def dropped(sent: Any, stored: Any, path: str = "status") -> Iterator[str]:
    """Yields the path of each field of a merge patch that the stored object lacks. A changed CRD,
    or a webhook, has removed it."""
    if isinstance(sent, Mapping) and isinstance(stored, Mapping):
        for name, value in sent.items():
            if name in stored:
                yield from dropped(value, stored[name], f"{path}.{name}")
            elif value is not None:
                yield f"{path}.{name}"
    elif isinstance(sent, list) and isinstance(stored, list):
        for index, (before, after) in enumerate(zip(sent, stored, strict=False)):
            yield from dropped(before, after, f"{path}[{index}]")
