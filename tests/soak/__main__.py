"""``python -m tests.soak``: random faults over many pipelines, judged from outside."""

import argparse
import os
import random
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from types import FrameType
from typing import NoReturn

from tests.cluster.errors import ClusterError
from tests.cluster.progress import Lines
from tests.soak import record, schedule
from tests.soak.facts import ProcessSeen
from tests.soak.judge import Judge
from tests.soak.soak import Observed, Soak


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Returns 0 if all invariants held, 1 if not, 2 for invalid usage."""
    options = _parser().parse_args(arguments)
    if options.judge:
        return _judge(options.judge)
    size = schedule.Size(
        options.pipelines,
        options.real,
        options.replicas,
        options.seconds,
        options.cycles,
        options.rate,
    )
    if options.schedule:
        for number, cycle in enumerate(schedule.cycles(options.seed, size), start=1):
            print(f"# cycle {number}", cycle, sep="\n")
        return 0
    logs = options.logs or Path(tempfile.mkdtemp(prefix=f"soak-{options.seed}-", dir="/var/tmp"))
    logs.mkdir(parents=True, exist_ok=True)
    progress = Lines()
    progress(f"seed {options.seed}: repeat with SEED={options.seed}; logs in {logs}")
    (logs / "schedule.txt").write_text(
        "\n".join(str(cycle) for cycle in schedule.cycles(options.seed, size))
    )
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        observed = Soak(options.seed, size, logs, progress).run()
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return _report(observed, options.seed, logs)


def _interrupt(_: int, __: FrameType | None) -> NoReturn:
    """Let the replicas and the cluster be removed."""
    raise KeyboardInterrupt


def _report(observed: Observed, seed: int, logs: Path) -> int:
    figures = observed.judge.world.figures + observed.figures
    lines = [f"{count:6} {what}" for what, count in sorted(figures.items())]
    lines += _waits(observed)
    lines += [str(growth) for growth in observed.growths]
    lines += [str(violation) for violation in observed.violations]
    count = len(observed.violations)
    lines.append(f"seed {seed}: {count} violations; logs in {logs}")
    text = "\n".join(lines)
    (logs / "report.txt").write_text(f"{text}\n")
    print(text)
    return 1 if count else 0


def _waits(observed: Observed) -> list[str]:
    """Return how long requested runs have waited. That is not judged."""
    waits: dict[str, list[float]] = {"in storms": [], "in calms": []}
    for at, wait in observed.judge.world.waits:
        calm = any(since <= at - wait and at <= until for since, until in observed.calms)
        waits["in calms" if calm else "in storms"].append(wait)
    return [
        f"{len(seconds)} requested runs {when} waited {median(seconds):.1f} s (median), "
        f"{max(seconds):.1f} s (longest)"
        for when, seconds in waits.items()
        if seconds
    ]


def _judge(file: Path) -> int:
    """Judge the facts of an earlier soak again."""
    judge, found = Judge(), 0
    for fact in record.facts(file):
        if isinstance(fact, ProcessSeen):
            continue
        for violation in judge.observe(fact):
            found += 1
            print(violation)
    figures: Counter[str] = judge.world.figures
    for what, count in sorted(figures.items()):
        print(f"{count:6} {what}")
    return 1 if found else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    seed = int(os.environ.get("SEED") or random.randrange(10**6))
    parser.add_argument("--seed", type=int, default=seed, help="default: SEED, or a random one")
    parser.add_argument("--pipelines", type=int, default=200)
    parser.add_argument("--real", type=int, default=20, help="of these run on the real node")
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=540, help="of actions in each cycle")
    parser.add_argument("--cycles", type=int, default=6, help="each ends with a rest")
    parser.add_argument("--rate", type=float, default=1.0, help="actions of users per second")
    parser.add_argument("--logs", type=Path, help="default: a new folder in /var/tmp")
    parser.add_argument("--schedule", action="store_true", help="print the schedule and exit")
    parser.add_argument("--judge", type=Path, metavar="FACTS", help="judge a facts.jsonl again")
    return parser


if __name__ == "__main__":
    sys.exit(main())
