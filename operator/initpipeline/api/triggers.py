"""Who starts a run of each trigger, and the text of its event RunStarted.

A new trigger is a value of ``reasons.Trigger``, a row here, and a function in ``core.triggers``
with its place in ``_CHAIN``. If the kubelet starts the run, the function is in
``core.pod_restarts`` instead.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from initpipeline.api.reasons import Trigger


class Starter(Enum):
    """Who starts a run."""

    USER = auto()
    """By creating or resuming the InitPipeline, changing its template, or requesting the run. The
    run starts without back-off, and resets back-off and failedRuns."""
    OPERATOR = auto()
    """The operator starts the run after a restart, a lost Pod or a failure, with back-off. The
    counts of runs and failures are not reset. If ``rerun --wait`` is in progress, it waits for this
    run as well."""
    KUBELET = auto()
    """The kubelet starts the run in the existing Pod. The counts of runs and failures are not
    reset. If ``rerun --wait`` is in progress, it waits for this run as well."""


@dataclass(frozen=True, slots=True)
class TriggerRow:
    """What the operator and the plugin need to know about a trigger."""

    starter: Starter
    event_text: str
    """Why the run started, for the note of the event RunStarted."""


TRIGGERS: Final[Mapping[Trigger, TriggerRow]] = {
    Trigger.CREATED: TriggerRow(Starter.USER, "the InitPipeline is new"),
    Trigger.SPEC_CHANGED: TriggerRow(Starter.USER, "the template was changed"),
    Trigger.REQUESTED: TriggerRow(Starter.USER, "a re-run was requested"),
    Trigger.RESUMED: TriggerRow(Starter.USER, "the InitPipeline was resumed"),
    Trigger.CONTAINER_RESTARTED: TriggerRow(Starter.OPERATOR, "an app container restarted"),
    Trigger.POD_LOST: TriggerRow(Starter.OPERATOR, "the Pod was lost"),
    Trigger.RETRY: TriggerRow(Starter.OPERATOR, "the run before it failed"),
    Trigger.POD_RESTARTED: TriggerRow(Starter.KUBELET, "the kubelet restarted the Pod"),
    Trigger.RESTARTED_IN_PLACE: TriggerRow(
        Starter.KUBELET, "the kubelet restarted all containers in place"
    ),
}


def by_user(trigger: Trigger) -> bool:
    """Returns whether a user starts the run. False if only a newer version knows the trigger."""
    return trigger in TRIGGERS and TRIGGERS[trigger].starter is Starter.USER


def by_kubelet(trigger: Trigger) -> bool:
    """Returns whether the kubelet starts the run, in the existing Pod. False if only a newer
    version knows the trigger."""
    return trigger in TRIGGERS and TRIGGERS[trigger].starter is Starter.KUBELET


def event_text(trigger: Trigger) -> str:
    """Returns why the run started, for a sentence. If only a newer version knows the trigger, its
    name is returned."""
    return TRIGGERS[trigger].event_text if trigger in TRIGGERS else f"its trigger is {trigger}"
