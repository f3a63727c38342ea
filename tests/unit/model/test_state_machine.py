"""Stateful property test: no sequence of events leads to a false status or a wrong action.

Hypothesis generates stories of one InitPipeline: changes by users, events that happen to its Pod,
faults of the API server, and crashes of the operator. witness.py defines what is true at each
decision. ``rest`` defines what must be the result when no further events happen.

The stories are the same in each run, so that a failure can be reproduced on any machine. To run
many new ones: ``INITPIPELINE_STORIES=20000 python -m pytest
tests/unit/model/test_state_machine.py``.
"""

import os
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from initpipeline.api.models import InitPipelineStatus
from initpipeline.api.raw import Raw
from initpipeline.api.reasons import RerunPolicy
from initpipeline.core.facts import Pipeline
from initpipeline.runtime import reconcile
from initpipeline.runtime.errors import api_error
from tests.builders import pipeline
from tests.unit.model.kubelet import Kind
from tests.unit.model.process import WATCHES
from tests.unit.model.scene import Scene, is_ours, without_none
from tests.unit.model.witness import Witness
from tests.unit.runtime.fake_api import KEY, PIPELINES, PODS

STORIES = int(os.environ.get("INITPIPELINE_STORIES", "0"))

STEP = {"image": "busybox"}
ONE, TWO = {"name": "one", **STEP}, {"name": "two", **STEP}
APP, WEB = {"name": "app", **STEP}, {"name": "web", **STEP}
EARLY = {"name": "early", "restartPolicy": "Always", **STEP}
MIDDLE = {"name": "middle", "restartPolicy": "Always", **STEP}
ANY_EXIT = {"operator": "NotIn", "values": []}
ALL = "RestartAllContainers"
IN_PLACE = {**APP, "restartPolicyRules": [{"action": ALL, "exitCodes": ANY_EXIT}]}
WATCHER = {
    **MIDDLE,
    "name": "watcher",
    "restartPolicyRules": [{"action": ALL, "exitCodes": {"operator": "In", "values": [1]}}],
}
RETRIED = {
    **ONE,
    "restartPolicy": "Never",
    "restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "In", "values": [137]}}],
}
RESIZED = {
    **APP,
    "resources": {"requests": {"cpu": "1m"}},
    "resizePolicy": [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}],
}
INJECTED: list[dict[str, list[Raw]]] = [
    {},
    {"initContainers": [{**EARLY, "name": "proxy"}]},
    {"initContainers": [{**STEP, "name": "setup"}], "containers": [{**STEP, "name": "proxy"}]},
]

TEMPLATES: list[Raw] = [
    {"initContainers": [ONE, TWO], "containers": [APP]},
    {"initContainers": [EARLY, ONE, MIDDLE, TWO], "containers": [APP, WEB]},
    {"initContainers": [ONE, TWO], "containers": [APP], "restartPolicy": "OnFailure"},
    {"initContainers": [ONE, EARLY], "containers": [APP], "restartPolicy": "Never"},
    {"initContainers": [ONE, TWO], "containers": [IN_PLACE]},
    {"initContainers": [ONE, WATCHER, TWO], "containers": [APP]},
    {"initContainers": [RETRIED, TWO], "containers": [{**APP, "restartPolicy": "Never"}]},
    {
        "initContainers": [RETRIED, TWO],
        "containers": [APP, {**WEB, "restartPolicy": "Always"}],
        "restartPolicy": "Never",
    },
    {"initContainers": [ONE, TWO], "containers": [RESIZED]},
    {"initContainers": [ONE, TWO], "containers": [APP], "schedulingGates": [{"name": "queue"}]},
]

QUOTA = api_error(403, {"message": "pods is forbidden: exceeded quota: q"})
INVALID = api_error(422, {"message": "Pod is invalid: spec.containers: Required value"})
BROKEN = api_error(500, {"message": "etcdserver: request timed out"})

DAY = 24 * 3600

templates = st.sampled_from(range(len(TEMPLATES)))
policies: dict[str, st.SearchStrategy[Any]] = {
    "rerunPolicy": st.sampled_from(["OnRestart", "OnPodLoss", "Never"]),
    "backoffLimit": st.integers(0, 3),
    "initDeadlineSeconds": st.none() | st.sampled_from([5, 60]),
    "initPolicies": st.sampled_from(
        [
            [],
            [{"name": "one", "timeoutSeconds": 10}],
            [{"name": "one", "maxRestarts": 0}],
            [{"name": "one", "maxRestarts": 2, "timeoutSeconds": 60}],
        ]
    ),
    "runHistoryLimit": st.sampled_from([0, 1, 10]),
    "ttlSecondsAfterFinished": st.none() | st.sampled_from([0, 100]),
}
some_policies: st.SearchStrategy[dict[str, Any]] = st.just({}) | st.fixed_dictionaries(
    {}, optional=policies
)
one_policy = st.sampled_from(sorted(policies)).flatmap(
    lambda name: st.fixed_dictionaries({name: policies[name]})
)
seldom = st.integers(0, 5).map(lambda number: number == 5)
pod_events = st.sampled_from(
    [
        "exit",
        "exit",
        "sandbox dies",
        "node reboots",
        "kubelet evicts",
        "evicted for its own fault",
        "its deadline is exceeded",
        "node shuts down",
        "evicted",
        "deleted",
    ]
)
exit_codes = st.sampled_from([0, 0, 0, 1, 137])
plurals = st.sampled_from(WATCHES)


class Stories(Scene, RuleBasedStateMachine):
    """One pipeline, from its creation on."""

    def __init__(self) -> None:
        RuleBasedStateMachine.__init__(self)
        Scene.__init__(self)
        self.witness = Witness(self.cluster)
        self._spy = patch.object(reconcile, "decide", self.witness.decide)
        self._spy.start()
        self.tokens = 0
        self.requested: dict[str, int] = {}
        """The number of Pods that had been created when the token was set first."""
        self.answered: dict[str, int] = {}
        self.newest_run = 0
        self.policy_changed = False

    def teardown(self) -> None:
        try:
            if PIPELINES in {plural for plural, _ in self.api.objects}:
                self.rest()
        finally:
            self._spy.stop()

    # Users and other clients.

    @initialize(template=templates, chosen=some_policies, suspended=seldom)
    def user_creates_pipeline(self, template: int, chosen: dict[str, Any], suspended: bool) -> None:
        spec = {"template": {"spec": TEMPLATES[template]}, **chosen, "suspend": suspended}
        self.api.put(PIPELINES, {**pipeline().raw(), "spec": without_none(spec)})

    @precondition(Scene.exists)
    @rule(template=templates)
    def user_changes_template(self, template: int) -> None:
        self.change_spec({"template": {"spec": TEMPLATES[template]}})

    @precondition(Scene.exists)
    @rule()
    def user_rewrites_template_without_effect(self) -> None:
        """Changes the spelling of the template. The API server would store the same Pod, so no run
        may start: see witness.STARTS."""
        spec = {**self.pipeline.template["spec"], "dnsPolicy": "ClusterFirst", "volumes": []}
        self.change_spec({"template": {"spec": spec}})

    @precondition(Scene.exists)
    @rule(chosen=one_policy)
    def user_changes_policy(self, chosen: dict[str, Any]) -> None:
        self.policy_changed |= "rerunPolicy" in chosen
        self.change_spec(chosen)

    @precondition(Scene.exists)
    @rule(twice=st.booleans())
    def user_toggles_suspend(self, twice: bool) -> None:
        self.change_spec({"suspend": not self.pipeline.policies.suspend})
        if twice:
            self.work()
            self.change_spec({"suspend": not self.pipeline.policies.suspend})

    @precondition(Scene.exists)
    @rule(new=st.booleans())
    def user_requests_run(self, new: bool) -> None:
        """Requests a run with a new token, or with one that was used before."""
        self.tokens += new
        token = f"token-{self.tokens}"
        self.requested.setdefault(token, len(self.api.runs_of_pods))
        self.set_token(token)

    @precondition(Scene.exists)
    @rule(meanwhile=st.booleans())
    def another_client_labels_pipeline(self, meanwhile: bool) -> None:
        """Changes a label, which is irrelevant to the operator. ``meanwhile``: in the middle of a
        reconcile, so that the status write conflicts."""
        if meanwhile:
            self.api.before["PATCH status"] = self.label_pipeline
            self.settle()
            self.api.before.clear()
        else:
            self.label_pipeline()

    def label_pipeline(self) -> None:
        raw = self.api.objects[PIPELINES, KEY]
        labels = {"some": f"label-{self.api.count()}"}
        self.api.edit(PIPELINES, {"metadata": {**raw["metadata"], "labels": labels}})

    # Events that happen to the Pod.

    def has_pod(self) -> bool:
        return self.cluster.pod is not None

    def has_no_pod(self) -> bool:
        return self.cluster.pod is None

    @precondition(Scene.has_unscheduled_pod)
    @rule(verdict=st.sampled_from(["node", "node", "no node", "node without room"]))
    def scheduler_decides(self, verdict: str) -> None:
        if verdict == "no node":
            self.cluster.find_no_node()
            return
        self.cluster.schedule()
        if verdict == "node without room":
            self.kubelet.rejects()

    @precondition(has_pod)
    @rule(steps=st.integers(1, 4), exit_code=exit_codes)
    def kubelet_works(self, steps: int, exit_code: int) -> None:
        for _ in range(steps):
            self.cluster.node_step(exit_code)

    @precondition(Scene.has_running_step)
    @rule(code=exit_codes, seconds=st.integers(0, 3))
    def step_ends(self, code: int, seconds: int) -> None:
        self.cluster.clock.seconds += seconds
        step = next(c for c in self.kubelet.running if c.kind is Kind.STEP)
        self.kubelet.exits(step.name, code)

    @precondition(Scene.has_running)
    @rule(what=pod_events, number=st.integers(0, 3), code=exit_codes, steps=st.integers(0, 2))
    def pod_event(self, what: str, number: int, code: int, steps: int) -> None:
        """Lets an event happen to the Pod. A restart of the sandbox takes two seconds, a reboot
        fifteen."""
        running, clock = self.kubelet.running, self.cluster.clock
        if what == "exit":
            self.kubelet.exits(running[number % len(running)].name, code)
        elif what == "sandbox dies":
            clock.seconds += 2
            self.kubelet.sandbox_dies()
        elif what == "node reboots":
            clock.seconds += 15
            self.kubelet.node_reboots()
        elif what == "kubelet evicts":
            self.kubelet.evicts()
        elif what == "evicted for its own fault":
            self.kubelet.evicts_for_its_own_fault()
        elif what == "its deadline is exceeded":
            self.kubelet.exceeds_its_deadline()
        elif what == "node shuts down":
            self.kubelet.shuts_down(code)
        elif what == "evicted":
            self.cluster.disrupt()
        else:
            self.api.delete(PODS)
        for _ in range(steps):
            self.cluster.node_step(code)

    @precondition(Scene.exists)
    @rule(
        what=pod_events,
        number=st.integers(0, 3),
        code=exit_codes,
        steps=st.integers(0, 2),
        then=st.booleans(),
    )
    def pod_event_when_ready(
        self, what: str, number: int, code: int, steps: int, then: bool
    ) -> None:
        self.pod_becomes_ready(1)
        if self.has_running():
            self.pod_event(what, number, code, steps)
        if then:
            self.pod_becomes_ready(1)

    @rule(seconds=st.sampled_from([-3600, -60, -5, 5, 60, 3600]))
    def node_clock_is_set(self, seconds: int) -> None:
        self.cluster.skew += timedelta(seconds=seconds)

    @rule(what=st.sampled_from(INJECTED))
    def admission_injects(self, what: dict[str, list[Raw]]) -> None:
        """Injects these containers into Pods that are created from now on."""
        self.api.injected = what

    def has_resizable(self) -> bool:
        return self.has_running() and any(
            "resizePolicy" in container
            and container["name"] in {running.name for running in self.kubelet.running}
            for container in self.the_pod["spec"]["containers"]
        )

    @precondition(has_resizable)
    @rule()
    def autoscaler_resizes_pod(self) -> None:
        self.cluster.resize("app")
        self.kubelet.resizes("app")

    def is_gated(self) -> bool:
        pod = self.cluster.pod
        return pod is not None and "schedulingGates" in pod["spec"]

    @precondition(is_gated)
    @rule()
    def scheduling_gates_are_removed(self) -> None:
        self.cluster.ungate()

    @precondition(Scene.has_live_pod)
    @rule(missing=st.booleans())
    def image_becomes_missing_or_available(self, missing: bool) -> None:
        self.kubelet.missing = {"two", "app"} if missing else set()

    @precondition(has_pod)
    @rule(forced=seldom)
    def user_deletes_pod(self, forced: bool) -> None:
        self.api.delete(PODS, grace=0 if forced else None)

    @precondition(has_no_pod)
    @rule(really=seldom)
    def another_client_takes_the_pod_name(self, really: bool) -> None:
        if really:
            self.cluster.create_pod({"containers": [APP]}, uid=f"foreign-{self.api.count()}")

    @precondition(has_pod)
    @rule(really=seldom, ours=st.booleans())
    def user_changes_pod_label(self, really: bool, ours: bool) -> None:
        if really and is_ours(self.the_pod):
            self.cluster.label(ours)

    # The operator, its watches and the API server.

    @rule(plural=plurals, count=st.integers(1, 5))
    def watch_delivers_events(self, plural: str, count: int) -> None:
        self.process.deliver(plural, count)

    @rule(plural=plurals | st.none())
    def watch_restarts(self, plural: str | None) -> None:
        """Restarts a watch. Without ``plural``, runs the sweeper."""
        if plural is None:
            self.process.sweep()
        else:
            self.process.list_again(plural)

    @rule()
    def operator_works(self) -> None:
        self.work()

    @rule()
    def all_work(self) -> None:
        """Delivers each event at once, and lets operator and kubelet work, which is the usual
        case."""
        self.settle()

    @rule(seconds=st.integers(0, 3))
    def pod_becomes_ready(self, seconds: int) -> None:
        """Lets operator and kubelet work and each step succeed, until the Pod is Ready."""
        self.settle()
        for _ in range(10):
            if self.has_running_step():
                self.step_ends(0, seconds)
                self.settle()

    @rule(requests=st.integers(0, 4))
    def operator_dies(self, requests: int) -> None:
        """Kills the operator after so many further requests, or now if it makes fewer."""
        self.api.dies_after = len(self.api.calls) + requests
        self.work()
        self.restart()

    @rule(seconds=st.sampled_from([1, 3, 10, 60, 301, 700]))
    def time_passes(self, seconds: int) -> None:
        self.cluster.clock.seconds += seconds

    @rule(
        request=st.sampled_from(["PATCH status", "POST pods", "DELETE pods", "GET pods"]),
        error=st.sampled_from([BROKEN, BROKEN, QUOTA, INVALID, None]),
        times=st.integers(1, 3),
    )
    def api_server_fails(self, request: str, error: Exception | None, times: int) -> None:
        """Lets the next requests fail. Or the API server refuses the Pod, or its answer is lost."""
        if error is None:
            self.api.unanswered.add(request)
        else:
            self.api.failing["POST pods" if error in (QUOTA, INVALID) else request] = [
                error
            ] * times

    # Invariants.

    @invariant()
    def each_token_starts_one_run_and_each_number_is_used_once(self) -> None:
        if not self.exists():
            return
        status = self.status
        known = [*status.history, *([status.run] if status.run else [])]
        for run in known:
            if run.token:
                first = self.answered.setdefault(run.token, run.number)
                assert first == run.number, f"{run.token} started the runs {first} and {run.number}"
        if status.run:
            assert status.run.number >= self.newest_run
            self.newest_run = status.run.number

    @invariant()
    def pods_are_created_in_the_order_of_runs(self) -> None:
        created = self.api.runs_of_pods
        assert created == sorted(created), f"Pods were created for the runs {created}"
        if created and self.exists():
            # Status records the first run after its Pod was created, all others before.
            known = max(self.newest_run, 1)
            assert created[-1] <= known, "a Pod was created before its run was written"

    @invariant()
    def pod_of_another_owner_is_not_deleted(self) -> None:
        assert not self.api.foreign_deleted, "the operator deleted a Pod of another owner"

    # Assertions at rest.

    def rest(self) -> None:
        """Lets operator and kubelet work until none of them waits, then asserts that status is
        complete."""
        self.api.failing.clear()
        self.api.unanswered.clear()
        self.api.dies_after = None
        self.process.sweep()
        self.settle()
        for _ in range(60):
            if not self.wait():
                break
            self.settle()
        if self.exists():
            self.nothing_is_written()
            self.status_is_complete()

    def name_is_taken(self) -> bool:
        """Returns whether a Pod of another owner exists."""
        return self.has_pod() and not is_ours(self.the_pod)

    def nothing_is_written(self) -> None:
        """Asserts that a pipeline at rest has no requeue, and that a reconcile writes nothing."""
        assert self.process.agenda.due is None, "a requeue is left at rest"
        self.process.reconcile()  # It may reset the back-off, which is a write.
        calls = len(self.api.calls)
        self.process.reconcile()
        self.cluster.clock.seconds += DAY
        self.process.work()
        writes = {call for call in self.api.calls[calls:] if not call.startswith("GET")}
        assert not writes, f"written at rest: {writes}"

    def status_is_complete(self) -> None:
        status, policies = self.status, self.pipeline.policies
        true = {c.type for c in status.conditions if c.status == "True"}
        run = status.run
        if policies.suspend:
            assert "Suspended" in true
            assert self.has_no_pod() or not is_ours(self.the_pod), "suspended, with a Pod"
            return
        assert "Suspended" not in true
        assert run is not None
        token = self.pipeline.rerun_token
        assert token is None or token in self.answered or status.last_rerun_token == token
        assert status.observed_generation == self.pipeline.generation
        waiting = run.initialized_time is None or run.completion_time is not None
        if waiting and "Ready" not in true:
            assert true & {"Reconciling", "Stalled"}, "neither Reconciling nor Stalled is True"
        if run.completion_time is not None:
            assert true & {"Ready", "Stalled"}, (
                f"ended as {run.result}, but neither Ready nor Stalled is True"
            )
        elif self.has_live_pod():
            self.pod_is_correct(status, true)
        else:
            assert self.name_is_taken() or self.has_pod(), "the run has no Pod"

    def pod_is_correct(self, status: InitPipelineStatus, true: set[str]) -> None:
        truth = self.kubelet.truth()
        assert "Stalled" not in true, "Stalled, but the Pod is running"
        assert ("Initialized" in true) is truth.initialized
        assert status.template_hash == self.pipeline.template_hash
        template_of_pod = self.the_pod["metadata"]["annotations"]["initpipeline.dev/template-hash"]
        assert template_of_pod == self.pipeline.template_hash, "the Pod has another template"
        token = status.run.token if status.run else None
        if token:
            later = len(self.api.runs_of_pods) > self.requested[token]
            assert later, f"the Pod was created before {token}, which its run answers"
        ready = any(
            c["type"] == "Ready" and c["status"] == "True"
            for c in self.the_pod["status"]["conditions"]
        )
        assert ("Ready" in true) is ready
        if (
            self.pipeline.policies.rerun_policy is RerunPolicy.ON_RESTART
            and not self.policy_changed
        ):
            assert not truth.app_restarted, "no run started after the restart of an app container"

    @property
    def pipeline(self) -> Pipeline:
        return self.api.pipeline

    @property
    def status(self) -> InitPipelineStatus:
        return self.pipeline.status


TestStories = Stories.TestCase
TestStories.settings = settings(
    max_examples=STORIES or 150,
    stateful_step_count=80 if STORIES else 50,
    derandomize=not STORIES,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
