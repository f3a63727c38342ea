"""A model of the kubelet for one Pod: writes the statuses that a real kubelet writes, one by one.

``step`` does what the kubelet does next without any cause from outside, one status write at a time.
The other public methods are events that happen to the Pod. test_recorded.py compares all of it with
recordings of a real kubelet. The model also knows the truth, which a status may not show: which
pass through the init containers it is, and how far that has come.
"""

import copy
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Any, Final

from initpipeline.api.models import format_time
from initpipeline.api.raw import Raw
from initpipeline.api.reasons import Trigger
from initpipeline.core.containers import RESTART_ALL_CONTAINERS

RESTARTING = "RestartingAllContainers"
CRASH_LOOP = "CrashLoopBackOff"
INITIALIZING = "PodInitializing"
ENDED = frozenset({"Succeeded", "Failed"})
NODE, POD = "the node", "the Pod"
KILLED: Final = 137
FIRST_BACK_OFF: Final = timedelta(seconds=10)
LONGEST_BACK_OFF: Final = timedelta(seconds=300)
RESTARTED_ALL: Final = {
    "exitCode": KILLED,
    "reason": RESTARTING,
    "message": "removed by RestartAllContainers",
    "startedAt": None,
    "finishedAt": None,
}


class Kind(Enum):
    STEP = auto()
    SIDECAR = auto()
    APP = auto()


@dataclass(frozen=True)
class Truth:
    """The truth about a Pod when a status of it is written. The status may not show it."""

    passes: int
    """How often the plain init containers have begun to run. A pass counts from the first start on.
    An in-place restart of all containers counts at once."""
    by: Trigger | None
    """Why the kubelet began the present pass. None: it is the first."""
    succeeded: frozenset[str]
    """The plain init containers that have succeeded in this pass."""
    initialized: bool
    """All plain init containers have succeeded in this pass, and all sidecars have started."""
    app_restarted: bool
    """In this pass an app container has been restarted, or waits for its restart."""
    ever_started: bool
    """A container of the Pod has started."""
    failures: Mapping[str, int]
    """How often each container has failed in this pass."""
    restarts: Mapping[str, int]
    """The restart count of each container."""
    ended_by: str = ""
    """Who ended the Pod. POD: a limit of its own, or a container that failed or completed. NODE:
    the node evicted or rejected it, or lost its containers. "": it has not ended."""


@dataclass
class Container:
    """A container's status, and what else the kubelet knows about it."""

    name: str
    kind: Kind
    policy: str
    """Its own restartPolicy, or the Pod's."""
    rules: tuple[Raw, ...] = ()
    state: Raw = field(default_factory=lambda: {"waiting": {"reason": INITIALIZING}})
    last: Raw | None = None
    id: str = ""
    restarts: int = 0
    ready: bool = False
    done: bool = False
    """It has succeeded in this pass. A sidecar or app container: it has started."""
    due: bool = False
    """It ran in an earlier sandbox or pass, and has not run again yet."""
    counted: bool = False
    """The restart count already includes the next start."""
    failures: int = 0
    lost: bool = False
    """The node has ended it."""
    crashes: int = 0
    """Consecutive terminations, for the back-off."""
    not_before: datetime | None = None

    @property
    def running(self) -> bool:
        return "running" in self.state

    @property
    def waiting(self) -> str:
        """The reason why it waits. "": it does not wait."""
        return str(self.state.get("waiting", {}).get("reason", ""))

    @property
    def exit_code(self) -> int | None:
        ended = self.state.get("terminated")
        return ended["exitCode"] if ended else None

    def rule(self, code: int) -> str:
        """Returns the action of the first rule that matches this exit code. "": none does. An
        incomplete rule, which the API server would refuse, does not match."""
        for rule in self.rules:
            codes = rule.get("exitCodes", {})
            is_in = {"In": True, "NotIn": False}.get(codes.get("operator", ""))
            if (code in codes.get("values", ())) is is_in:
                return str(rule.get("action", ""))
        return ""

    def wait(self, reason: str) -> None:
        self.state = {"waiting": {"reason": reason, "message": f"{self.name}: {reason}"}}

    def lose(self) -> None:
        """Records that the container is lost with its sandbox."""
        self.wait(INITIALIZING)
        self.last = {"exitCode": KILLED, "reason": "ContainerStatusUnknown"}
        self.forget()
        self.restarts, self.counted = self.restarts + 1, True

    def forget(self) -> None:
        self.id, self.ready = "", False

    def raw(self) -> Raw:
        status = {
            "name": self.name,
            "image": "busybox",
            "imageID": "",
            "state": self.state,
            "lastState": {"terminated": self.last} if self.last else {},
            "ready": self.ready,
            "restartCount": self.restarts,
            "started": self.running,
        }
        return copy.deepcopy({**status, "containerID": self.id} if self.id else status)


class Kubelet:
    """The kubelet of one Pod that has a node. ``write`` writes the Pod's status."""

    def __init__(
        self,
        pod: Mapping[str, Any],
        write: Callable[[Raw], object],
        clock: Callable[[], datetime],
        skew: Callable[[], timedelta] = timedelta,
    ) -> None:
        """``clock`` returns the true time, ``skew`` the error of the node's wall clock."""
        self.uid = str(pod["metadata"]["uid"])
        self.missing: set[str] = set()
        """Containers whose image cannot be pulled."""
        self.containers = [*_containers(pod["spec"])]
        self.phase = ""
        self._write, self._clock, self._skew = write, clock, skew
        self._policy = pod["spec"].get("restartPolicy") or "Always"
        self._disruption = self._blame = ""
        self._reason = self._message = ""
        self._ids = itertools.count(1)
        self._passes = 1
        self._by: Trigger | None = None
        self._new_sandbox = self._new_pass = False
        self._killed: list[Container] = []
        """Containers of the dead sandbox. The kubelet has not reported their end yet."""
        self._all_exited = self._app_restarted = self._was_initialized = False

    def truth(self) -> Truth:
        return Truth(
            passes=self._passes,
            by=self._by,
            succeeded=frozenset(c.name for c in self._inits if c.kind is Kind.STEP and c.done),
            initialized=all(c.done for c in self._inits),
            app_restarted=self._app_restarted,
            ever_started=any(c.id or c.last for c in self.containers),
            failures={c.name: c.failures for c in self.containers},
            restarts={c.name: c.restarts for c in self.containers},
            ended_by=(self._blame or self._blamed()) if self.ended else "",
        )

    def _blamed(self) -> str:
        """Returns who ended a Pod that ended with its containers. It is NODE if the node lost each
        container that failed and is not restarted."""
        for_good = (c for c in self.containers if c.exit_code and not self._restarts(c))
        lost = [c.lost for c in for_good if c.kind is not Kind.SIDECAR]
        return NODE if lost and all(lost) else POD

    @property
    def ended(self) -> bool:
        return self.phase in ENDED

    @property
    def running(self) -> list[Container]:
        return [c for c in self.containers if c.running]

    @property
    def _inits(self) -> list[Container]:
        return [c for c in self.containers if c.kind is not Kind.APP]

    @property
    def _apps(self) -> list[Container]:
        return [c for c in self.containers if c.kind is Kind.APP]

    # Events that happen to the Pod.

    def exits(self, name: str, code: int) -> None:
        """Records that a container exits."""
        container = next(c for c in self.containers if c.name == name)
        self._end(container, code)
        self._all_exited = container.rule(code) == RESTART_ALL_CONTAINERS
        self._publish()

    def resizes(self, name: str) -> None:
        """Restarts the container for an in-place resize: its resizePolicy is RestartContainer."""
        container = next(c for c in self.containers if c.name == name)
        restarted = self._app_restarted
        self._end(container, KILLED)
        container.crashes, container.not_before = 0, None
        self._publish()
        self._start(container)
        self._app_restarted = restarted
        self._publish()

    def sandbox_dies(self) -> None:
        """Kills the sandbox and all its processes. The kubelet reports nothing until it has created
        another sandbox. If the Pod's restartPolicy is Never, it creates none."""
        if self._policy != "Never":
            self._new_sandbox, self._killed = True, self.running
            return
        for container in self.running:
            self._end(container, KILLED)
        self._publish()

    def node_reboots(self) -> None:
        """Reboots the node. The kubelet reports that the containers ended, with exit code 255."""
        for container in self.running:
            self._end(container, 255, "Unknown")
            container.lost = True
        self._new_sandbox = self._policy != "Never"
        self._publish()

    def evicts(self) -> None:
        """Evicts the Pod because the node is low on a resource."""
        self._disruption = "TerminationByKubelet"
        for container in self.running:
            self._end(container, KILLED)
        self._fail("Evicted", "The node was low on resource: memory.", NODE)

    def evicts_for_its_own_fault(self) -> None:
        """Evicts the Pod because it uses more storage than its own limit."""
        for container in self.running:
            self._end(container, KILLED)
        self._fail("Evicted", 'Usage of EmptyDir volume "work" exceeds the limit "1Mi".', POD)

    def exceeds_its_deadline(self) -> None:
        """Ends the Pod because of its activeDeadlineSeconds."""
        for container in self.running:
            self._end(container, KILLED)
        self._fail("DeadlineExceeded", "Pod was active on the node longer than allowed", POD)

    def shuts_down(self, code: int) -> None:
        """Shuts the node down. The containers exit with this code on SIGTERM. If all app containers
        exit with 0, the phase is Succeeded (since Kubernetes 1.27)."""
        self._disruption = "TerminationByKubelet"
        for container in self.running:
            self._end(container, code)
            container.lost = True
        if not self.ended and all(c.exit_code == 0 for c in self._apps):
            completed = all(self._completes(c) for c in self._apps)
            self.phase, self._blame = "Succeeded", POD if completed else NODE
            self._publish()
        else:
            self._fail("Terminated", "Pod was terminated by the shutdown of its node.", NODE)

    @staticmethod
    def _completes(container: Container) -> bool:
        """Returns whether the container has completed after exit code 0."""
        return container.policy != "Always" and not container.rule(0)

    def rejects(self) -> None:
        """Rejects the Pod because the node has no room for it."""
        self._fail("OutOfcpu", "Node didn't have enough resource: cpu", NODE)

    # What the kubelet does next.

    def step(self) -> bool:
        """Does the next thing and writes the status. Returns False if nothing is to be done now."""
        if self.phase in ENDED:
            return False
        if self._all_exited:
            self._restart_all()
        elif self.phase and not self._start_next() and not self._finish():
            return False
        self._publish()
        return True

    def terminate(self, code: int = KILLED) -> bool:
        """Ends the containers of a deleted Pod, then the Pod. Returns False once it has ended."""
        if self.phase in ENDED:
            return False
        if self.running:
            for container in self.running:
                self._end(container, code)
        else:
            well = all(c.exit_code == 0 for c in self.containers)
            self.phase = "Succeeded" if well else "Failed"
        self._publish()
        return True

    def back_off_ends(self) -> datetime | None:
        """Returns when the first container in back-off starts again. None: none is in back-off."""
        ends = (c.not_before for c in self.containers if c.waiting == CRASH_LOOP)
        return min((end for end in ends if end), default=None)

    def _start_next(self) -> bool:
        if self._new_sandbox:
            self._enter_sandbox()
        container = self._next()
        if container is None:
            return False
        if container.name in self.missing:
            container.wait(
                "ImagePullBackOff" if container.waiting == "ErrImagePull" else "ErrImagePull"
            )
        elif self._backs_off(container):
            container.last = container.state["terminated"]
            container.wait(CRASH_LOOP)
            self._app_restarted |= container.kind is Kind.APP
        else:
            self._start(container)
        return True

    def _next(self) -> Container | None:
        """Returns the container to start next: init containers in order, sidecars when they have
        ended, app containers last. None: none can start now."""
        for container in self._inits:
            here = container.done and not container.due
            if container.running and container.kind is Kind.STEP:
                return None
            if container.running or (here and container.kind is Kind.STEP):
                continue
            if self._can_start(container):
                return container
            if not here:
                return None
        return next((c for c in self._apps if not c.running and self._can_start(c)), None)

    def _can_start(self, container: Container) -> bool:
        """Returns whether the container can start, or its status can change otherwise."""
        if container.waiting == "ImagePullBackOff" and container.name in self.missing:
            return False
        if container.waiting == CRASH_LOOP and self._backs_off(container):
            return False
        return container.exit_code is None or container.due or self._restarts(container)

    def _restarts(self, container: Container) -> bool:
        """Returns whether the kubelet restarts the container, by its rules and restartPolicy."""
        if container.kind is Kind.SIDECAR:
            return not self._over()
        if container.kind is Kind.STEP and container.exit_code == 0:
            return False
        if rule := container.rule(container.exit_code or 0):
            return rule == "Restart"
        if container.exit_code == 0:
            return container.policy == "Always"
        return container.policy != "Never"

    def _over(self) -> bool:
        """Returns whether the Pod has ended except for its sidecars."""
        plain = [c for c in self.containers if c.kind is not Kind.SIDECAR]
        if any(c.running or c.due for c in plain):
            return False
        failed = any(c.exit_code and not self._restarts(c) for c in plain if c.kind is Kind.STEP)
        ended = (c.exit_code is not None and not self._restarts(c) for c in self._apps)
        return failed or all(ended)

    def _backs_off(self, container: Container) -> bool:
        return container.not_before is not None and self._clock() < container.not_before

    def _start(self, container: Container) -> None:
        for other in self.containers:
            if other.waiting == RESTARTING:
                other.wait(INITIALIZING)
                other.forget()
        if self._new_pass and container.kind is Kind.STEP:
            self._begin_pass(Trigger.POD_RESTARTED)
        again = container.kind is Kind.APP and container.done and not container.due
        self._app_restarted |= again
        if (container.id or container.last) and not container.counted:
            container.restarts += 1
        container.last = container.state.get("terminated") or container.last
        container.id = f"{self.uid}-{next(self._ids)}"
        container.state = {"running": {"startedAt": self._now()}}
        container.due = container.counted = container.lost = False
        container.ready = container.done = container.kind is not Kind.STEP

    def _enter_sandbox(self) -> None:
        """Creates another sandbox. The init containers that ran in the old one are reported as
        lost. The first of them starts at once, so nothing is reported about its end."""
        first = self._inits[0]
        for container in (c for c in self._killed if c.running):
            if container.kind is Kind.APP:
                self._end(container, KILLED)
            elif container is first:
                container.wait(INITIALIZING)
                container.last = None
            else:
                container.lose()
        for container in self.containers:
            container.due = bool(container.id or container.last)
            container.crashes, container.not_before = 0, None
        self._new_sandbox, self._new_pass, self._killed = False, True, []

    def _begin_pass(self, by: Trigger) -> None:
        self._passes, self._by = self._passes + 1, by
        self._new_pass = self._app_restarted = False
        for container in self.containers:
            container.done, container.failures = container.running, 0

    def _restart_all(self) -> None:
        self._all_exited = False
        for container in self.containers:
            container.wait(RESTARTING)
            container.last = dict(RESTARTED_ALL)
            container.restarts, container.counted, container.due = (
                container.restarts + 1,
                True,
                True,
            )
            container.crashes, container.not_before = 0, None
        self._begin_pass(Trigger.RESTARTED_IN_PLACE)

    def _end(self, container: Container, code: int, reason: str = "") -> None:
        now = self._clock()
        container.state = {
            "terminated": {
                "exitCode": code,
                "reason": reason or ("Error" if code else "Completed"),
                "startedAt": container.state["running"]["startedAt"],
                "finishedAt": self._now(),
                "containerID": container.id,
            }
        }
        container.failures += code != 0
        if container.kind is Kind.STEP:
            container.ready = container.done = code == 0
        else:
            container.ready = False
        if container.crashes:
            wait = FIRST_BACK_OFF * 2 ** min(container.crashes - 1, 10)
            container.not_before = now + min(wait, LONGEST_BACK_OFF)
        container.crashes += 1

    def _finish(self) -> bool:
        """Ends the Pod if its containers have ended, its sidecars first. Returns whether it did."""
        if not self._over():
            return False
        if self.running:
            for container in self.running:
                self._end(container, KILLED)
        else:
            plain = [c for c in self.containers if c.kind is not Kind.SIDECAR]
            self.phase = "Succeeded" if all(c.exit_code == 0 for c in plain) else "Failed"
        return True

    def _fail(self, reason: str, message: str, blame: str) -> None:
        self.phase, self._reason, self._message = "Failed", reason, message
        self._blame = blame
        self._publish()

    def _publish(self) -> None:
        if self.phase not in ENDED:
            self.phase = self._phase()
        self._was_initialized |= all(c.done for c in self._inits)
        ready = (
            self.phase == "Running"
            and all(c.done for c in self._inits)
            and all(c.ready for c in self.containers)
        )
        self._write(
            {
                "phase": self.phase,
                "reason": self._reason,
                "message": self._message,
                "initContainerStatuses": [c.raw() for c in self._inits],
                "containerStatuses": [c.raw() for c in self._apps],
                "conditions": [
                    {"type": "Initialized", "status": str(self._was_initialized)},
                    {"type": "Ready", "status": str(ready)},
                    *self._disrupted(),
                ],
            }
        )

    def _disrupted(self) -> Iterator[Raw]:
        if self._disruption:
            yield {"type": "DisruptionTarget", "status": "True", "reason": self._disruption}

    def _phase(self) -> str:
        """Returns the phase of a Pod that has not ended. It is Pending while an init container
        runs, or while a container has never started."""
        for container in self.containers:
            if container.running and container.kind is Kind.STEP:
                return "Pending"
            if container.waiting and container.last is None:
                return "Pending"
        return "Running"

    def _now(self) -> str:
        return format_time(self._clock() + self._skew())


def _containers(spec: Mapping[str, Any]) -> Iterator[Container]:
    policy = spec.get("restartPolicy") or "Always"
    for kind, key in ((Kind.STEP, "initContainers"), (Kind.APP, "containers")):
        for raw in spec[key]:
            sidecar = kind is Kind.STEP and raw.get("restartPolicy") == "Always"
            yield Container(
                raw["name"],
                Kind.SIDECAR if sidecar else kind,
                raw.get("restartPolicy") or policy,
                tuple(raw.get("restartPolicyRules", ())),
            )
