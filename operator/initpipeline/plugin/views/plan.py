"""Renders what applying a file would do."""

import json
from collections.abc import Iterator
from typing import Any, Final

from rich.console import Group
from rich.text import Text

from initpipeline.core.text import clip
from initpipeline.plugin.report.formatting import one_line
from initpipeline.plugin.report.plan import (
    CREATE,
    NOTHING,
    POLICY,
    REFUSED,
    RUN,
    Plan,
    PolicyChange,
)
from initpipeline.plugin.views import styles

_MAX_VALUE: Final = 120
"""Maximum length of a value in bytes. A longer value is shortened."""
_TITLES: Final = {
    CREATE: ("is created", styles.GOOD),
    NOTHING: ("nothing happens", styles.QUIET),
    POLICY: ("changed, no new run", styles.BUSY),
    REFUSED: ("would be refused", styles.BAD),
    RUN: ("a new run starts", styles.BUSY),
}


def view(plans: list[Plan]) -> Group:
    """Returns one paragraph for each InitPipeline."""
    return Group(*(line for plan in plans for line in lines(plan)))


def lines(plan: Plan) -> Iterator[Text]:
    """Yields the lines of one InitPipeline."""
    title, tone = _TITLES[plan.kind]
    yield Text.assemble(
        (plan.name, "bold"), (f"  namespace {plan.namespace}  ", styles.QUIET), (title, tone)
    )
    yield from (Text(f"  {line}") for line in _details(plan))


def _details(plan: Plan) -> Iterator[str]:
    for refused in plan.refused:
        yield f"the {refused.kind} is refused: {one_line(refused.message)}"
    yield from map(one_line, plan.consequences)
    for change in plan.changes:
        yield f"{change.path}: {_value(change.old)} -> {_value(change.new)}"
    yield from map(_policy, plan.policies)
    if plan.same_pod:
        yield "the template differs, but the API server would store the same Pod"
    yield from (f"not checked: {one_line(line)}" for line in plan.unchecked)


def _policy(change: PolicyChange) -> str:
    line = f"spec.{change.field}: {_value(change.old)} -> {_value(change.new)}"
    return f"{line} ({change.effect})" if change.effect else line


def _value(value: Any) -> str:
    if value is None:
        return "(unset)"
    return clip(one_line(json.dumps(value, ensure_ascii=False)), _MAX_VALUE)
