"""The facts of a decision: the InitPipeline, its Pod, and the results of earlier requests.

Of an InitPipeline only the fields that decisions need are kept, so that the cache stays small.
"""

import base64
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeVar

from pydantic import ValidationError

from initpipeline.api.models import INT32_MAX, ApiModel, InitPipelineStatus, Policies
from initpipeline.api.names import BUCKET_LABEL, RERUN_ANNOTATION
from initpipeline.api.reasons import Reason
from initpipeline.api.times import parse_time
from initpipeline.core import lenient
from initpipeline.core import template as templates
from initpipeline.core.encoding import decode, encode
from initpipeline.core.errors import UnreadableError, unreadable_as_error
from initpipeline.core.pod import Pod

COMPACT = "compact"
"""A field that only core.compact adds, with the compressed template. No API object has it."""


@dataclass(frozen=True, slots=True)
class PipelineMetadata:
    """The metadata of an InitPipeline that the API server sets."""

    namespace: str
    name: str
    uid: str
    resource_version: str
    generation: int
    deleting: bool


def pipeline_metadata(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of PipelineMetadata. Raises LookupError, TypeError or AttributeError if
    the object does not have them."""
    metadata = raw["metadata"]
    return {
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "uid": metadata["uid"],
        "resource_version": metadata["resourceVersion"],
        "generation": metadata["generation"],
        "deleting": bool(metadata.get("deletionTimestamp")),
    }


@dataclass(frozen=True, slots=True)
class Pipeline(PipelineMetadata):
    """The fields of an InitPipeline that decisions need."""

    rerun_token: str | None
    """The value of the annotation by which users request a run. None: there is no annotation."""
    bucket: str
    """The value of BUCKET_LABEL, which the Pod gets as well. "": there is no such label."""
    template_zip: bytes
    """spec.template as canonical JSON, compressed so that many templates of 1 MB fit in memory."""
    template_hash: str
    """core.template.digest of the template: two templates share it if the API server would store
    the same Pod for both. "" until it is computed, see ``hashed``."""
    size: int
    """Bytes of the InitPipeline as JSON, without status."""
    created_at: datetime | None
    policies: Policies
    status: InitPipelineStatus

    @classmethod
    def from_api(cls, raw: Mapping[str, Any]) -> "Pipeline":
        """Returns the InitPipeline, with its template_hash.

        Raises UnreadableError if the spec or the status does not match the schema. Another version
        of the CRD may have stored it, or another client may have written the status.
        """
        return cls.from_api_unhashed(raw).hashed()

    @classmethod
    def from_api_unhashed(
        cls, raw: Mapping[str, Any], before: "Pipeline | None" = None
    ) -> "Pipeline":
        """Returns the InitPipeline. The template_hash is copied from status, or "".

        ``before`` is the InitPipeline before the write, if ``raw`` is the answer to a status write.
        Its template is not read again: the API server refuses the write if the InitPipeline has
        changed. Raises UnreadableError like ``from_api``.
        """
        with unreadable_as_error("InitPipeline"):
            return cls._read(raw, before)

    @classmethod
    def _read(cls, raw: Mapping[str, Any], before: "Pipeline | None") -> "Pipeline":
        metadata = pipeline_metadata(raw)
        annotations = raw["metadata"].get("annotations") or {}
        policies = _validated(Policies, "spec", raw["spec"])
        status = _status(raw.get("status") or {})
        if before is not None and before.generation == metadata["generation"]:
            zipped, size, hash_ = before.template_zip, before.size, before.template_hash
        else:
            zipped, size = _template(raw)
            hash_ = _known_hash(status, policies, metadata["generation"]) or ""
        return cls(
            **metadata,
            rerun_token=lenient.identifier(annotations.get(RERUN_ANNOTATION)) or None,
            bucket=lenient.text(lenient.mapping(raw["metadata"].get("labels")).get(BUCKET_LABEL)),
            template_zip=zipped,
            template_hash=hash_,
            size=size,
            created_at=parse_time(raw["metadata"].get("creationTimestamp")),
            policies=policies,
            status=status,
        )

    def hashed(self) -> "Pipeline":
        """Returns the pipeline with its template_hash, computed if necessary. That takes 0.3 s for
        a template of 1 MB, so the reconcile computes it in a thread."""
        if self.template_hash:
            return self
        return replace(self, template_hash=templates.digest(self.template))

    @property
    def template_json(self) -> bytes:
        """spec.template as canonical JSON, decompressed at each call."""
        return zlib.decompress(self.template_zip)

    @property
    def template(self) -> dict[str, Any]:
        """spec.template, parsed at each call."""
        template: dict[str, Any] = decode(self.template_json)
        return template


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the API server, or the operator's own validation, refused the current run's Pod."""

    reason: Reason
    message: str
    final: bool = False
    """The creation is not retried until the spec changes. The API server's refusals are never
    final, because quotas, policies and webhooks change."""


@dataclass(frozen=True, slots=True)
class Facts:
    """The input of a decision about one InitPipeline, besides the current time."""

    pipeline: Pipeline
    pod: Pod | None
    """The Pod with the pipeline's name, whether or not the pipeline owns it. None: there is no such
    Pod."""
    refusal: Refusal | None = None
    """Why the current run's Pod cannot be created: the API server refused it in this reconcile, or
    the operator's validation of the spec failed."""
    refused_in_place: bool = False
    """The refused Pod contained the operator's rules for a restart in place."""
    gone: Pod | None = None
    """The last state of the deleted Pod, from the DELETED event. None: no such event was received,
    or a Pod with this name exists."""
    gate_refused: bool = False
    """The API server has refused, in this reconcile, to remove the operator's scheduling gate."""
    failed: Refusal | None = None
    """Why the last requests to create the current run's Pod failed, if not because of this Pod. The
    Pod may exist nevertheless. None: at most one request in a row has failed."""
    requested: bool = False
    """This process has requested a Pod for this pipeline before, with any result."""
    undeleted: str | None = None
    """The error of the last request to delete the Pod or the InitPipeline. None: at most one
    request in a row has failed, or this process has sent none yet."""

    def with_pipeline(self, pipeline: Pipeline) -> "Facts":
        """Returns the facts with this version of the pipeline."""
        return self if pipeline is self.pipeline else replace(self, pipeline=pipeline)


def zipped_template(raw: Mapping[str, Any]) -> tuple[bytes, int]:
    """Returns the template of an InitPipeline as compressed canonical JSON, and the bytes of the
    InitPipeline as JSON, without status."""
    written = encode(raw["spec"]["template"])
    others = [raw["metadata"], {**raw["spec"], "template": None}]
    return zlib.compress(written, 1), len(written) + len(encode(others))


def list_with_unnamed_container(template: object) -> str | None:
    """Returns the list of containers that has an item without a name. None: all have names."""
    spec = lenient.mapping(lenient.mapping(template).get("spec"))
    for key in ("containers", "initContainers"):
        for container in spec.get(key) or ():
            if not lenient.text(lenient.mapping(container).get("name")):
                return key
    return None


def _template(raw: Mapping[str, Any]) -> tuple[bytes, int]:
    """Returns the template as compressed canonical JSON, and the object's size without status."""
    small = raw.get(COMPACT)
    if small is not None:
        return base64.b64decode(small["template"]), small["size"]
    unnamed = list_with_unnamed_container(raw["spec"]["template"])
    if unnamed is not None:
        raise UnreadableError(f"spec.template.spec.{unnamed}: an item has no name")
    return zipped_template(raw)


def _known_hash(status: InitPipelineStatus, policies: Policies, generation: int) -> str | None:
    """Returns the hash in status if it is that of the current template. None: it may be that of
    another template.

    While a pipeline is suspended, status keeps the hash of the last run's template.
    """
    hash_ = status.template_hash
    observed = status.observed_generation == generation and not policies.suspend
    return hash_ if observed and templates.is_comparable(hash_) else None


M = TypeVar("M", bound=ApiModel)


def _validated(model: type[M], field: str, raw: object) -> M:
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        path = ".".join(str(part) for part in (field, *first["loc"]))
        raise UnreadableError(f"{path}: {first['msg']}") from error


def _status(raw: object) -> InitPipelineStatus:
    status = _validated(InitPipelineStatus, "status", raw)
    if status.run is not None and status.run.number >= INT32_MAX:
        raise UnreadableError("status.run.number: there is no next number for another run")
    return status
