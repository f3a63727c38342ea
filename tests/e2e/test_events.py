"""What kubectl tells a person who asks what happened."""

from kubernetes import client

from tests.e2e.conftest import E2EEnv, status_of
from tests.e2e.templates import container, template
from tests.operator_process import OperatorProcess


def told(env: E2EEnv) -> list[tuple[str, str]]:
    """Reason and note of the events on the pipeline, by their times."""
    listed = client.EventsV1Api(env.api).list_namespaced_event(
        env.namespace, field_selector="regarding.kind=InitPipeline"
    )
    return [(e.reason, e.note) for e in sorted(listed.items, key=lambda e: e.event_time)]


def test_a_pipeline_that_is_given_up_has_told_each_thing_once_and_in_order(
    env: E2EEnv,
    operator: OperatorProcess,
) -> None:
    steps = container("fine", "true"), container("broken", "echo no such table >&2; exit 3")
    env.create("demo", template(*steps, restartPolicy="Never"), backoffLimit=1)
    env.pipelines.wait("demo", "given up", lambda state: status_of(state, "Stalled") == "True")
    operator.stop()  # It posts what it still has to tell, and nothing more comes.

    failed = 'init container 2 of 2 "broken" exited with 3: no such table'
    assert told(env) == [
        ("RunStarted", "run 1 started (Created): the InitPipeline is new"),
        ("StepFailed", f"run 1: {failed}"),
        ("RunFailed", f"run 1 failed: {failed}"),
        ("RunStarted", "run 2 started (Retry): the run before it failed"),
        ("StepFailed", f"run 2: {failed}"),
        ("RunFailed", f"run 2 failed: {failed}"),
        ("GivenUp", f"2 runs have failed, and backoffLimit is 1: {failed}"),
    ]
