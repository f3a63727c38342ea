"""The operator's settings, from the command line or the environment (``INITPIPELINE_...``)."""

import re
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from initpipeline.runtime.buckets import BUCKETS
from initpipeline.runtime.gateway import LEAST_SECONDS, MARGIN_SECONDS
from initpipeline.runtime.leader import EARLY_SECONDS

WRITE_SECONDS: Final = EARLY_SECONDS + MARGIN_SECONDS + LEAST_SECONDS
"""A write is sent only if the Lease lasts for longer than this."""

_LABEL: Final = "[a-z0-9]([a-z0-9-]*[a-z0-9])?"
"""A label of a DNS name, of any length."""


def _namespace(name: str) -> str:
    """Returns the name of a namespace. Raises ValueError if it is not valid: Kopf would treat it
    as a pattern, and watch no namespace."""
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", name):
        raise ValueError("must be a valid namespace name")
    return name


def _address(address: str) -> str:
    """Returns the address. Raises ValueError if it lacks a host or a port."""
    if address and not re.fullmatch(r"([\w.-]+|\[[0-9a-fA-F:]+\]):\d{1,5}", address):
        raise ValueError("must have the form HOST:PORT")
    return address


def _lease_name(name: str) -> str:
    """Returns the name of a Lease. Raises ValueError if the API server would refuse it."""
    if len(name) > 253 or not re.fullmatch(rf"{_LABEL}(\.{_LABEL})*", name):
        raise ValueError("must be a valid name of a Lease")
    return name


_PREFIX: Final = "INITPIPELINE_"


def variable(setting: str) -> str:
    """Returns the environment variable of a setting."""
    return f"{_PREFIX}{setting.upper()}"


def option(setting: str) -> str:
    """Returns the option of the command line for a setting."""
    return "--namespace" if setting == "namespaces" else f"--{setting.replace('_', '-')}"


class Settings(BaseSettings):
    """The settings of the operator's process. Raises pydantic.ValidationError if one is invalid."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX, extra="forbid", frozen=True, allow_inf_nan=False
    )

    namespaces: tuple[Annotated[str, AfterValidator(_namespace)], ...] = Field(
        default=(), description="Watch only these namespaces. Without it: all namespaces."
    )
    workers: int = Field(
        default=128,
        ge=1,
        le=256,
        description="Number of pipelines reconciled at the same time. With --shards, each shard "
        "has an equal part of it, rounded up.",
    )
    sweep_seconds: float = Field(
        default=600,
        ge=1,
        description="Seconds between searches for deletions that the watches missed, and between "
        "checks for a changed CRD.",
    )
    request_timeout_seconds: float = Field(
        default=30,
        gt=0,
        description="Timeout of a request to the API server, in seconds. A write must also end "
        "before the Lease expires.",
    )
    lease_name: Annotated[str, AfterValidator(_lease_name)] = Field(
        default="initpipeline",
        description="Name of the Lease that only one replica holds at a time. The others stand by. "
        "With --shards: the Lease with the heartbeats of the replicas. The name of each shard's "
        "Lease begins with it.",
    )
    lease_namespace: Annotated[str, AfterValidator(_namespace)] | None = Field(
        default=None,
        description="Namespace of the Lease. Without it: that of the operator's Pod, or else the "
        "first --namespace, or else default.",
    )
    lease_seconds: int = Field(
        default=15,
        ge=3,
        le=600,
        description="Seconds without a renewal after which another replica takes the Lease over "
        "(client-go: LeaseDuration).",
    )
    retry_seconds: float = Field(
        default=2,
        gt=0,
        description="Seconds between two renewals of the Lease (client-go: RetryPeriod).",
    )
    renew_seconds: float = Field(
        default=10,
        gt=0,
        description="Seconds without a successful renewal after which the holder stops "
        "reconciling (client-go: RenewDeadline). At least twice --retry-seconds, and at least "
        f"{WRITE_SECONDS} less than --lease-seconds, so that a write has time.",
    )
    shards: int = Field(
        default=1,
        ge=1,
        le=len(BUCKETS),
        description="Number of shards, into which the InitPipelines are divided. With more than "
        "one, all replicas work: each shard has a Lease, and each replica watches only the shards "
        "whose Leases it holds, so --standby has no effect. Requires manifests/sharding.",
    )
    standby: Literal["warm", "cold"] = Field(
        default="warm",
        description="What a replica without the Lease does. warm: it watches all objects, so that "
        "it can take over at once. cold: it watches only the Lease, which needs little memory, and "
        "lists all objects when it takes over.",
    )
    log_tails: Literal["record", "omit"] = Field(
        default="record",
        description="record: spec.logTails decides whether the operator copies the termination "
        "messages of containers to status and Events. omit: for all InitPipelines the operator "
        "replaces these messages with a constant text, also those that status already has.",
    )
    scheduling_gate: bool = Field(
        default=False,
        description="Create each Pod with a scheduling gate, and remove it when status records the "
        "Pod. So a Pod that was created late, for a run that has ended, does not start. Costs two "
        "more writes for each Pod, and needs the verb patch on pods.",
    )
    identity: str = Field(
        default="",
        max_length=253,
        description="Name of this replica in the Lease. No other replica may have it. A process "
        "that is restarted with the same name takes the Lease over at once. Without it: the name "
        "of the host with a random suffix.",
    )
    probe_address: Annotated[str, AfterValidator(_address)] = Field(
        default="",
        description="Address on which to serve /healthz and /readyz, such as 0.0.0.0:8080.",
    )
    metrics_address: Annotated[str, AfterValidator(_address)] = Field(
        default="",
        description="Address on which to serve /metrics, such as 0.0.0.0:9090. Without it: no "
        "metrics are recorded.",
    )
    log_format: Literal["auto", "plain", "json"] = Field(
        default="auto",
        description="Format of log lines. auto: plain on a terminal, else JSON.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info",
        description="Least severe level that is logged: debug, info, warning or error.",
    )

    @field_validator("renew_seconds")
    @classmethod
    def _fits(cls, seconds: float, earlier: ValidationInfo) -> float:
        """Returns the seconds. Raises ValueError if the holder would stop before it has tried twice
        to renew its Lease, or if it could reconcile when too little of the Lease is left for a
        write. Pydantic has validated the earlier fields, and leaves out the invalid ones."""
        retry, lease = (earlier.data.get(name) for name in ("retry_seconds", "lease_seconds"))
        if retry is None or lease is None or 2 * retry <= seconds <= lease - WRITE_SECONDS:
            return seconds
        raise ValueError(
            f"must be at least twice --retry-seconds ({retry:g}), and at least {WRITE_SECONDS:g} "
            f"less than --lease-seconds ({lease})"
        )
