"""A healthy installation of two replicas, whose InitPipelines run on a real kubelet."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from typing import Any, Final

from kubernetes import client

from initpipeline.api import names
from initpipeline.api.raw import Raw
from tests.cluster.errors import ClusterError
from tests.monitoring.installation import Installation, unscheduled
from tests.templates import container, template

SHOPS: Final = 6
PAUSE_SECONDS: Final = 4.0
GRACE: Final[Mapping[str, Any]] = {"terminationGracePeriodSeconds": 1}


def shop(number: int) -> Raw:
    """Returns a template of three steps, whose durations differ."""
    return template(
        container("wait-for-database", f"sleep {number % 3}.5"),
        container("fetch", f"sleep 0.{number + 2}"),
        container("migrate", f"sleep {1 + number % 4}"),
        **GRACE,
    )


def failing(code: int) -> Raw:
    """Returns a template whose second step fails."""
    steps = container("fetch", "sleep 1"), container("migrate", f"sleep 1; exit {code}")
    return template(*steps, restartPolicy="Never", **GRACE)


@contextmanager
def load(installation: Installation) -> Iterator[None]:
    """InitPipelines become Ready, succeed, fail, lose their Pods and are run again, until the
    context ends. Raises ClusterError if a request of this load has failed."""
    for name in ("a", "b"):
        installation.start("--sweep-seconds=20", name=name)
    for number in range(SHOPS):
        installation.create(f"shop-{number}", shop(number))
    installation.create("report", template(container("fetch"), app="true", restartPolicy="Never"))
    installation.create("broken", failing(1), backoffLimit=1)
    installation.create("flaky", failing(2), backoffLimit=5)
    installation.create("large", template(container("one"), nodeSelector={"disk": "nvme"}))
    ended, failures = threading.Event(), list[Exception]()

    def act() -> None:
        for turn in count():
            if ended.wait(PAUSE_SECONDS):
                return
            try:
                disturb(installation, turn)
            except client.ApiException as error:
                failures.append(error)
                return

    thread = threading.Thread(target=act, name="load")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    if failures:
        raise ClusterError(f"the load has failed: {failures[0]}") from failures[0]


def share(installation: Installation) -> None:
    """Start two replicas that divide a few InitPipelines between them."""
    for name in ("a", "b"):
        installation.start("--shards=2", name=name)
    for number in range(4):
        installation.create(f"demo-{number}", unscheduled())


def disturb(installation: Installation, turn: int) -> None:
    """Delete a Pod, request runs, or change a template."""
    name = f"shop-{turn % SHOPS}"
    if turn % 5 == 0:
        installation.core.delete_collection_namespaced_pod(
            installation.namespace, field_selector=f"metadata.name={name}"
        )
    elif turn % 5 == 3:
        installation.pipelines.patch(name, {"spec": {"template": shop(turn)}})
    else:
        rerun = {names.RERUN_ANNOTATION: f"{time.time():.0f}"}
        again = name if turn % 2 else ("report", "flaky", "broken")[turn // 2 % 3]
        installation.pipelines.patch(again, {"metadata": {"annotations": rerun}})
