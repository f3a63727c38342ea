"""The state of the current run's Pod, derived once per decision and passed on."""

from dataclasses import dataclass

from initpipeline.api.models import Run
from initpipeline.core import pod_end, pod_steps
from initpipeline.core.pod import Pod
from initpipeline.core.pod_end import Fate
from initpipeline.core.pod_steps import Step


@dataclass(frozen=True, slots=True)
class Observation:
    """A Pod, and what it reports about one run."""

    pod: Pod
    steps: tuple[Step, ...]
    """The init containers in order, each with whether it is done in the run."""
    fate: Fate

    @property
    def current_step(self) -> Step | None:
        """The first step that is not done. None: all steps are done."""
        return next((step for step in self.steps if not step.done), None)

    @property
    def initialized(self) -> bool:
        """Whether the run is initialized. True if all steps are done. Also True if the Pod is Ready
        or has succeeded, because pod_steps cannot always prove that a step is done (node's clock,
        crashed sidecar)."""
        ended_well = self.pod.has_condition("Ready") or self.fate is Fate.SUCCEEDED
        return ended_well or all(step.done for step in self.steps)


def observe(pod: Pod, run: Run) -> Observation:
    """Derives the state of the Pod for this run.

    The result belongs to this run only. If the kubelet has begun another run in the Pod, pass that
    run (see ``runs.follow``).
    """
    return Observation(pod, pod_steps.steps(pod, run), pod_end.fate(pod))
