"""What can be set, from the environment (``INITPIPELINE_...``) or the command line."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic_settings import BaseSettings, SettingsConfigDict


def _namespace(name: str) -> str:
    """Kopf would take anything else as a pattern, and watch nothing at all."""
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", name):
        raise ValueError("a namespace's name is up to 63 of a-z, 0-9 and -")
    return name


def _endpoint(url: str) -> str:
    """Kopf would listen on port 80, or on localhost only, where the URL does not say."""
    if url and not re.fullmatch(r"http://([\w.-]+|\[[0-9a-fA-F:]+\]):\d{1,5}/\S*", url):
        raise ValueError("an address to listen on is http://HOST:PORT/PATH")
    return url


class Settings(BaseSettings):
    """Settings of the operator's process. Raises pydantic.ValidationError for a bad one."""

    model_config = SettingsConfigDict(
        env_prefix="INITPIPELINE_", extra="forbid", frozen=True, allow_inf_nan=False
    )

    namespaces: tuple[Annotated[str, AfterValidator(_namespace)], ...] = Field(
        default=(), description="Serve these namespaces only. Empty: all of them."
    )
    workers: int = Field(
        default=16, ge=1, le=256, description="How many pipelines are worked on at a time."
    )
    sweep_seconds: float = Field(
        default=600,
        ge=1,
        description="How often to look for objects whose deletion no watch has told.",
    )
    request_timeout_seconds: float = Field(
        default=30, gt=0, description="How long one request to the API server may take."
    )
    liveness_endpoint: Annotated[str, AfterValidator(_endpoint)] = Field(
        default="",
        description="Where to answer liveness probes, such as http://0.0.0.0:8080/healthz.",
    )
    log_format: Literal["auto", "plain", "json"] = Field(
        default="auto", description="auto: plain on a terminal, JSON otherwise."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least important lines to log."
    )
