"""One look at one pipeline: what is asked of the API, in which order, and what if it says no.

Each test gives an API server's state, lets the operator look, and tells the requests and the state
afterwards. What is decided is the core's business and tested there.
"""

import contextlib
from typing import Any

import pytest

from initpipeline.api.reasons import ConditionType, Reason, Result, Trigger
from initpipeline.core.facts import Pod
from initpipeline.runtime.errors import ConnectionFailed, api_error
from initpipeline.runtime.reconcile import MAX_DECISIONS_PER_RECONCILE
from tests.builders import Raw, completed_pod, fresh_pod, pipeline, running_pod
from tests.unit.runtime.clock import Clock
from tests.unit.runtime.fake_api import KEY, PIPELINES, PODS, Died, FakeApi, Operator

QUOTA = api_error(403, {"message": "pods is forbidden: exceeded quota: q, used: pods=3"})
INVALID = api_error(422, {"message": "Pod is invalid: spec.containers: Required value"})
NOT_IN_PLACE = api_error(
    422, {"message": 'restartPolicyRules[0].action: Unsupported value: "RestartAllContainers"'}
)
TERMINATING = api_error(
    403,
    {"message": "is being terminated", "details": {"causes": [{"reason": "NamespaceTerminating"}]}},
)
CONFLICT = api_error(409, {"reason": "Conflict", "message": "a webhook's own idea of a conflict"})

STATUS, CREATE, DELETE = "PATCH status", "POST pods", "DELETE pods"
GET_POD, GET_PIPELINE = "GET pods", "GET initpipelines"
DELETE_PIPELINE = "DELETE initpipelines"

KEPT = {"ttlSecondsAfterFinished": 100}


@pytest.fixture
def api(clock: Clock) -> FakeApi:
    """It has one pipeline, that nobody has looked at yet."""
    api = FakeApi(clock)
    api.put(PIPELINES, pipeline().raw())
    return api


@pytest.fixture
def operator(api: FakeApi, clock: Clock) -> Operator:
    return Operator(api, clock)


@pytest.fixture
async def running(api: FakeApi, operator: Operator) -> Operator:
    """The pipeline's first run is initialized, its app runs."""
    await operator.settle()
    play(api, running_pod())
    await operator.settle()
    api.calls.clear()
    return operator


def play(api: FakeApi, pod: Any) -> None:
    """The scheduler and the kubelet bring the Pod that is there to the state of that one."""
    raw = pod.raw()
    given = {"nodeName": "node-1", "restartPolicy": raw["spec"]["restartPolicy"]}
    api.edit(PODS, {"spec": {**api.objects[PODS, KEY]["spec"], **given}, "status": raw["status"]})


def unlabelled(raw: Raw) -> Raw:
    """The same Pod without our label."""
    return {**raw, "metadata": {**raw["metadata"], "labels": {}}}


def condition(api: FakeApi, type_: ConditionType = ConditionType.READY) -> tuple[str, str]:
    said = api.pipeline.status.condition(type_)
    assert said is not None, f"there is no condition {type_}"
    return said.status, said.reason


def history(api: FakeApi) -> list[tuple[int, str]]:
    """Number and result of the runs that ended, oldest first."""
    return [(r.number, r.result.value) for r in reversed(api.pipeline.status.history)]


def run(api: FakeApi) -> tuple[int, str]:
    current = api.pipeline.status.run
    assert current is not None, "there is no run"
    return current.number, current.trigger.value


class TestOrder:
    async def test_the_run_is_written_before_its_pod_is_created(self, operator: Operator) -> None:
        operator.watch()
        assert await operator.reconcile() == [STATUS, CREATE]

    async def test_the_end_of_a_run_is_written_before_its_pod_is_deleted(
        self, api: FakeApi, running: Operator
    ) -> None:
        api.put(PIPELINES, {**pipeline().edited().raw(), "status": api.pipeline.status.to_api()})
        running.watch()
        assert await running.reconcile() == [STATUS, DELETE]
        assert (run(api), history(api)) == ((2, "SpecChanged"), [(1, "Initialized")])

    async def test_the_next_pod_waits_for_the_end_of_the_old(
        self, api: FakeApi, running: Operator
    ) -> None:
        api.put(PIPELINES, {**pipeline().edited().raw(), "status": api.pipeline.status.to_api()})
        await running.settle()
        assert api.runs_of_pods == [1], "there were two Pods at a time"
        api.gone(PODS)
        await running.settle()
        assert api.runs_of_pods == [1, 2]


class TestNothingToDo:
    async def test_a_pipeline_at_rest_costs_no_request(self, running: Operator) -> None:
        running.watch()
        assert await running.reconcile() == []

    async def test_own_writes_that_come_back_cost_no_request(self, operator: Operator) -> None:
        operator.watch(PIPELINES)
        await operator.reconcile()
        operator.watch()
        assert await operator.reconcile() == []

    async def test_a_look_before_the_watch_tells_of_the_pod_costs_no_request(
        self, operator: Operator
    ) -> None:
        """The echo of the status may come before its answer, and ask for another look."""
        operator.watch(PIPELINES)
        await operator.reconcile()
        assert await operator.reconcile() == []

    async def test_a_look_before_the_watch_tells_of_the_deletion_costs_no_request(
        self, api: FakeApi, running: Operator
    ) -> None:
        api.put(PIPELINES, {**pipeline().edited().raw(), "status": api.pipeline.status.to_api()})
        running.watch(PIPELINES)
        await running.reconcile()
        assert await running.reconcile() == []

    async def test_a_pod_deleted_before_its_creation_was_answered_is_created_again(
        self, api: FakeApi, operator: Operator
    ) -> None:
        """And not taken for one that is there, until a sweep finds out."""

        def vanish() -> None:
            operator.watch()
            api.gone(PODS)
            operator.watch()

        operator.watch()
        api.after[CREATE] = vanish
        assert await operator.reconcile() == [STATUS, CREATE, CREATE]
        assert api.runs_of_pods == [1, 1]

    async def test_pods_of_a_run_that_are_deleted_at_once_are_created_ever_slower(
        self, api: FakeApi, operator: Operator, clock: Clock
    ) -> None:
        """As by a controller that deletes each, or a webhook that removes what the operator knows
        its Pods by."""
        for _ in range(600):
            operator.watch()
            await operator.reconcile()
            api.gone(PODS)
            await clock.advance(1)
        assert set(api.runs_of_pods) == {1}
        assert 5 < len(api.runs_of_pods) < 15, "ten minutes"

    async def test_a_pod_that_its_deletion_leaves_without_a_version_is_gone(
        self, api: FakeApi, running: Operator
    ) -> None:
        """The API server answers so if it removes the Pod at once."""
        api.edit(PODS, {"spec": {**api.objects[PODS, KEY]["spec"], "nodeName": None}})
        api.put(PIPELINES, {**pipeline().edited().raw(), "status": api.pipeline.status.to_api()})
        running.watch()
        await running.reconcile()
        assert condition(api)[1] != Reason.RECONCILE_ERROR

    async def test_an_unknown_pipeline_costs_no_request(self, operator: Operator) -> None:
        assert await operator.reconcile() == []

    async def test_a_pipeline_that_is_being_deleted_costs_no_request(
        self, api: FakeApi, operator: Operator
    ) -> None:
        api.put(PIPELINES, pipeline().deleting().raw())
        operator.watch()
        assert await operator.reconcile() == []

    async def test_nothing_is_created_anew_for_a_pipeline_that_is_being_deleted(
        self, api: FakeApi, running: Operator
    ) -> None:
        raw = pipeline().deleting().raw()
        api.put(PIPELINES, {**raw, "status": api.pipeline.status.to_api()})
        api.gone(PODS)
        running.watch()
        assert await running.reconcile() == []


class TestConflict:
    """Somebody else wrote the pipeline since it was read."""

    async def test_it_is_read_again_and_looked_at_anew(
        self, api: FakeApi, operator: Operator
    ) -> None:
        operator.watch()
        api.edit(PIPELINES, {})
        assert await operator.reconcile() == [STATUS, GET_PIPELINE]
        assert operator.again, "nobody will look again"
        assert await operator.reconcile() == [STATUS, CREATE]

    async def test_a_no_without_a_newer_version_is_not_asked_again_at_once(
        self, api: FakeApi, operator: Operator
    ) -> None:
        operator.watch()
        api.failing[STATUS] = [CONFLICT, CONFLICT]
        await operator.reconcile()
        assert (operator.again, operator.delay) == (False, 0.25)
        await operator.reconcile()
        assert operator.queue.retry(KEY) == 1, "delays do not grow"

    async def test_a_pipeline_deleted_meanwhile_is_left_to_the_watch(
        self, api: FakeApi, operator: Operator
    ) -> None:
        operator.watch()
        api.failing[STATUS] = [CONFLICT]
        api.before[GET_PIPELINE] = lambda: api.gone(PIPELINES)
        assert await operator.reconcile() == [STATUS, GET_PIPELINE]
        assert (operator.again, operator.delay) == (False, None)


class TestGone:
    async def test_a_pipeline_deleted_before_the_write_is_forgotten(
        self, api: FakeApi, operator: Operator
    ) -> None:
        operator.watch()
        api.gone(PIPELINES)
        assert await operator.reconcile() == [STATUS]
        assert operator.cache.pipelines.get(KEY) is None

    async def test_with_its_pipeline_its_failures_are_forgotten(self, clock: Clock) -> None:
        """Or memory grows with all pipelines that ever were."""
        operator = Operator(FakeApi(clock), clock)
        operator.queue.retry(KEY)
        await operator.reconcile()
        assert operator.queue.retry(KEY) == 0.25

    async def test_a_pod_that_is_gone_for_good_ends_its_run(
        self, api: FakeApi, running: Operator
    ) -> None:
        api.gone(PODS)
        running.watch()
        assert await running.reconcile() == [GET_POD, STATUS, CREATE]
        assert (run(api), history(api)) == ((2, "PodLost"), [(1, "Lost")])

    async def test_what_the_watch_told_of_it_when_it_went_is_its_end(
        self, api: FakeApi, running: Operator
    ) -> None:
        known = api.objects[PODS, KEY]
        spec = {**known["spec"], "restartPolicy": "Never"}
        last = Pod.from_api({**known, "spec": spec, "status": {"phase": "Succeeded"}})
        api.gone(PODS)
        running.cache.pods.remove(KEY, last.uid, last)
        assert await running.reconcile() == [GET_POD, STATUS]
        assert history(api) == [(1, "Succeeded")]

    async def test_a_pipeline_that_goes_takes_the_last_of_its_pod_along(
        self, api: FakeApi, running: Operator
    ) -> None:
        last = Pod.from_api(api.objects[PODS, KEY])
        running.cache.pods.remove(KEY, last.uid, last)
        running.cache.pipelines.remove(KEY, api.pipeline.uid)
        await running.reconcile()
        assert running.cache.pods.gone(KEY) is None

    @pytest.mark.usefixtures("running")
    async def test_a_pod_that_is_only_unknown_ends_nothing(
        self, api: FakeApi, clock: Clock
    ) -> None:
        """A fresh start whose watch of Pods is late."""
        late = Operator(api, clock)
        late.watch(PIPELINES)
        assert await late.reconcile() == [GET_POD]
        assert (run(api), late.delay) == ((1, "Created"), None)

    async def test_a_namespace_that_ends_is_no_refusal(
        self, api: FakeApi, operator: Operator
    ) -> None:
        api.failing[CREATE] = [api_error(404, {"message": "namespaces not found"})]
        operator.watch()
        assert await operator.reconcile() == [STATUS, CREATE]
        assert (operator.again, operator.delay) == (False, None)

    async def test_a_pod_deleted_by_somebody_else_is_not_deleted_again(
        self, api: FakeApi, running: Operator
    ) -> None:
        api.put(PIPELINES, {**pipeline().edited().raw(), "status": api.pipeline.status.to_api()})
        running.watch()
        api.before[DELETE] = lambda: api.gone(PODS)
        assert await running.reconcile() == [STATUS, DELETE, GET_POD, CREATE]
        assert api.runs_of_pods == [1, 2]


class TestNameTaken:
    """A Pod of the pipeline's name is there although the watch has not told."""

    async def test_ours_of_this_run_is_adopted(
        self, api: FakeApi, operator: Operator, clock: Clock
    ) -> None:
        operator.watch()
        await operator.reconcile()
        late = Operator(api, clock)
        late.watch(PIPELINES)
        assert await late.reconcile() == [CREATE, GET_POD]
        assert (api.runs_of_pods, run(api)) == ([1], (1, "Created"))

    async def test_ours_of_an_older_run_is_deleted(
        self, api: FakeApi, running: Operator, clock: Clock
    ) -> None:
        api.put(PIPELINES, {**pipeline().edited().raw(), "status": api.pipeline.status.to_api()})
        api.failing[DELETE] = [ConnectionFailed("down")]
        running.watch()
        with pytest.raises(ConnectionFailed):
            await running.reconcile()
        late = Operator(api, clock)
        late.watch(PIPELINES)
        assert await late.reconcile() == [CREATE, GET_POD, DELETE]
        assert condition(api) == ("False", Reason.POD_TERMINATING)

    async def test_somebody_elses_is_left_alone(self, api: FakeApi, operator: Operator) -> None:
        api.put(PODS, running_pod().owned_by("somebody").raw())
        operator.watch(PIPELINES)
        assert await operator.reconcile() == [STATUS, CREATE, GET_POD, STATUS]
        assert condition(api) == ("False", Reason.NAME_CONFLICT)
        assert KEY not in operator.unlabelled_pods, "the watch shows it"
        assert operator.delay == 600, "when it is Stalled"

    async def test_foreign_pod_without_the_label_is_watched(
        self, api: FakeApi, operator: Operator, clock: Clock
    ) -> None:
        api.put(PODS, unlabelled(running_pod().owned_by("somebody").raw()))
        operator.watch()
        assert await operator.reconcile() == [STATUS, CREATE, GET_POD, GET_POD, STATUS]
        assert condition(api) == ("False", Reason.NAME_CONFLICT)
        assert KEY in operator.unlabelled_pods
        await clock.advance(3600)
        await operator.reconcile()
        assert await operator.reconcile() == [GET_POD], "no write while it is there"
        api.gone(PODS)
        assert await operator.reconcile() == [GET_POD, CREATE, STATUS]
        assert KEY not in operator.unlabelled_pods
        assert (api.runs_of_pods, run(api)) == ([1], (1, "Created"))

    async def test_foreign_pod_that_goes_before_it_is_watched_is_replaced(
        self, api: FakeApi, operator: Operator
    ) -> None:
        api.put(PODS, unlabelled(running_pod().owned_by("somebody").raw()))
        operator.watch()
        api.after[GET_POD] = lambda: api.gone(PODS)
        assert await operator.reconcile() == [STATUS, CREATE, GET_POD, GET_POD, CREATE]
        assert KEY not in operator.unlabelled_pods

    async def test_foreign_pod_of_a_deleted_pipeline_is_no_longer_watched(
        self, api: FakeApi, operator: Operator
    ) -> None:
        api.put(PODS, unlabelled(running_pod().owned_by("somebody").raw()))
        operator.watch()
        await operator.reconcile()
        api.gone(PIPELINES)
        operator.watch()
        assert await operator.reconcile() == []
        assert KEY not in operator.unlabelled_pods

    async def test_one_that_comes_and_goes_does_not_keep_a_worker(
        self, api: FakeApi, operator: Operator
    ) -> None:
        exists = api_error(409, {"reason": "AlreadyExists", "message": "already exists"})
        api.failing[CREATE] = [exists] * 99
        operator.watch()
        assert (await operator.reconcile()).count(CREATE) == MAX_DECISIONS_PER_RECONCILE
        assert operator.delay == 0.25


class TestLabel:
    """A Pod of ours without our label, which the watch does not show."""

    async def test_pod_that_loses_the_label_is_mirrored(
        self, api: FakeApi, running: Operator
    ) -> None:
        api.put(PODS, unlabelled(api.objects[PODS, KEY]))
        running.watch()
        assert await running.reconcile() == [GET_POD, GET_POD]
        assert KEY in running.unlabelled_pods
        play(api, running_pod().ready(False))
        assert await running.reconcile() == [GET_POD, STATUS]
        assert condition(api) == ("False", Reason.CONTAINERS_NOT_READY)
        api.gone(PODS)
        assert await running.reconcile() == [GET_POD, STATUS, CREATE]
        assert (run(api), history(api)) == ((2, "PodLost"), [(1, "Lost")])
        assert KEY not in running.unlabelled_pods

    @pytest.mark.usefixtures("running")
    async def test_ended_pod_without_the_label_is_deleted_by_a_suspension_after_a_restart(
        self, api: FakeApi, running: Operator, clock: Clock
    ) -> None:
        play(api, completed_pod())
        await running.settle()
        api.put(PODS, unlabelled(api.objects[PODS, KEY]))
        suspended = pipeline().policy(suspend=True).raw()
        api.put(PIPELINES, {**suspended, "status": api.pipeline.status.to_api()})
        late = Operator(api, clock)
        late.watch()
        assert await late.reconcile() == [GET_POD, GET_POD, STATUS, DELETE]
        again = Operator(api, clock)
        again.watch()
        assert await again.reconcile() == [GET_POD, GET_POD], "until it is gone"
        assert KEY in again.unlabelled_pods

    async def test_pod_that_gets_the_label_back_is_left_to_the_watch(
        self, api: FakeApi, running: Operator
    ) -> None:
        raw = api.objects[PODS, KEY]
        api.put(PODS, unlabelled(raw))
        running.watch()
        await running.reconcile()
        api.put(PODS, raw)
        running.watch()
        assert await running.reconcile() == []
        assert KEY not in running.unlabelled_pods

    async def test_pod_that_loses_the_label_has_not_ended(
        self, api: FakeApi, running: Operator
    ) -> None:
        api.put(PODS, unlabelled(api.objects[PODS, KEY]))
        last = Pod.from_api(api.objects[PODS, KEY])
        running.cache.pods.remove(KEY, last.uid, last)
        await running.reconcile()
        assert running.cache.pods.gone(KEY) is None

    async def test_pod_that_a_webhook_creates_without_the_label_is_mirrored(
        self, api: FakeApi, operator: Operator
    ) -> None:
        operator.watch()
        api.strips_labels = True
        assert await operator.reconcile() == [STATUS, CREATE, GET_POD, GET_POD]
        assert KEY in operator.unlabelled_pods
        play(api, running_pod())
        assert await operator.reconcile() == [GET_POD, STATUS]
        assert condition(api) == ("True", Reason.POD_READY)


class TestRefusal:
    async def test_its_words_are_written_once(self, api: FakeApi, operator: Operator) -> None:
        api.failing[CREATE] = [QUOTA] * 9
        operator.watch()
        assert await operator.reconcile() == [STATUS, CREATE, STATUS]
        assert condition(api) == ("False", Reason.QUOTA_EXCEEDED)
        assert await operator.reconcile() == [CREATE], "the status was written again"

    async def test_is_tried_again_after_growing_delays(
        self, api: FakeApi, operator: Operator, clock: Clock
    ) -> None:
        api.failing[CREATE] = [QUOTA] * 99
        operator.watch()
        delays = []
        for _ in range(13):
            await operator.reconcile()
            assert operator.delay is not None
            delays.append(operator.delay)
            await clock.advance(operator.delay)
        assert [round(delay, 2) for delay in delays[:4]] == [0.25, 0.5, 1, 2]
        assert round(delays[-1]) == 300

    async def test_refused_pod_is_logged_with_the_api_servers_message_in_one_bounded_line(
        self, api: FakeApi, operator: Operator, caplog: pytest.LogCaptureFixture
    ) -> None:
        message = 'admission webhook "x" denied the request:\n\x1b[31mno\x1b[0m ' + "y" * 9000
        api.failing[CREATE] = [api_error(403, {"reason": "Forbidden", "message": message})]
        operator.watch()
        await operator.reconcile()
        [record] = [record for record in caplog.records if record.getMessage() == "Pod refused"]
        logged = vars(record)["error"]
        assert logged.startswith('admission webhook "x" denied the request: no yyy')
        assert (len(logged), logged[-4:]) == (500, " ...")
        assert vars(record)["reason"] == "PodForbidden"

    async def test_that_ends_is_forgotten(self, api: FakeApi, operator: Operator) -> None:
        api.failing[CREATE] = [QUOTA] * 5
        operator.watch()
        for _ in range(6):
            await operator.reconcile()
        assert api.pod is not None
        assert operator.queue.retry(KEY) == 0.25, "the next refusal waits as if this one went on"

    async def test_of_an_invalid_pod_is_retried_until_it_is_accepted(
        self, api: FakeApi, operator: Operator, clock: Clock
    ) -> None:
        api.failing[CREATE] = [INVALID] * 13
        operator.watch()
        assert await operator.reconcile() == [STATUS, CREATE, STATUS]
        assert condition(api, ConditionType.STALLED) == ("True", Reason.INVALID_TEMPLATE)
        for _ in range(12):
            assert operator.delay is not None
            await clock.advance(operator.delay)
            assert await operator.reconcile() == [CREATE], "a retry is no write"
        await clock.advance(300)
        assert await operator.reconcile() == [CREATE, STATUS]
        assert api.pipeline.status.condition(ConditionType.STALLED) is None
        assert (run(api), history(api)) == ((1, "Created"), [])

    @pytest.mark.parametrize("change", ["spec", "token"])
    async def test_another_attempt_begins_with_the_shortest_delay(
        self, api: FakeApi, operator: Operator, change: str
    ) -> None:
        api.failing[CREATE] = [INVALID] * 99
        operator.watch()
        for _ in range(9):
            await operator.reconcile()
        assert operator.delay == 64
        if change == "token":
            ask(api)
        else:
            changed = pipeline().policy(backoffLimit=3).of_generation(2).raw()
            api.put(PIPELINES, {**changed, "status": api.pipeline.status.to_api()})
        operator.watch(PIPELINES)
        assert await operator.reconcile() == [STATUS, CREATE, STATUS]
        assert operator.delay == 0.25

    async def test_by_our_own_validation_is_not_retried(
        self, api: FakeApi, operator: Operator
    ) -> None:
        api.put(PIPELINES, pipeline().policy(initPolicies=[{"name": "typo"}]).raw())
        operator.watch()
        assert await operator.reconcile() == [STATUS]
        assert condition(api, ConditionType.STALLED) == ("True", Reason.INVALID_TEMPLATE)
        assert (await operator.reconcile(), operator.delay, operator.again) == ([], None, False)

    async def test_of_a_namespace_that_ends_is_not_tried_again(
        self, api: FakeApi, operator: Operator
    ) -> None:
        api.failing[CREATE] = [TERMINATING]
        operator.watch()
        assert await operator.reconcile() == [STATUS, CREATE]
        assert (operator.delay, operator.again) == (None, False)


class TestTimeToLive:
    """A pipeline that has ended and whose ttlSecondsAfterFinished is over."""

    @pytest.fixture
    async def finished(self, api: FakeApi, running: Operator) -> Operator:
        api.edit(PIPELINES, {"spec": {**api.objects[PIPELINES, KEY]["spec"], **KEPT}})
        play(api, completed_pod())
        await running.settle()
        api.calls.clear()
        return running

    async def test_is_waited_for_without_a_request(self, finished: Operator) -> None:
        assert await finished.reconcile() == []

    async def test_the_pipeline_is_deleted(
        self, api: FakeApi, finished: Operator, clock: Clock
    ) -> None:
        await clock.advance(KEPT["ttlSecondsAfterFinished"])
        assert await finished.reconcile() == [DELETE_PIPELINE]
        assert (PIPELINES, KEY) not in api.objects

    async def test_a_change_that_nobody_has_seen_yet_keeps_it(
        self, api: FakeApi, finished: Operator, clock: Clock
    ) -> None:
        await clock.advance(KEPT["ttlSecondsAfterFinished"])
        ask(api)
        assert await finished.reconcile() == [DELETE_PIPELINE, GET_PIPELINE]
        assert await finished.reconcile() == [STATUS, DELETE]
        assert run(api) == (2, "Requested")

    async def test_a_pipeline_that_is_gone_is_forgotten(
        self, api: FakeApi, finished: Operator, clock: Clock
    ) -> None:
        await clock.advance(KEPT["ttlSecondsAfterFinished"])
        api.gone(PIPELINES)
        assert await finished.reconcile() == [DELETE_PIPELINE]
        assert finished.cache.pipelines.get(KEY) is None


class TestNotInPlace:
    """An API server that does not take our rules to restart in place gets a Pod without them."""

    @pytest.fixture
    def in_place(self, api: FakeApi) -> None:
        api.put(PIPELINES, pipeline().policy(rerunStrategy="InPlace").raw())

    @pytest.mark.usefixtures("in_place")
    async def test_in_the_same_look(self, api: FakeApi, operator: Operator) -> None:
        api.failing[CREATE] = [NOT_IN_PLACE]
        operator.watch()
        assert await operator.reconcile() == [STATUS, CREATE, STATUS, CREATE]
        assert condition(api, ConditionType.RERUN_IN_PLACE) == (
            "False",
            Reason.IN_PLACE_UNSUPPORTED,
        )
        assert api.pod is not None
        assert not api.pod.restarts_in_place

    @pytest.mark.usefixtures("in_place")
    async def test_is_asked_once_a_run(self, api: FakeApi, operator: Operator) -> None:
        api.failing[CREATE] = [NOT_IN_PLACE, QUOTA]
        operator.watch()
        await operator.reconcile()
        operator.watch()
        assert await operator.reconcile() == [CREATE, STATUS], "the refusal is over"
        assert (api.runs_of_pods, run(api)) == ([1], (1, "Created"))

    @pytest.mark.usefixtures("in_place")
    async def test_is_at_rest_then(self, api: FakeApi, operator: Operator) -> None:
        api.failing[CREATE] = [NOT_IN_PLACE]
        await operator.settle()
        play(api, running_pod())
        await operator.settle()
        operator.watch()
        assert await operator.reconcile() == []


class TestFailure:
    """What is no answer, or no answer about this pipeline, is left to the caller, who looks again:
    and then nothing is lost and nothing is done twice."""

    @pytest.mark.parametrize(
        "error",
        [
            pytest.param(ConnectionFailed("timed out"), id="timeout"),
            pytest.param(api_error(429, {"message": "too many requests"}), id="429"),
            pytest.param(api_error(500, {"message": "etcd is away"}), id="500"),
            pytest.param(api_error(401, {"message": "Unauthorized"}), id="401"),
        ],
    )
    @pytest.mark.parametrize("request_", [STATUS, CREATE])
    async def test_of_a_request(
        self, api: FakeApi, operator: Operator, request_: str, error: Exception
    ) -> None:
        api.failing[request_] = [error]
        operator.watch()
        with pytest.raises(type(error)):
            await operator.reconcile()
        await operator.settle()
        assert (api.runs_of_pods, run(api)) == ([1], (1, "Created"))

    @pytest.mark.parametrize("request_", [STATUS, CREATE, DELETE])
    async def test_an_answer_that_is_lost(
        self, api: FakeApi, running: Operator, request_: str
    ) -> None:
        """It was done, and nobody knows."""
        api.put(PIPELINES, {**pipeline().edited().raw(), "status": api.pipeline.status.to_api()})
        api.unanswered.add(request_)
        running.watch(PIPELINES)
        for _ in range(9):
            with contextlib.suppress(ConnectionFailed):
                await running.reconcile()
            if api.pod is not None and api.pod.deleting:
                api.gone(PODS)
            running.watch(PODS)
        assert not api.unanswered, "that was never asked"
        assert (run(api), history(api)) == ((2, "SpecChanged"), [(1, "Initialized")])
        assert api.runs_of_pods == [1, 2]


def create(_: FakeApi) -> None:
    """There is a new pipeline."""


def lose(api: FakeApi) -> None:
    """The first run's Pod is deleted, and gone."""
    api.gone(PODS)


def edit(api: FakeApi) -> None:
    """The template is changed while the first run's Pod is there."""
    api.put(PIPELINES, {**pipeline().edited().raw(), "status": api.pipeline.status.to_api()})


def ask(api: FakeApi) -> None:
    """A re-run is asked for by a token."""
    raw = pipeline().token("now").raw()
    api.put(PIPELINES, {**raw, "status": api.pipeline.status.to_api()})


def restart(api: FakeApi) -> None:
    """The app container restarts."""
    play(api, running_pod().app(running=True, restarts=1))


def fail(api: FakeApi) -> None:
    """An init container fails for good, and one retry is allowed."""
    spec = {**api.objects[PIPELINES, KEY]["spec"], "backoffLimit": 1}
    api.edit(PIPELINES, {"spec": spec})
    play(api, fresh_pod().restarts("Never").init("one", exit=1).phase("Failed"))


class TestDying:
    """The process dies after each of its requests, and what starts next knows only the API: the end
    is the same, with one Pod and one run for each cause."""

    @staticmethod
    async def live(api: FakeApi, clock: Clock, happens: Any, dies_after: int | None) -> bool:
        """Whether it died."""
        if happens is not create:
            operator = Operator(api, clock)
            await operator.settle()
            play(api, running_pod())
            await operator.settle()
        happens(api)
        api.calls.clear()
        api.dies_after = dies_after
        died = False
        try:
            await TestDying.until_rest(api, clock)
        except Died:
            died = True
            api.dies_after = None
            await TestDying.until_rest(api, clock)
        return died

    @staticmethod
    async def until_rest(api: FakeApi, clock: Clock) -> None:
        """A new process, and a kubelet that ends Pods that are to end."""
        operator = Operator(api, clock)
        await operator.settle()
        while api.pod is not None and api.pod.deleting:
            api.gone(PODS)
            await operator.settle()

    @pytest.mark.parametrize(
        ("happens", "end", "past", "pods"),
        [
            pytest.param(create, (1, Trigger.CREATED), [], [1], id="creation"),
            pytest.param(lose, (2, Trigger.POD_LOST), [(1, Result.LOST)], [1, 2], id="lost Pod"),
            pytest.param(
                edit,
                (2, Trigger.SPEC_CHANGED),
                [(1, Result.INITIALIZED)],
                [1, 2],
                id="new template",
            ),
            pytest.param(
                ask, (2, Trigger.REQUESTED), [(1, Result.INITIALIZED)], [1, 2], id="request"
            ),
            pytest.param(
                restart,
                (2, Trigger.CONTAINER_RESTARTED),
                [(1, Result.INITIALIZED)],
                [1, 2],
                id="restarted container",
            ),
            pytest.param(fail, (2, Trigger.RETRY), [(1, Result.FAILED)], [1, 2], id="failed run"),
        ],
    )
    async def test_between_any_two_requests(
        self, clock: Clock, happens: Any, end: Any, past: Any, pods: list[int]
    ) -> None:
        died, requests = True, 0
        while died:
            requests += 1
            api = FakeApi(clock)
            api.put(PIPELINES, pipeline().raw())
            died = await self.live(api, clock, happens, dies_after=requests)
            where = f"died after {requests} of {api.calls}"
            assert (run(api), history(api)) == (end, past), where
            assert api.runs_of_pods == pods, f"Pods lost or doubled: {where}"
            assert api.pod is not None, where
            assert api.pod.run == end[0], where
        assert requests > 2, "nothing was tried"


class TestOtherPods:
    async def test_a_terminating_pod_is_waited_for(self, api: FakeApi, operator: Operator) -> None:
        api.put(PODS, fresh_pod().owned_by("its former owner").deleting().raw())
        operator.watch()
        assert await operator.reconcile() == [STATUS]
        assert condition(api) == ("False", Reason.POD_TERMINATING)
        api.gone(PODS)
        operator.watch()
        assert await operator.reconcile() == [CREATE]
