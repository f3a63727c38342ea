"""The operator's settings, from the command line or the environment (``INITPIPELINE_...``)."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic_settings import BaseSettings, SettingsConfigDict


def _namespace(name: str) -> str:
    """Returns the name of a namespace. Raises ValueError if it is not valid: Kopf would treat it
    as a pattern, and watch no namespace."""
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", name):
        raise ValueError(f"must be a valid namespace name, not {name!r}")
    return name


def _endpoint(url: str) -> str:
    """Returns the URL. Raises ValueError if it lacks a host, a port or a path: Kopf's defaults,
    port 80 and localhost, do not suit the kubelet's probes."""
    if url and not re.fullmatch(r"http://([\w.-]+|\[[0-9a-fA-F:]+\]):\d{1,5}/\S*", url):
        raise ValueError(f"must have the form http://HOST:PORT/PATH, not {url!r}")
    return url


class Settings(BaseSettings):
    """The settings of the operator's process. Raises pydantic.ValidationError if one is invalid."""

    model_config = SettingsConfigDict(
        env_prefix="INITPIPELINE_", extra="forbid", frozen=True, allow_inf_nan=False
    )

    namespaces: tuple[Annotated[str, AfterValidator(_namespace)], ...] = Field(
        default=(), description="Watch only these namespaces. Without it: all namespaces."
    )
    workers: int = Field(
        default=64, ge=1, le=256, description="Number of pipelines reconciled at the same time."
    )
    sweep_seconds: float = Field(
        default=600,
        ge=1,
        description="Seconds between searches for deletions that the watches missed.",
    )
    request_timeout_seconds: float = Field(
        default=30, gt=0, description="Timeout of a request to the API server, in seconds."
    )
    liveness_endpoint: Annotated[str, AfterValidator(_endpoint)] = Field(
        default="",
        description="URL on which to serve liveness probes, such as http://0.0.0.0:8080/healthz.",
    )
    log_format: Literal["auto", "plain", "json"] = Field(
        default="auto",
        description="Format of log lines. auto: plain on a terminal, else JSON.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe level that is logged."
    )
