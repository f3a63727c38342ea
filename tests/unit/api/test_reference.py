"""docs/reference.md: its tables are generated, and it explains every value of the API."""

import inspect
import re
from collections.abc import Callable
from enum import StrEnum

import pytest
from pydantic.alias_generators import to_camel

from crds import meanings, reference
from crds.reference import PAGE, TABLES, filled
from initpipeline.api.models import InitPipelineStatus, InitPolicy, Policies, Run, RunRecord
from initpipeline.api.reasons import (
    ConditionType,
    EventReason,
    Reason,
    RerunPolicy,
    RerunStrategy,
    Result,
    Trigger,
)
from initpipeline.core import triggers

REFERENCE = PAGE.read_text()
EMPTY = "".join(f"<!-- generated: {name} -->\n<!-- end -->\n" for name in TABLES)


def trigger_of(check: Callable[..., object]) -> Trigger:
    """Returns the trigger of the runs that this function of ``triggers._CHAIN`` returns."""
    (name,) = set(re.findall(r"Trigger\.(\w+)", inspect.getsource(check)))
    return Trigger[name]


class TestPage:
    """The page in the repository."""

    def test_tables_are_up_to_date(self) -> None:
        assert filled(REFERENCE) == REFERENCE, "run: .venv/bin/python -m crds.reference"

    @pytest.mark.parametrize(
        "values", [ConditionType, EventReason, Reason, RerunPolicy, RerunStrategy, Result, Trigger]
    )
    def test_page_has_each_value(self, values: type[StrEnum]) -> None:
        missing = [value for value in values if f"`{value}`" not in REFERENCE]
        assert not missing, f"docs/reference.md does not explain {missing}"

    def test_order_of_triggers_is_that_of_the_operator(self) -> None:
        order, text = [trigger_of(check) for check in triggers._CHAIN], " ".join(REFERENCE.split())
        listed = re.search("the first one in this order: ([^.]+)", text)
        assert listed
        assert re.findall(r"`(\w+)`", listed[1]) == list(dict.fromkeys(order))
        before_unknown = order[order.index(Trigger.SPEC_CHANGED, 1) - 1]
        assert f"`SpecChanged` comes after `{before_unknown}`" in text

    def test_page_has_each_policy(self) -> None:
        named = [
            f"`{to_camel(field)}`" for field in Policies.model_fields if field != "init_policies"
        ]
        limits = [f"`initPolicies[].{to_camel(f)}`" for f in InitPolicy.model_fields if f != "name"]
        missing = [name for name in (*named, *limits) if name not in REFERENCE]
        assert not missing, f"docs/reference.md does not explain {missing}"

    def test_page_has_each_field_of_status(self) -> None:
        models = (InitPipelineStatus, Run, RunRecord)
        fields = {field.alias for model in models for field in model.model_fields.values()}
        missing = [name for name in fields if f"`{name}`" not in REFERENCE]
        assert not missing, f"docs/reference.md does not explain {missing}"


class TestFilled:
    """Updating the tables of a page."""

    def test_table_is_replaced_and_prose_is_kept(self) -> None:
        page = filled(f"before\n{EMPTY}after\n")
        assert page.startswith("before\n<!-- generated: spec -->\n| field | default | meaning |\n")
        assert page.endswith("<!-- end -->\nafter\n")

    def test_updated_page_stays_the_same(self) -> None:
        assert filled(filled(EMPTY)) == filled(EMPTY)

    @pytest.mark.parametrize(
        "page",
        [
            EMPTY.replace("generated: spec", "generated: typo"),
            EMPTY.replace("<!-- generated: spec -->\n<!-- end -->\n", ""),
            EMPTY * 2,
        ],
        ids=["unknown", "missing", "twice"],
    )
    def test_unknown_missing_or_repeated_table_is_rejected(self, page: str) -> None:
        with pytest.raises(ValueError, match="the page has the tables"):
            filled(page)

    @pytest.mark.parametrize(
        ("table", "row"),
        [
            ("spec", "| `suspend` | `false` |"),
            ("spec", "| `initPolicies[].name` | required |"),
            ("spec", "<br>`OnPodLoss`: "),
            ("runs", "| `number` | `run`, `history` |"),
            ("runs", "| `failedStep.exitCode` | `history` |"),
            ("triggers", "| `PodRestarted` | kubelet |"),
            ("triggers", "| `PodLost` | operator |"),
            ("triggers", "| `Requested` | user |"),
            ("events", "| `StepFailed` | Warning |"),
            ("names", "| `initpipeline.dev/rerun` | annotation |"),
            ("settings", "| `--namespace` | `INITPIPELINE_NAMESPACES` | |"),
            ("settings", "| `--workers` | `INITPIPELINE_WORKERS` | `128` |"),
        ],
    )
    def test_table_has_row(self, table: str, row: str) -> None:
        assert row in TABLES[table]()

    def test_only_code_is_quoted(self) -> None:
        text = "Set spec.suspend, or a `spec.suspend` of OnRestart. A ConfigMap | a nodeName"
        assert reference.cell(text) == (
            "Set `spec.suspend`, or a `spec.suspend` of `OnRestart`. A ConfigMap \\| a `nodeName`"
        )


class TestMeanings:
    """Docstrings of values."""

    def test_reason_has_meaning_and_remedy_as_paragraphs(self) -> None:
        meaning, remedy = meanings.of_values()["Reason"]["QuotaExceeded"].split("\n\n")
        assert meaning == "The Pod exceeds a ResourceQuota. The message is the API server's."
        assert remedy.startswith("Free or raise the quota")

    @pytest.mark.parametrize(
        "values", [ConditionType, EventReason, Reason, RerunPolicy, RerunStrategy, Result, Trigger]
    )
    def test_each_value_has_a_meaning(self, values: type[StrEnum]) -> None:
        assert list(meanings.of_values()[values.__name__]) == list(values)
