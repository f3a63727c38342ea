"""admission.yaml as the requests that it stands for."""

from pathlib import Path
from typing import Final, NamedTuple

import pytest
import yaml

from initpipeline.api.reasons import Reason
from tests.contract.door import Object, minimal, pipeline

AT_THE_DOOR: Final = ("schema", "policy")
BY_THE_POD: Final = (Reason.INVALID_TEMPLATE, Reason.POD_FORBIDDEN)

_TABLE: Final = yaml.safe_load(Path(__file__).with_name("admission.yaml").read_text())
ACCEPTED: Final[dict[str, Object]] = _TABLE["accepted"]
REFUSED: Final[dict[str, Object]] = _TABLE["refused"]


class Case(NamedTuple):
    """A line of the table whose InitPipeline, or whose Pod, is refused."""

    body: Object
    """The InitPipeline."""
    by: str
    message: str

    @property
    def template(self) -> Object:
        template: Object = self.body["spec"]["template"]
        return template


def template_of(row: Object) -> Object:
    """The smallest template, changed as a line of the table says."""
    if "template" in row:
        template: Object = row["template"]
        return template
    spec = minimal()["spec"]
    spec["initContainers"][0] |= row.get("step", {})
    spec["containers"][0] |= row.get("app", {})
    metadata = {key: row[key] for key in ("metadata",) if key in row}
    return {**metadata, "spec": spec | row.get("spec", {})}


def body_of(row: Object) -> Object:
    """The InitPipeline of a line of the table."""
    return pipeline(template_of(row), row.get("name", "shop"), **row.get("pipeline", {}))


def refused(*by: str) -> pytest.MarkDecorator:
    """One test for each line that is refused by one of these."""
    lines = [(name, row, key) for name, row in REFUSED.items() for key in by if key in row]
    cases = [
        pytest.param(Case(body_of(row), key, row[key]), id=name, marks=_marks(key))
        for name, row, key in lines
    ]
    return pytest.mark.parametrize("case", cases)


def _marks(by: str) -> tuple[pytest.MarkDecorator, ...]:
    """The API server's own words differ from version to version; those of the policy are ours."""
    return () if by == "policy" else (pytest.mark.newest,)
