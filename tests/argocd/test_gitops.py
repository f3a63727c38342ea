"""A directory of InitPipelines in git, and a real Argo CD that syncs it."""

import pytest

from initpipeline.api import names
from tests.argocd.applications import Application
from tests.cluster.cluster import Cluster
from tests.e2e.conftest import E2EEnv, message_of, run_number, runs, status_of
from tests.e2e.templates import container, template, two_steps

pytestmark = pytest.mark.argocd

HEALTHY = ("Synced", "Healthy")

SYNCS = [
    pytest.param((), "", id="client-side"),
    pytest.param(("ServerSideApply=true",), "", id="server-side-apply"),
    pytest.param(("ServerSideApply=true",), "ServerSideDiff=true", id="server-side-diff"),
]
"""The ways in which Argo CD applies and compares: each may find a difference of its own."""


def test_a_directory_progresses_and_then_is_healthy(application: Application) -> None:
    application.write("shop", two_steps())
    application.write("bar", template(container("only", "sleep 1")))
    application.write("job", template(container("a", "true"), app="true", restartPolicy="Never"))

    application.create()
    application.wait(*HEALTHY)

    assert application.pipelines() == ["bar", "job", "shop"]
    told = [health for sync, health in application.states() if sync == "Synced"]
    assert told[0] == "Progressing", told


def test_a_refresh_names_the_step_that_runs(application: Application, env: E2EEnv) -> None:
    application.write("shop", template(container("one", "true"), container("two", "sleep 60")))
    application.create()
    application.wait("Synced", "Progressing")
    step = 'init container 2 of 2 "two" is running'
    env.pipelines.wait("shop", step, lambda state: message_of(state, "Ready") == step)

    expected = {"status": "Progressing", "message": f"StepRunning: {step}"}
    application.wait_health("shop", lambda said: said == expected)


def test_a_pipeline_that_was_given_up_is_degraded_in_its_own_words(
    application: Application,
) -> None:
    step = container("migrate", "echo the schema is locked; exit 3")
    application.write("shop", template(step, restartPolicy="Never"))

    application.create()
    application.wait("Synced", "Degraded")

    assert application.argo_cd.health(application.name, "shop") == {
        "status": "Degraded",
        "message": "BackoffLimitExceeded: 1 run has failed, and backoffLimit is 0: init container "
        '1 of 1 "migrate" exited with 3: the schema is locked',
    }


@pytest.mark.parametrize(("options", "compare"), SYNCS)
def test_nothing_of_a_life_is_out_of_sync(
    application: Application,
    env: E2EEnv,
    cluster: Cluster,
    options: tuple[str, ...],
    compare: str,
) -> None:
    """Runs that the operator starts, the kubelet starts, and a person asks for by an action."""
    application.write("shop", two_steps())
    application.create(*options, compare=compare)
    began = application.wait(*HEALTHY)

    env.delete_pod("shop")
    env.wait_ready("shop", run=2)
    cluster.kill_sandbox(env.namespace, "shop")
    env.wait_ready("shop", run=3)
    application.act("shop", "rerun")
    state = env.wait_ready("shop", run=4)
    looked = application.refresh()
    application.wait(*HEALTHY, since=looked - 1)

    assert [trigger for _, trigger, _ in runs(state)] == [
        "Created",
        "PodLost",
        "PodRestarted",
        "Requested",
    ]
    assert {sync for sync, _ in application.states(began)} == {"Synced"}
    assert names.RERUN_ANNOTATION in env.pipeline("shop")["metadata"]["annotations"]


@pytest.mark.parametrize(("options", "compare"), SYNCS)
def test_suspended_and_resumed_by_actions(
    application: Application, env: E2EEnv, options: tuple[str, ...], compare: str
) -> None:
    """Git says nothing of suspend, so that self-heal does not undo it."""
    argo_cd, place = application.argo_cd, (application.name, application.name, "shop")
    application.write("shop", two_steps())
    application.create(*options, compare=compare)
    began = application.wait(*HEALTHY)
    assert argo_cd.actions(*place) == {"rerun": True, "suspend": True, "resume": False}

    application.act("shop", "suspend")
    application.wait("Synced", "Suspended", since=began)
    suspended = application.refresh()
    assert argo_cd.actions(*place) == {"rerun": False, "suspend": False, "resume": True}

    application.act("shop", "resume")
    application.wait(*HEALTHY, since=suspended)

    assert runs(env.pipeline("shop"))[1:] == [(2, "Resumed", "")]
    assert {sync for sync, _ in application.states(began)} == {"Synced"}


def test_a_suspension_that_git_denies_is_healed(application: Application, env: E2EEnv) -> None:
    application.write("shop", two_steps(), suspend=False)
    application.create()
    application.wait(*HEALTHY)

    application.act("shop", "suspend")

    wait_for_spec(env, generation=2, suspend=True)
    wait_for_spec(env, generation=3, suspend=False)


def test_a_change_of_the_spec_is_healed(application: Application, env: E2EEnv) -> None:
    application.write("shop", two_steps(), backoffLimit=2)
    application.create()
    began = application.wait(*HEALTHY)

    env.set("shop", backoffLimit=7)

    wait_for_spec(env, generation=3, backoffLimit=2)
    application.wait(*HEALTHY, since=began)
    assert "OutOfSync" in {sync for sync, _ in application.states(began)}
    assert run_number(env.pipeline("shop")) == 1


def test_a_pipeline_that_git_no_longer_has_is_pruned_with_its_pod(
    application: Application, env: E2EEnv
) -> None:
    application.write("shop", two_steps())
    application.write("bar", two_steps())
    application.create()
    application.wait(*HEALTHY)

    application.repository.remove(application.name, "bar")
    application.refresh()

    for watch_log in (env.pods, env.pipelines):
        watch_log.wait("bar", "it is gone", lambda state: state["event"] == "DELETED")
    assert application.pipelines() == ["shop"]


def test_a_template_changed_in_git_is_a_new_run(application: Application, env: E2EEnv) -> None:
    application.write("shop", two_steps())
    application.create()
    began = application.wait(*HEALTHY)

    application.write("shop", template(container("one", "sleep 1"), container("new", "sleep 1")))
    application.refresh()
    state = env.wait_ready("shop", run=2)
    application.wait(*HEALTHY, since=began)

    assert runs(state) == [(1, "Created", "Initialized"), (2, "SpecChanged", "")]
    assert ("Synced", "Progressing") in application.states(began)
    assert status_of(env.pipeline("shop"), "Ready") == "True"


def test_what_follows_a_hook_waits_until_it_is_healthy(
    application: Application, env: E2EEnv
) -> None:
    step = template(container("migrate", "sleep 1"), app="true", restartPolicy="Never")
    application.write("migrate", step, annotations={"argocd.argoproj.io/hook": "PreSync"})
    application.write("shop", two_steps())

    application.create()
    application.wait(*HEALTHY)

    told = [
        (state["metadata"]["name"], status_of(state, "Ready")) for state in env.pipelines.states
    ]
    names_told = [name for name, _ in told]
    assert ("migrate", "True") in told[: names_told.index("shop")]


def wait_for_spec(env: E2EEnv, generation: int, **fields: object) -> None:
    """Wait until the pipeline's spec has been changed so often, and says this."""
    env.pipelines.wait(
        "shop",
        f"{fields} in generation {generation}",
        lambda state: (
            state["metadata"]["generation"] == generation
            and fields.items() <= state["spec"].items()
        ),
    )
