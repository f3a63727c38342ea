"""Reads the rows of admission.yaml as InitPipelines and Pod templates."""

from pathlib import Path
from typing import Final, NamedTuple

import pytest

from initpipeline.api.raw import Raw
from initpipeline.api.reasons import Reason
from tests import libyaml
from tests.contract.admission_client import minimal_template, pipeline_of

REFUSED_WHEN_APPLIED: Final = ("schema", "policy")
REFUSED_WHEN_POD_IS_CREATED: Final = (Reason.INVALID_TEMPLATE, Reason.POD_FORBIDDEN)

_TABLE: Final = libyaml.safe_load(Path(__file__).with_name("admission.yaml").read_text())
ACCEPTED: Final[dict[str, Raw]] = _TABLE["accepted"]
REFUSED: Final[dict[str, Raw]] = _TABLE["refused"]


class Case(NamedTuple):
    """A row of the table for which the API server refuses the InitPipeline or its Pod."""

    body: Raw
    """The InitPipeline."""
    by: str
    """What refuses it: "schema", "policy", or a reason of the condition Ready."""
    message: str
    """A part of the API server's message."""

    @property
    def template(self) -> Raw:
        template: Raw = self.body["spec"]["template"]
        return template


def template_of(row: Raw) -> Raw:
    """Returns the smallest template with the changes of a row."""
    if "template" in row:
        template: Raw = row["template"]
        return template
    spec = minimal_template()["spec"]
    spec["initContainers"][0] |= row.get("step", {})
    spec["containers"][0] |= row.get("app", {})
    metadata = {key: row[key] for key in ("metadata",) if key in row}
    return {**metadata, "spec": spec | row.get("spec", {})}


def body_of(row: Raw) -> Raw:
    """Returns the InitPipeline of a row."""
    return pipeline_of(template_of(row), row.get("name", "shop"), **row.get("pipeline", {}))


def refused(*by: str) -> pytest.MarkDecorator:
    """Parametrizes a test with each row that one of these refuses."""
    rows = [(name, row, key) for name, row in REFUSED.items() for key in by if key in row]
    cases = [
        pytest.param(Case(body_of(row), key, row[key]), id=name, marks=_marks(key))
        for name, row, key in rows
    ]
    return pytest.mark.parametrize("case", cases)


def _marks(by: str) -> tuple[pytest.MarkDecorator, ...]:
    """Returns marks: messages of the API server depend on its version, those of the policy do
    not."""
    return () if by == "policy" else (pytest.mark.newest,)
