"""Compares the CRD that the API server serves with this version of the operator, and reports the
difference in the log and in a metric.

The source is the OpenAPI document, which each authenticated user may read. To read the CRD itself,
an operator of some namespaces would need a permission for the cluster.
"""

import asyncio
import logging
from typing import Any, Final

from initpipeline import __version__
from initpipeline.api import names
from initpipeline.core.skew import Skew, skew
from initpipeline.runtime.client import ApiClient
from initpipeline.runtime.errors import ApiError, ConnectionFailed
from initpipeline.runtime.meter import Meter

logger = logging.getLogger(__name__)

_INDEX: Final = "/openapi/v3"
_GROUP: Final = f"apis/{names.API_VERSION}"
_LOGGED: Final = 10
"""The most fields in a log line."""


class CrdCheck:
    """Compares the CRD once in each period, if its schema has changed."""

    def __init__(self, client: ApiClient, meter: Meter) -> None:
        self._client = client
        self._meter = meter
        self._compared = ""
        """The address of the schema that was compared last. It contains a hash of the schema."""
        self._skew = Skew((), ())
        self._problem = ""

    async def run(self, period_seconds: float) -> None:
        """Compare until the task is cancelled. A CRD that cannot be read is no reason to stop."""
        while True:
            try:
                await self.compare()
                problem = ""
            except (ApiError, ConnectionFailed) as error:
                problem = str(error)
            except (LookupError, TypeError, AttributeError) as error:
                problem = f"{_INDEX} has no {names.KIND} of {names.API_VERSION}: {error!r}"
            if problem and problem != self._problem:
                logger.warning("CRD not compared", extra={"error": problem})
            self._problem = problem
            await asyncio.sleep(period_seconds)

    async def compare(self) -> None:
        """Compare the schema that the API server publishes, if it is a new one."""
        index = await self._client.request("GET", _INDEX)
        address: str = index["paths"][_GROUP]["serverRelativeURL"]
        if address == self._compared:
            return
        document = await self._client.request("GET", address)
        before, self._skew = self._skew, skew(_schema(document))
        self._compared = address
        self._meter.compared(len(self._skew.missing), len(self._skew.unknown))
        if self._skew != before:
            self._log(self._skew)

    def _log(self, found: Skew) -> None:
        if found.missing:
            fields = {
                "fields": _listed(found.missing),
                "remedy": f"apply the CRD of version {__version__}: "
                "kubectl apply --server-side -f crds/",
            }
            logger.warning("CRD is older than the operator", extra=fields)
        if found.unknown:
            fields = {
                "fields": _listed(found.unknown),
                "remedy": "upgrade the operator, which ignores these fields of spec until then",
            }
            logger.warning("CRD is newer than the operator", extra=fields)
        if not found.missing and not found.unknown:
            logger.info("CRD matches the operator")


def _schema(document: Any) -> dict[str, Any]:
    """Returns the schema of an InitPipeline."""
    kind = {"group": names.GROUP, "kind": names.KIND, "version": names.VERSION}
    schemas: dict[str, dict[str, Any]] = document["components"]["schemas"]
    for schema in schemas.values():
        if kind in schema.get("x-kubernetes-group-version-kind", ()):
            return schema
    raise LookupError(names.KIND)


def _listed(fields: tuple[str, ...]) -> str:
    more = len(fields) - _LOGGED
    return ", ".join(fields[:_LOGGED]) + (f" and {more} more" if more > 0 else "")
