"""The command line of the demo: ``python -m tests.demo``."""

import argparse
import fcntl
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from tests.cluster.cli import cluster_name
from tests.cluster.cluster import DEFAULT_NAME
from tests.cluster.errors import ClusterError
from tests.demo import checks, cluster, preparation, report, scenario
from tests.demo.cluster import NAMESPACE, PIPELINE, DemoCluster
from tests.demo.errors import DemoError, UsageError
from tests.demo.journal import Journal
from tests.demo.observer import Feed, Listener, Observer
from tests.demo.scenario import Act, Commentator
from tests.demo.supervisor import Supervisor
from tests.demo.view import View

DESCRIPTION: Final = """\
Run a pipeline of four steps on a real Kubernetes: start the cluster and the operator, apply
manifests/examples/demo.yaml, and inject three faults. The demo prints each change and checks each
claim. It leaves the cluster and the operator running.
"""
EPILOG: Final = """\
environment:
  CLUSTER=current   use the current kubeconfig context instead of a cluster on this machine;
                    without it, the demo ignores your kubeconfig

Exit codes: 0 all claims are true, 1 a claim is false or a step failed, 2 invalid usage, 130 Ctrl-C.
"""
LOCK: Final = "demo.lock"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo and return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        with View() as view:
            run(_cluster(options.name, os.environ.get("CLUSTER", ""), view), view)
    except (DemoError, ClusterError) as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except BrokenPipeError:  # "... | head"
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("interrupted: the cluster and the operator continue to run")
        return 130
    return 0


def run(demo_cluster: DemoCluster, view: View) -> None:
    """Run the demo. Raise DemoError for the first claim that is false."""
    feed = Feed()
    with _locked(demo_cluster), Supervisor(demo_cluster, feed) as supervisor:
        preparation.prepare(demo_cluster, supervisor, view)
        _play(demo_cluster, feed, view)
        report.next_steps(demo_cluster, supervisor.leave_running(), view)


def _play(demo_cluster: DemoCluster, feed: Feed, view: View) -> None:
    journal, commentator = Journal(), Commentator(view)
    played: list[Act] = []
    listeners: list[Listener] = [journal, view, commentator]
    with Observer(demo_cluster.kubeconfig, NAMESPACE, PIPELINE, feed, listeners) as observer:
        evidence = checks.Evidence(demo_cluster, observer, journal, played)
        for number, act in enumerate(scenario.acts(demo_cluster, observer, view), start=1):
            view.title(f"Run {number}: {act.title}", act.explanation)
            commentator.begin(act)
            scenario.play(act, number, observer, demo_cluster.timeout)
            played.append(act)
            if number == 1:
                _verify(checks.after_first_run(evidence), view)
        view.text("")
        view("checking the claims")
        _verify(checks.all_checks(evidence), view)
    report.history(observer.snapshot, view)


def _verify(results: Iterable[checks.Check], view: View) -> None:
    failed = []
    for check in results:
        view.check(check.claim, check.problem)
        failed += [check] if check.problem else []
    if failed:
        more = f" (and {len(failed) - 1} more, see above)" if len(failed) > 1 else ""
        raise DemoError(f"false claim: {failed[0].claim}: {failed[0].problem}{more}")


@contextmanager
def _locked(demo_cluster: DemoCluster) -> Iterator[None]:
    """Hold a lock, since a second demo in the cluster would delete the namespace of the first.

    The kernel releases it when this process ends.
    """
    with (demo_cluster.layout.root / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DemoError("another demo is running on this cluster: wait for its end") from None
        yield


def _cluster(name: str, choice: str, view: View) -> DemoCluster:
    if choice == "current":
        return cluster.current(view)
    if choice:
        raise UsageError(f"invalid CLUSTER={choice}: unset it, or set it to current")
    return cluster.own(name, view)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.demo",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    help_ = "name of the cluster (default: %(default)s)"
    parser.add_argument("--name", type=cluster_name, default=DEFAULT_NAME, help=help_)
    return parser


if __name__ == "__main__":
    sys.exit(main())
