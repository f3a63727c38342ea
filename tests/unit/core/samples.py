"""Runs and Pods that tests of several modules share."""

from initpipeline.api.models import CompletedInitContainer, RestartBaseline, Run
from initpipeline.api.reasons import Trigger
from tests.builders import End, PodBuilder, at, container_id, pod

RESTARTING_ALL = End(137, start=None, end=None, reason="RestartingAllContainers")
"""The end of a container that the kubelet restarted together with all others."""


def a_run(
    succeeded: tuple[str, ...] = (),
    stale: tuple[str, ...] = (),
    baselines: dict[str, int] | None = None,
    initialized: float | None = None,
) -> Run:
    """Returns run 1, in which these init containers succeeded at their first start."""
    return Run(
        number=1,
        trigger=Trigger.CREATED,
        pod_uid="pod-1",
        start_time=at(0),
        initialized_time=None if initialized is None else at(initialized),
        completed_init_containers=tuple(
            CompletedInitContainer(name=name, container_id=container_id(name)) for name in succeeded
        ),
        stale_container_ids=stale,
        restart_baselines=tuple(
            RestartBaseline(name=name, restart_count=count)
            for name, count in (baselines or {}).items()
        ),
    )


def four_steps() -> PodBuilder:
    """Returns a Pod with four steps. The first is done, the second is migrate."""
    return pod().init("a", exit=0).init("migrate").init("c").init("d").app()
