"""The actions of users and the faults, as a pure function of a seed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Final

NAMESPACES: Final = 4


class User(StrEnum):
    """What a user, or a fault of one Pod, does to a pipeline."""

    CREATE = "create"
    DELETE = "delete"
    RECREATE = "recreate"
    RERUN = "rerun"
    REPEAT = "repeat-token"
    TEMPLATE = "template"
    POLICY = "policy"
    SUSPEND = "suspend"
    RESUME = "resume"
    ALL = "template-token-policy"
    DELETE_POD = "delete-pod"
    EVICT = "evict-pod"
    KILL_APP = "kill-app"
    KILL_STEP = "kill-step"
    KILL_SANDBOX = "kill-sandbox"


class Fault(StrEnum):
    """What happens to replicas, their connections, their Lease, the API server, or the node."""

    KILL = "sigkill"
    REPLACE = "sigkill-new-identity"
    TERM = "sigterm"
    PAUSE = "pause"
    LEASE_DELETE = "lease-delete"
    LEASE_HOLDER = "lease-holder"
    LEASE_DURATION = "lease-duration"
    API_RESTART = "api-restart"
    API_PAUSE = "api-pause"
    ETCD_PAUSE = "etcd-pause"
    CONTROLLERS_RESTART = "controller-manager-restart"
    SCHEDULER_RESTART = "scheduler-restart"
    KUBELET_RESTART = "kubelet-restart"
    SLOW_REQUESTS = "slow-requests"
    RESET_REQUESTS = "reset-requests"
    LOST_RESPONSES = "lost-responses"
    TRUNCATED_RESPONSES = "truncated-responses"
    ANSWER_429 = "answer-429"
    ANSWER_500 = "answer-500"
    PARTITION = "partition"
    CUT_WATCHES = "cut-watches"
    SILENT_WATCHES = "silent-watches"
    WATCH_410 = "watch-410"
    WATCH_500 = "watch-500"


@dataclass(frozen=True, slots=True)
class Step:
    """One action."""

    at: float
    """Seconds since the start of the cycle, at the earliest."""
    action: User | Fault
    target: str
    """The pipeline, or the replica: its number, or holder."""
    value: str = ""
    """The token, the version of the template, the duration in seconds, or the Lease's value."""

    def __str__(self) -> str:
        """Return one line of the schedule."""
        return f"{self.at:7.1f}s {self.action:<28} {self.target} {self.value}".rstrip()


@dataclass(frozen=True, slots=True)
class Size:
    """How large the soak is."""

    pipelines: int
    real: int
    """Number of pipelines whose Pods run on the real node. The Pods of the others are simulated."""
    replicas: int
    seconds: float
    """Duration of the actions of one cycle."""
    cycles: int
    rate: float
    """Actions of users per second."""


STORM: Final = 0.7
"""The share of a cycle in which faults are injected. Then users act without faults."""


@dataclass(frozen=True, slots=True)
class Cycle:
    """The actions until the next rest."""

    users: tuple[Step, ...]
    faults: tuple[Step, ...]
    calm_at: float
    """When the faults end."""

    def __str__(self) -> str:
        """Return the schedule, one action a line, in the order of their times."""
        steps = sorted((*self.users, *self.faults), key=lambda step: step.at)
        return "\n".join(map(str, steps))


def cycles(seed: int, size: Size) -> Iterator[Cycle]:
    """Yield the schedule of each cycle. It follows from the seed and the size alone."""
    users, faults = _Users(Random(f"users {seed}"), size), Random(f"faults {seed}")
    for _ in range(size.cycles):
        calm_at = size.seconds * STORM
        yield Cycle(tuple(users.cycle()), tuple(_faults(faults, size.replicas, calm_at)), calm_at)


def pipeline(number: int) -> str:
    """Return the name of a pipeline."""
    return f"p{number:03d}"


def namespace(name: str) -> str:
    """Return the namespace of a pipeline."""
    return f"soak-{int(name[1:]) % NAMESPACES}"


_FAKE: Final[dict[User, float]] = {
    User.RERUN: 28,
    User.REPEAT: 4,
    User.TEMPLATE: 12,
    User.POLICY: 8,
    User.SUSPEND: 10,
    User.ALL: 8,
    User.DELETE_POD: 12,
    User.EVICT: 6,
    User.RECREATE: 8,
    User.DELETE: 4,
}
_REAL: Final[dict[User, float]] = {
    **_FAKE,
    User.KILL_APP: 20,
    User.KILL_STEP: 8,
    User.KILL_SANDBOX: 14,
}
REAL_SHARE: Final = 0.2
"""The share of actions on pipelines of the real node."""
RESUMED_SHARE: Final = 0.5
"""The share of actions on suspended pipelines that resume them."""
CREATIONS_PER_SECOND: Final = 8.0


class _Users:
    """Knows what the pipelines would be like after the actions so far."""

    def __init__(self, random: Random, size: Size) -> None:
        self._random = random
        self._size = size
        self._existing: set[str] = set()
        self._suspended: set[str] = set()
        self._tokens: dict[str, list[str]] = {}
        self._count = 0

    def cycle(self) -> Iterator[Step]:
        """Yield the actions of the next cycle."""
        time = 0.0
        for number in range(self._size.pipelines):
            name = pipeline(number)
            if name not in self._existing:
                time += 1 / CREATIONS_PER_SECOND
                yield self._create(time, name)
        while (time := time + self._random.expovariate(self._size.rate)) < self._size.seconds:
            yield self._step(time)

    def _step(self, time: float) -> Step:
        real = self._random.random() < REAL_SHARE
        real_count = self._size.real
        count = self._size.pipelines
        chosen = range(real_count) if real and real_count else range(real_count, count)
        name = pipeline(self._random.choice(chosen or range(real_count)))
        if name not in self._existing:
            return self._create(time, name)
        if name in self._suspended and self._random.random() < RESUMED_SHARE:
            return Step(time, User.RESUME, name, self._applied(User.RESUME, name))
        weights = _REAL if int(name[1:]) < real_count else _FAKE
        action = self._random.choices(list(weights), list(weights.values()))[0]
        if action is User.SUSPEND and name in self._suspended:
            action = User.RESUME
        return Step(time, action, name, self._applied(action, name))

    def _create(self, time: float, name: str) -> Step:
        self._existing.add(name)
        return Step(time, User.CREATE, name, self._new("v"))

    def _applied(self, action: User, name: str) -> str:
        """Return the value of an action. Notes its effect."""
        match action:
            case User.RERUN:
                token = self._new("t")
                self._tokens.setdefault(name, []).append(token)
                return token
            case User.REPEAT:
                return self._random.choice(self._tokens.get(name) or [self._new("t")])
            case User.TEMPLATE | User.ALL | User.RECREATE:
                if action is User.RECREATE:
                    self._forget(name)
                return self._new("v")
            case User.DELETE:
                self._forget(name)
                self._existing.remove(name)
                return self._random.choice(["Background", "Foreground"])
            case User.SUSPEND:
                self._suspended.add(name)
            case User.RESUME:
                self._suspended.remove(name)
            case User.POLICY:
                return str(self._random.randint(0, 3))
            case User.DELETE_POD:
                return self._random.choice(["0", "1", ""])
        return ""

    def _forget(self, name: str) -> None:
        self._suspended.discard(name)
        self._tokens.pop(name, None)

    def _new(self, prefix: str) -> str:
        self._count += 1
        return f"{prefix}{self._count}"


_FAULTS: Final[dict[Fault, tuple[float, Sequence[float]]]] = {
    # The weight, and the durations to choose from. A Lease lasts 15 s.
    Fault.KILL: (4, ()),
    Fault.REPLACE: (2, ()),
    Fault.TERM: (3, ()),
    Fault.PAUSE: (6, (1, 4, 8, 12, 17, 20, 25)),
    Fault.LEASE_DELETE: (1, ()),
    Fault.LEASE_HOLDER: (1, ()),
    Fault.LEASE_DURATION: (1, ()),
    Fault.API_RESTART: (3, (0, 1, 4, 12)),
    Fault.API_PAUSE: (2, (1, 3, 6, 12)),
    Fault.ETCD_PAUSE: (1, (1, 3, 6)),
    Fault.CONTROLLERS_RESTART: (1, (0, 5)),
    Fault.SCHEDULER_RESTART: (1, (0, 5)),
    Fault.KUBELET_RESTART: (1, (0, 5, 15)),
    # These affect the connection of one replica.
    Fault.SLOW_REQUESTS: (1, (5, 20)),
    Fault.RESET_REQUESTS: (1, (1, 5, 12)),
    Fault.LOST_RESPONSES: (2, (1, 5)),
    Fault.TRUNCATED_RESPONSES: (1, (1, 5)),
    Fault.ANSWER_429: (1, (2, 8)),
    Fault.ANSWER_500: (1, (2, 8)),
    Fault.PARTITION: (3, (4, 12, 20, 30)),
    Fault.CUT_WATCHES: (1, (1,)),
    Fault.SILENT_WATCHES: (1, (5,)),
    Fault.WATCH_410: (1, (1,)),
    Fault.WATCH_500: (1, (1,)),
}
OF_PROCESSES: Final = frozenset({Fault.KILL, Fault.REPLACE, Fault.TERM, Fault.PAUSE})
OF_CONNECTIONS: Final = frozenset(
    {
        Fault.SLOW_REQUESTS,
        Fault.RESET_REQUESTS,
        Fault.LOST_RESPONSES,
        Fault.TRUNCATED_RESPONSES,
        Fault.ANSWER_429,
        Fault.ANSWER_500,
        Fault.PARTITION,
        Fault.CUT_WATCHES,
        Fault.SILENT_WATCHES,
        Fault.WATCH_410,
        Fault.WATCH_500,
    }
)
OF_REPLICAS: Final = OF_PROCESSES | OF_CONNECTIONS
HOLDER: Final = "holder"
FIRST_FAULT: Final = 15.0
LONGEST_GAP: Final = 15.0


def _faults(random: Random, replicas: int, until: float) -> Iterator[Step]:
    time = FIRST_FAULT
    while True:
        weights = [weight for weight, _ in _FAULTS.values()]
        fault = random.choices(list(_FAULTS), weights)[0]
        durations = _FAULTS[fault][1]
        seconds = random.choice(durations) if durations else 0
        if time + seconds > until:
            return
        target = "cluster"
        if fault in OF_REPLICAS:
            target = HOLDER if random.random() < 0.6 else str(random.randrange(replicas))
        yield Step(time, fault, target, f"{seconds:g}" if durations else "")
        time += seconds + random.uniform(2, LONGEST_GAP)
