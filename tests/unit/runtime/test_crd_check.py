"""The comparison of the CRD with the operator: when it is made, and what is reported."""

import asyncio
import copy
import logging
from typing import Any, Final

import pytest

from initpipeline.api import names
from initpipeline.api.raw import Raw
from initpipeline.runtime.crd_check import CrdCheck
from initpipeline.runtime.errors import ConnectionFailed, api_error
from initpipeline.runtime.metrics import Metrics
from tests.unit.core.test_skew import SERVED
from tests.unit.runtime.clock import Clock
from tests.unit.runtime.stub_client import Request, StubClient

GROUP: Final = f"/openapi/v3/apis/{names.API_VERSION}"
KIND: Final = {"group": names.GROUP, "version": names.VERSION, "kind": names.KIND}
PERIOD: Final = 600.0


class FakeOpenApi(StubClient):
    """An API server that publishes this schema of InitPipelines."""

    def __init__(self) -> None:
        self.schema: Raw = {**copy.deepcopy(SERVED), "x-kubernetes-group-version-kind": [KIND]}
        self.hash = 1
        self.failing: list[Exception] = []
        self.calls: list[str] = []

    def publish(self, **spec: Any) -> None:
        """Publish a schema with these fields of spec. None removes a field."""
        self.hash += 1
        fields = self.schema["properties"]["spec"]["properties"]
        for name, field in spec.items():
            fields[name] = field
        self.schema["properties"]["spec"]["properties"] = {
            name: field for name, field in fields.items() if field is not None
        }

    async def answer(self, request: Request) -> Raw:
        path = request.path
        assert request == Request("GET", path)
        self.calls.append(path)
        if self.failing:
            raise self.failing.pop(0)
        address = f"{GROUP}?hash={self.hash}"
        if path == "/openapi/v3":
            url = {"serverRelativeURL": address}
            return {"paths": {"api/v1": {}, f"apis/{names.API_VERSION}": url} if self.hash else {}}
        assert path == address
        list_ = {"x-kubernetes-group-version-kind": [{**KIND, "kind": "InitPipelineList"}]}
        return {"components": {"schemas": {"meta": {}, "list": list_, "one": self.schema}}}


class Checked:
    """A check that runs, and what it has reported."""

    def __init__(self, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
        self.api, self.metrics = FakeOpenApi(), Metrics()
        self._clock, self._caplog = clock, caplog
        caplog.set_level(logging.INFO)
        self._task: asyncio.Task[None] | None = None

    async def next(self) -> list[tuple[str, str, str]]:
        """Start the check, or wait for its next period. Returns the level, the message and the
        fields of each new line of the log."""
        self._caplog.clear()
        self.api.calls.clear()
        if self._task is None:
            self._task = asyncio.create_task(CrdCheck(self.api, self.metrics).run(PERIOD))
            await self._clock.advance()
        else:
            await self._clock.advance(PERIOD)
        return [
            (one.levelname, one.message, getattr(one, "fields", getattr(one, "error", "")))
            for one in self._caplog.records
        ]

    def metric(self) -> dict[str, float]:
        """Returns the number of fields by value of the label."""
        return {
            sample.labels["crd"]: sample.value
            for family in self.metrics.registry.collect()
            for sample in family.samples
            if sample.name == "initpipeline_crd_skew_fields"
        }


@pytest.fixture
def checked(clock: Clock, caplog: pytest.LogCaptureFixture) -> Checked:
    return Checked(clock, caplog)


async def test_crd_of_the_same_version_is_reported_in_the_metric_only(checked: Checked) -> None:
    assert await checked.next() == []
    assert checked.metric() == {"older": 0, "newer": 0}


async def test_schema_is_read_only_if_it_has_changed(checked: Checked) -> None:
    await checked.next()
    assert checked.api.calls == ["/openapi/v3", f"{GROUP}?hash=1"]
    await checked.next()
    assert checked.api.calls == ["/openapi/v3"]
    checked.api.publish()
    await checked.next()
    assert checked.api.calls == ["/openapi/v3", f"{GROUP}?hash=2"]


async def test_older_crd_is_reported_until_it_is_applied(checked: Checked) -> None:
    suspend = SERVED["properties"]["spec"]["properties"]["suspend"]
    checked.api.publish(suspend=None)
    assert await checked.next() == [("WARNING", "CRD is older than the operator", "spec.suspend")]
    assert checked.metric() == {"older": 1, "newer": 0}
    assert await checked.next() == [], "it has not changed"
    checked.api.publish(suspend=suspend)
    assert await checked.next() == [("INFO", "CRD matches the operator", "")]
    assert checked.metric() == {"older": 0, "newer": 0}


async def test_crd_that_becomes_newer_is_reported(checked: Checked) -> None:
    await checked.next()
    checked.api.publish(**{f"new{number:02}": {"type": "string"} for number in range(12)})
    [(level, message, fields)] = await checked.next()
    assert (level, message) == ("WARNING", "CRD is newer than the operator")
    assert fields.startswith("spec.new00, spec.new01, ")
    assert fields.endswith(", spec.new09 and 2 more")
    assert checked.metric() == {"older": 0, "newer": 12}


@pytest.mark.parametrize(
    "error",
    [
        api_error(403, {"message": 'User "me" cannot get path "/openapi/v3"'}),
        ConnectionFailed("timed out"),
    ],
    ids=["forbidden", "no answer"],
)
async def test_crd_that_cannot_be_read_is_reported_once_and_read_later(
    checked: Checked, error: Exception
) -> None:
    checked.api.failing = [error, error]
    assert await checked.next() == [("WARNING", "CRD not compared", str(error))]
    assert await checked.next() == []
    assert checked.metric() == {}
    checked.api.publish(new={"type": "string"})
    [(_, message, _)] = await checked.next()
    assert message == "CRD is newer than the operator"


async def test_document_without_the_group_is_reported(checked: Checked) -> None:
    checked.api.hash = 0
    [(_, message, error)] = await checked.next()
    assert message == "CRD not compared"
    assert error.startswith("/openapi/v3 has no InitPipeline of initpipeline.dev/v1alpha1")
