"""Lives of a pipeline, as actions of users and of the kubelet, that can be played on any cluster.

The kubelet is the model of tests/unit/model, which writes each change in a status of its own. After
each write to the cluster, the play waits until the operator has finished its work.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from initpipeline.api.names import RERUN_ANNOTATION
from initpipeline.api.raw import Raw
from tests.builders import PipelineBuilder, pipeline
from tests.unit.model.kubelet import Kubelet

SANDBOX_READY: Final = {"type": "PodReadyToStartContainers", "status": "True"}
"""A condition of a Pod that the operator does not read."""


class World(Protocol):
    """A cluster with the operator, and at most one pipeline that is played."""

    @property
    def kubelet(self) -> Kubelet | None:
        """The kubelet of the Pod. None: the Pod has no node."""

    @property
    def spec(self) -> Raw:
        """The spec of the pipeline."""

    def create(self, builder: PipelineBuilder) -> None:
        """Create the pipeline as a user."""

    def edit(self, change: Mapping[str, Any]) -> None:
        """Apply a merge patch to the pipeline as a user."""

    def delete(self) -> None:
        """Delete the pipeline as a user, and its Pod as the garbage collector."""

    def delete_pod(self) -> None:
        """Delete the Pod as a user."""

    def report_sandbox(self) -> None:
        """Set the condition PodReadyToStartContainers of the Pod as the kubelet."""

    def schedule(self) -> None:
        """Bind the Pod to a node."""

    def node_step(self) -> bool:
        """Let the kubelet write what follows next. Returns False if nothing does."""

    async def settle(self) -> None:
        """Wait until the operator has finished its work."""

    async def end_back_off(self) -> None:
        """Let the time pass until the kubelet starts the container in back-off again."""

    async def rest(self) -> None:
        """Let time pass in which nothing happens."""

    async def restart(self, pipelines: int) -> None:
        """Restart the operator in a cluster with so many pipelines like this one."""

    def count(self) -> None:
        """Count the operator's work from now on."""


Action = tuple[Any, ...]
"""The name of a method of Stage, and its arguments."""


class Stage:
    """The actions, carried out in a world."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def play(self, *actions: Action) -> None:
        for name, *arguments in actions:
            await getattr(self, name)(*arguments)

    async def create(self, builder: PipelineBuilder) -> None:
        self._world.create(builder)
        await self._world.settle()

    async def edit(self, change: Mapping[str, Any]) -> None:
        self._world.edit(change)
        await self._follow()

    async def edit_template(self) -> None:
        template = copy.deepcopy(self._world.spec["template"])
        template["spec"]["containers"][0]["image"] = "nginx:2"
        await self.edit({"spec": {"template": template}})

    async def delete(self) -> None:
        self._world.delete()
        await self._follow()

    async def delete_pod(self) -> None:
        self._world.delete_pod()
        await self._follow()

    async def report_sandbox(self) -> None:
        self._world.report_sandbox()
        await self._follow()

    async def start_pod(self) -> None:
        """Let the scheduler bind the Pod, and the kubelet start its first container."""
        self._world.schedule()
        await self._follow()

    async def exit(self, container: str, code: int = 0) -> None:
        self._kubelet.exits(container, code)
        await self._follow()

    async def run_pod(self, *steps: str) -> None:
        """Start the Pod, and let these steps succeed."""
        await self.start_pod()
        for step in steps:
            await self.exit(step)

    async def end_back_off(self) -> None:
        await self._world.end_back_off()
        await self._follow()

    async def replace_sandbox(self) -> None:
        self._kubelet.sandbox_dies()
        await self._follow()

    async def rest(self) -> None:
        await self._world.rest()

    async def restart(self, pipelines: int) -> None:
        await self._world.restart(pipelines)

    async def _follow(self) -> None:
        """Wait until the operator and the kubelet have finished their work."""
        await self._world.settle()
        while self._world.node_step():
            await self._world.settle()

    @property
    def _kubelet(self) -> Kubelet:
        assert self._world.kubelet is not None, "the Pod has no node"
        return self._world.kubelet


@dataclass(frozen=True)
class Life:
    """What happens to a pipeline. Only ``counted`` is counted. ``before`` happens first."""

    counted: tuple[Action, ...]
    before: tuple[Action, ...] = ()


ONE: Final = pipeline().inits("one")
TWO: Final = pipeline().inits("one", "two")
THREE: Final = pipeline().inits("one", "two", "three")


def with_policies(builder: PipelineBuilder, **policies: Any) -> PipelineBuilder:
    return builder.policy(**policies).of_generation(1)


def never_restarting(**policies: Any) -> PipelineBuilder:
    """Returns a pipeline of one step whose Pod has the restartPolicy Never."""
    template = {"spec": {**ONE.template["spec"], "restartPolicy": "Never"}}
    return with_policies(ONE.with_template(template), **policies)


def ready(builder: PipelineBuilder = TWO) -> tuple[Action, ...]:
    return ("create", builder), AGAIN


AGAIN: Final[Action] = ("run_pod", "one", "two")
SUSPEND: Final[Action] = ("edit", {"spec": {"suspend": True}})
RESUME: Final[Action] = ("edit", {"spec": {"suspend": False}})
REQUEST: Final[Action] = ("edit", {"metadata": {"annotations": {RERUN_ANNOTATION: "1"}}})
LABEL: Final[Action] = ("edit", {"metadata": {"labels": {"team": "a"}}})
APP_FAILS: Final[Action] = ("exit", "app", 1)
STEP_FAILS: Final[Action] = ("exit", "one", 1)

LIVES: Final[Mapping[str, Life]] = {
    "one step, to Ready": Life((("create", ONE), ("run_pod", "one"))),
    "three steps, to Ready": Life((("create", THREE), ("run_pod", "one", "two", "three"))),
    "a step fails five times, then succeeds": Life(
        (
            ("create", ONE),
            ("start_pod",),
            *(action for _ in range(5) for action in (STEP_FAILS, ("end_back_off",))),
            ("exit", "one"),
        )
    ),
    "a run fails, its retry succeeds": Life(
        (
            ("create", never_restarting(backoffLimit=1)),
            ("start_pod",),
            STEP_FAILS,
            ("run_pod", "one"),
        )
    ),
    "a run fails, no retry": Life((("create", never_restarting()), ("start_pod",), STEP_FAILS)),
    "the Pod completes": Life((("create", never_restarting()), ("run_pod", "one", "app"))),
    "the Pod completes, the TTL expires": Life(
        (
            ("create", never_restarting(ttlSecondsAfterFinished=2)),
            ("run_pod", "one", "app"),
            ("rest",),
        )
    ),
    "created suspended": Life((("create", with_policies(TWO, suspend=True)),)),
    "the Pod is deleted": Life((("delete_pod",), AGAIN), ready()),
    "the Pod is deleted, rerunPolicy Never": Life(
        (("delete_pod",),), ready(with_policies(TWO, rerunPolicy="Never"))
    ),
    "the template changes": Life((("edit_template",), AGAIN), ready()),
    "a user requests a run": Life((REQUEST, AGAIN), ready()),
    "an app container restarts": Life((APP_FAILS, AGAIN), ready()),
    "an app container restarts, rerunPolicy Never": Life(
        (APP_FAILS,), ready(with_policies(TWO, rerunPolicy="Never"))
    ),
    "an app container restarts, InPlace": Life(
        (APP_FAILS, ("exit", "one"), ("exit", "two")),
        ready(with_policies(TWO, rerunStrategy="InPlace")),
    ),
    "the sandbox is replaced": Life(
        (("replace_sandbox",), ("exit", "one"), ("exit", "two")), ready()
    ),
    "suspended": Life((SUSPEND,), ready()),
    "resumed": Life((RESUME, AGAIN), (*ready(), SUSPEND)),
    "deleted": Life((("delete",),), ready()),
    "a label of the pipeline changes": Life((LABEL,), ready()),
    "a condition of the Pod changes": Life((("report_sandbox",),), ready()),
    "the operator restarts, 10 pipelines": Life((("restart", 10),), ready()),
    "at rest: Ready": Life((("rest",),), ready()),
    "at rest: a step runs": Life((("rest",),), (("create", TWO), ("start_pod",))),
    "at rest: failed": Life(
        (("rest",),), (("create", never_restarting()), ("start_pod",), STEP_FAILS)
    ),
    "at rest: lost": Life(
        (("rest",),), (*ready(with_policies(TWO, rerunPolicy="Never")), ("delete_pod",))
    ),
    "at rest: suspended": Life((("rest",),), (*ready(), SUSPEND)),
}


async def play(life: Life, world: World) -> None:
    """Play the life, and count it with the rest that follows."""
    stage = Stage(world)
    if life.before:
        await stage.play(*life.before)
        await world.rest()
    world.count()
    await stage.play(*life.counted)
    await world.rest()
