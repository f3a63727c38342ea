"""The reconcile of a pipeline: its requests, their order, and what follows if one is refused.

Each test sets the state of a fake API server, reconciles, and checks the requests and the new
state. The decisions themselves are tested in tests/unit/core.
"""

import asyncio
import contextlib
from typing import Any

import pytest

from initpipeline.api.names import RUN_GATE
from initpipeline.api.raw import Raw
from initpipeline.api.reasons import ConditionType, Reason, Result, Trigger
from initpipeline.core.facts import Pipeline
from initpipeline.core.pod import Pod
from initpipeline.runtime.errors import (
    ApiError,
    ConnectionFailed,
    HistoryLost,
    LeaseExpiring,
    api_error,
)
from initpipeline.runtime.keys import Key
from initpipeline.runtime.reconcile import MAX_DECISIONS_PER_RECONCILE, ONE_AT_A_TIME
from tests.builders import completed_pod, fresh_pod, pipeline, running_pod
from tests.unit.runtime.clock import Clock
from tests.unit.runtime.fake_api import KEY, PIPELINES, PODS, Died, FakeApi, Operator
from tests.unit.runtime.stub_client import Request

QUOTA = api_error(403, {"message": "pods is forbidden: exceeded quota: q, used: pods=3"})
DENIED = api_error(
    403, {"message": 'pods is forbidden: User "me" cannot create resource "pods" in API group ""'}
)
INVALID = api_error(422, {"message": "Pod is invalid: spec.containers: Required value"})
NOT_IN_PLACE = api_error(
    422, {"message": 'restartPolicyRules[0].action: Unsupported value: "RestartAllContainers"'}
)
TERMINATING = api_error(
    403,
    {"message": "is being terminated", "details": {"causes": [{"reason": "NamespaceTerminating"}]}},
)
CONFLICT = api_error(
    409, {"reason": "Conflict", "message": 'admission webhook "w" denied the request: in use'}
)
NOT_FOUND = api_error(
    404, {"reason": "NotFound", "message": 'admission webhook "w" denied the request: no rules'}
)

STATUS, CREATE, DELETE = "PATCH status", "POST pods", "DELETE pods"
UNGATE = "PATCH pods"
GET_POD, GET_PIPELINE = "GET pods", "GET initpipelines"
DELETE_PIPELINE = "DELETE initpipelines"

KEPT = {"ttlSecondsAfterFinished": 100}


@pytest.fixture
def api(clock: Clock) -> FakeApi:
    """Returns an API server with one pipeline that was not reconciled yet."""
    api = FakeApi(clock)
    api.put(PIPELINES, pipeline().raw())
    return api


@pytest.fixture
def operator(api: FakeApi, clock: Clock) -> Operator:
    return Operator(api, clock)


@pytest.fixture
async def running(api: FakeApi, operator: Operator) -> Operator:
    """Returns an operator whose pipeline is in its first run, initialized, with a running app."""
    await operator.settle()
    play(api, running_pod())
    await operator.settle()
    api.calls.clear()
    return operator


@pytest.fixture
async def reported(api: FakeApi, operator: Operator) -> Operator:
    """Returns an operator whose next reconcile writes the first status: the kubelet has reported on
    the first Pod."""
    await operator.settle()
    play(api, fresh_pod())
    operator.watch()
    api.calls.clear()
    return operator


def play(api: FakeApi, pod: Any) -> None:
    """Set the status of the existing Pod to that of this one, as scheduler and kubelet would."""
    raw = pod.raw()
    given = {"nodeName": "node-1", "restartPolicy": raw["spec"]["restartPolicy"]}
    api.edit(PODS, {"spec": {**api.objects[PODS, KEY]["spec"], **given}, "status": raw["status"]})


def unlabelled(raw: Raw) -> Raw:
    """Returns the Pod without the operator's label."""
    return {**raw, "metadata": {**raw["metadata"], "labels": {}}}


def condition(api: FakeApi, type_: ConditionType = ConditionType.READY) -> tuple[str, str]:
    found = api.pipeline.status.condition(type_)
    assert found is not None, f"there is no condition {type_}"
    return found.status, found.reason


def history(api: FakeApi) -> list[tuple[int, str]]:
    """Returns number and result of the ended runs, oldest first."""
    return [(r.number, r.result.value) for r in reversed(api.pipeline.status.history)]


def run(api: FakeApi) -> tuple[int, str]:
    current = api.pipeline.status.run
    assert current is not None, "there is no run"
    return current.number, current.trigger.value


class TestOrder:
    async def test_first_pod_is_created_before_the_first_status_write(
        self, api: FakeApi, operator: Operator
    ) -> None:
        operator.watch()
        assert await operator.reconcile() == [CREATE]
        assert operator.delay == 3, "the deadline of the first report"
        operator.watch()
        assert await operator.reconcile() == []
        play(api, fresh_pod())
        operator.watch()
        assert await operator.reconcile() == [STATUS]
        assert run(api) == (1, "Created")

    async def test_first_status_is_written_at_the_deadline_if_the_pod_is_not_reported(
        self, api: FakeApi, operator: Operator, clock: Clock
    ) -> None:
        await operator.settle()
        await clock.advance(3)
        assert await operator.reconcile() == [STATUS]
        assert (run(api), condition(api)) == ((1, "Created"), ("False", Reason.POD_PENDING))

    async def test_later_run_is_written_before_its_pod_is_created(
        self, api: FakeApi, running: Operator
    ) -> None:
        api.gone(PODS)
        running.watch()
        assert await running.reconcile() == [GET_POD, STATUS, CREATE]

    async def test_end_of_run_is_written_before_its_pod_is_deleted(
        self, api: FakeApi, running: Operator
    ) -> None:
        api.put(PIPELINES, {**pipeline().edited().raw(), "status": api.pipeline.status.to_api()})
        running.watch()
        assert await running.reconcile() == [STATUS, DELETE]
        assert (run(api), history(api)) == ((2, "SpecChanged"), [(1, "Initialized")])

    async def test_next_pod_is_created_after_the_old_one_is_gone(
        self, api: FakeApi, running: Operator
    ) -> None:
        api.put(PIPELINES, {**pipeline().edited().raw(), "status": api.pipeline.status.to_api()})
        await running.settle()
        assert api.runs_of_pods == [1], "there were two Pods at a time"
        api.gone(PODS)
        await running.settle()
        assert api.runs_of_pods == [1, 2]


class TestNothingToDo:
    async def test_reconcile_without_change_makes_no_request(self, running: Operator) -> None:
        running.watch()
        assert await running.reconcile() == []

    async def test_watch_events_of_own_writes_cause_no_request(self, operator: Operator) -> None:
        operator.watch(PIPELINES)
        await operator.reconcile()
        operator.watch()
        assert await operator.reconcile() == []

    async def test_reconcile_before_the_watch_reports_the_pod_makes_no_request(
        self, operator: Operator
    ) -> None:
        """The watch event of the status write may arrive before its response, and requeue the
        pipeline."""
        operator.watch(PIPELINES)
        await operator.reconcile()
        assert await operator.reconcile() == []

    async def test_reconcile_before_the_watch_reports_the_deletion_makes_no_request(
        self, api: FakeApi, running: Operator
    ) -> None:
        api.put(PIPELINES, {**pipeline().edited().raw(), "status": api.pipeline.status.to_api()})
        running.watch(PIPELINES)
        await running.reconcile()
        assert await running.reconcile() == []

    async def test_pod_deleted_before_the_response_to_its_creation_is_created_again(
        self, api: FakeApi, operator: Operator
    ) -> None:
        """Otherwise the cache would keep it until the next sweep."""

        def vanish() -> None:
            operator.watch()
            api.gone(PODS)
            operator.watch()

        operator.watch()
        api.after[CREATE] = vanish
        assert await operator.reconcile() == [CREATE, STATUS, CREATE], "the user sees no status"
        assert (api.runs_of_pods, run(api)) == ([1, 1], (1, "Created"))

    async def test_pods_deleted_at_once_are_created_with_growing_delays(
        self, api: FakeApi, operator: Operator, clock: Clock
    ) -> None:
        """A controller may delete each Pod, or a webhook may remove the operator's annotations."""
        for _ in range(600):
            operator.watch()
            await operator.reconcile()
            api.gone(PODS)
            await clock.advance(1)
        assert set(api.runs_of_pods) == {1}
        assert 5 < len(api.runs_of_pods) < 15, "ten minutes"

    async def test_deleted_pod_without_resource_version_counts_as_gone(
        self, api: FakeApi, running: Operator
    ) -> None:
        """The API server returns such a Pod if it deletes it at once."""
        api.edit(PODS, {"spec": {**api.objects[PODS, KEY]["spec"], "nodeName": None}})
        api.put(PIPELINES, {**pipeline().edited().raw(), "status": api.pipeline.status.to_api()})
        running.watch()
        await running.reconcile()
        assert condition(api)[1] != Reason.RECONCILE_ERROR

    async def test_unknown_pipeline_makes_no_request(self, operator: Operator) -> None:
        assert await operator.reconcile() == []

    async def test_new_pipeline_being_deleted_makes_no_request(
        self, api: FakeApi, operator: Operator
    ) -> None:
        api.put(PIPELINES, pipeline().deleting().raw())
        operator.watch()
        assert await operator.reconcile() == []

    async def test_lost_pod_of_pipeline_being_deleted_is_not_created_again(
        self, api: FakeApi, running: Operator
    ) -> None:
        raw = pipeline().deleting().raw()
        api.put(PIPELINES, {**raw, "status": api.pipeline.status.to_api()})
        api.gone(PODS)
        running.watch()
        assert await running.reconcile() == []


class TestConflict:
    """Another client has written the pipeline since it was read."""

    async def test_conflict_reads_the_pipeline_and_requeues_it(
        self, api: FakeApi, reported: Operator
    ) -> None:
        api.edit(PIPELINES, {})
        assert await reported.reconcile() == [STATUS, GET_PIPELINE]
        assert reported.requeued, "the pipeline was not requeued"
        assert await reported.reconcile() == [STATUS]

    @pytest.mark.parametrize("error", [CONFLICT, NOT_FOUND])
    async def test_code_that_a_webhook_chose_is_an_error(
        self, api: FakeApi, reported: Operator, error: ApiError
    ) -> None:
        """The pipeline has not changed, and exists. The caller retries with delays."""
        api.failing[STATUS] = [error]
        with pytest.raises(type(error)):
            await reported.reconcile()
        assert not reported.requeued
        assert await reported.reconcile() == [STATUS]

    async def test_pipeline_created_again_before_the_write_is_requeued(
        self, api: FakeApi, reported: Operator
    ) -> None:
        raw = pipeline().raw()
        api.put(PIPELINES, {**raw, "metadata": {**raw["metadata"], "uid": "another"}})
        assert await reported.reconcile() == [STATUS, GET_PIPELINE]
        assert reported.requeued

    async def test_conflict_with_an_older_version_ends_the_operator(
        self, api: FakeApi, reported: Operator
    ) -> None:
        """As after a restore of etcd. The next versions would be older than the cached one too."""
        api.failing[STATUS] = [CONFLICT]

        def restore() -> None:
            raw = api.objects[PIPELINES, KEY]
            metadata = {**raw["metadata"], "resourceVersion": "0"}
            api.objects[PIPELINES, KEY] = {**raw, "metadata": metadata}

        api.before[GET_PIPELINE] = restore
        with pytest.raises(HistoryLost, match=r"went back from .* to 0"):
            await reported.reconcile()

    async def test_conflict_with_deletion_is_not_retried(
        self, api: FakeApi, reported: Operator
    ) -> None:
        api.failing[STATUS] = [CONFLICT]
        api.before[GET_PIPELINE] = lambda: api.gone(PIPELINES)
        assert await reported.reconcile() == [STATUS, GET_PIPELINE]
        assert (reported.requeued, reported.delay) == (False, None)


class TestStatusRefused:
    """The API server rejects the status of the pipeline."""

    @pytest.mark.parametrize("code", [400, 401, 404, 409, 410, 422, 429, 500, 503])
    @pytest.mark.parametrize(
        "message",
        [
            pytest.param('admission webhook "w" denied the request: no', id="denied"),
            pytest.param('failed calling webhook "w": timed out', id="failed"),
            pytest.param("is forbidden: ValidatingAdmissionPolicy 'p' denied it", id="policy"),
        ],
    )
    async def test_refusal_by_admission_is_reported_in_an_event(
        self, api: FakeApi, reported: Operator, clock: Clock, code: int, message: str
    ) -> None:
        api.failing[STATUS] = [api_error(code, {"message": message})]
        with pytest.raises(ApiError):
            await reported.reconcile()
        posting = asyncio.create_task(reported.events.run())
        await clock.advance()
        posting.cancel()
        [note] = [raw["note"] for raw in api.posted_events if raw["reason"] == "StatusNotWritten"]
        assert note.endswith(f"for this InitPipeline: {code}: {message}")


class TestGone:
    async def test_pipeline_deleted_before_the_write_is_removed_from_the_cache(
        self, api: FakeApi, reported: Operator
    ) -> None:
        api.gone(PIPELINES)
        assert await reported.reconcile() == [STATUS, GET_PIPELINE]
        assert reported.cache.pipelines.get(KEY) is None

    async def test_deleted_pipeline_resets_its_back_off(self, clock: Clock) -> None:
        """Otherwise memory would grow with each pipeline that ever existed."""
        operator = Operator(FakeApi(clock), clock)
        operator.queue.retry(KEY)
        await operator.reconcile()
        assert operator.queue.retry(KEY) == 0.25

    async def test_deleted_pod_ends_its_run_as_lost(self, api: FakeApi, running: Operator) -> None:
        api.gone(PODS)
        running.watch()
        assert await running.reconcile() == [GET_POD, STATUS, CREATE]
        assert (run(api), history(api)) == ((2, "PodLost"), [(1, "Lost")])

    async def test_pod_that_succeeded_before_its_deletion_ends_its_run_as_succeeded(
        self, api: FakeApi, running: Operator
    ) -> None:
        known = api.objects[PODS, KEY]
        spec = {**known["spec"], "restartPolicy": "Never"}
        last = Pod.from_api({**known, "spec": spec, "status": {"phase": "Succeeded"}})
        api.gone(PODS)
        running.cache.pods.remove(KEY, last.uid, last)
        assert await running.reconcile() == [GET_POD, STATUS]
        assert history(api) == [(1, "Succeeded")]

    async def test_deleted_pipeline_discards_the_last_state_of_its_pod(
        self, api: FakeApi, running: Operator
    ) -> None:
        last = Pod.from_api(api.objects[PODS, KEY])
        running.cache.pods.remove(KEY, last.uid, last)
        running.cache.pipelines.remove(KEY, api.pipeline.uid)
        await running.reconcile()
        assert running.cache.pods.gone(KEY) is None

    @pytest.mark.usefixtures("running")
    async def test_pod_that_the_watch_has_not_reported_ends_no_run(
        self, api: FakeApi, clock: Clock
    ) -> None:
        """The operator has just started, and its watch of Pods has not listed them yet."""
        late = Operator(api, clock)
        late.watch(PIPELINES)
        assert await late.reconcile() == [GET_POD]
        assert (run(api), late.delay) == ((1, "Created"), None)

    async def test_deleted_namespace_does_not_count_as_refusal(
        self, api: FakeApi, operator: Operator
    ) -> None:
        api.failing[CREATE] = [api_error(404, {"message": "namespaces not found"})]
        operator.watch()
        assert await operator.reconcile() == [CREATE]
        assert (operator.requeued, operator.delay) == (False, None)

    async def test_pod_deleted_by_another_client_is_not_deleted_again(
        self, api: FakeApi, running: Operator
    ) -> None:
        api.put(PIPELINES, {**pipeline().edited().raw(), "status": api.pipeline.status.to_api()})
        running.watch()
        api.before[DELETE] = lambda: api.gone(PODS)
        assert await running.reconcile() == [STATUS, DELETE, GET_POD, CREATE]
        assert api.runs_of_pods == [1, 2]


class TestNameTaken:
    """A Pod with the pipeline's name exists, and the watch has not reported it."""

    async def test_own_pod_of_this_run_is_adopted(
        self, api: FakeApi, operator: Operator, clock: Clock
    ) -> None:
        operator.watch()
        await operator.reconcile()
        late = Operator(api, clock)
        late.watch(PIPELINES)
        assert await late.reconcile() == [CREATE, GET_POD]
        play(api, fresh_pod())
        late.watch(PODS)
        assert await late.reconcile() == [STATUS]
        assert (api.runs_of_pods, run(api)) == ([1], (1, "Created"))

    async def test_own_pod_of_older_run_is_deleted(
        self, api: FakeApi, running: Operator, clock: Clock
    ) -> None:
        api.put(PIPELINES, {**pipeline().edited().raw(), "status": api.pipeline.status.to_api()})
        api.failing[DELETE] = [ConnectionFailed("down")]
        running.watch()
        with pytest.raises(ConnectionFailed):
            await running.reconcile()
        late = Operator(api, clock)
        late.watch(PIPELINES)
        assert await late.reconcile() == [GET_PIPELINE, GET_POD, DELETE]
        assert condition(api) == ("False", Reason.POD_TERMINATING)

    async def test_pod_of_another_owner_is_not_changed(
        self, api: FakeApi, operator: Operator
    ) -> None:
        api.put(PODS, running_pod().owned_by("somebody").raw())
        operator.watch(PIPELINES)
        assert await operator.reconcile() == [CREATE, GET_POD, STATUS]
        assert condition(api) == ("False", Reason.NAME_CONFLICT)
        assert KEY not in operator.unlabelled_pods, "the watch by label reports it"
        assert operator.delay == 600, "when it is Stalled"

    async def test_foreign_pod_without_the_label_is_watched(
        self, api: FakeApi, operator: Operator, clock: Clock
    ) -> None:
        api.put(PODS, unlabelled(running_pod().owned_by("somebody").raw()))
        operator.watch()
        assert await operator.reconcile() == [CREATE, GET_POD, GET_POD, STATUS]
        assert condition(api) == ("False", Reason.NAME_CONFLICT)
        assert KEY in operator.unlabelled_pods
        await clock.advance(3600)
        await operator.reconcile()
        assert await operator.reconcile() == [GET_POD], "no write while it is there"
        api.gone(PODS)
        assert await operator.reconcile() == [GET_POD, CREATE, STATUS]
        assert KEY not in operator.unlabelled_pods
        assert (api.runs_of_pods, run(api)) == ([1], (1, "Created"))

    async def test_foreign_pod_deleted_before_it_is_watched_is_replaced(
        self, api: FakeApi, operator: Operator
    ) -> None:
        api.put(PODS, unlabelled(running_pod().owned_by("somebody").raw()))
        operator.watch()
        api.after[GET_POD] = lambda: api.gone(PODS)
        assert await operator.reconcile() == [CREATE, GET_POD, GET_POD, STATUS, CREATE]
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

    async def test_foreign_pod_that_repeatedly_appears_does_not_block_a_worker(
        self, api: FakeApi, operator: Operator
    ) -> None:
        exists = api_error(409, {"reason": "AlreadyExists", "message": "already exists"})
        api.failing[CREATE] = [exists] * 99
        operator.watch()
        assert (await operator.reconcile()).count(CREATE) == MAX_DECISIONS_PER_RECONCILE
        assert operator.delay == 0.25


class TestLabel:
    """A Pod of the pipeline without the operator's label, so that the watch does not report it."""

    async def test_pod_that_loses_the_label_is_mirrored(
        self, api: FakeApi, running: Operator
    ) -> None:
        api.put(PODS, unlabelled(api.objects[PODS, KEY]))
        running.watch()
        assert await running.reconcile() == [GET_POD, GET_POD]
        assert KEY in running.unlabelled_pods
        assert running.unlabelled_pods.read == [
            api.objects[PODS, KEY]["metadata"]["resourceVersion"]
        ]
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
        raw = unlabelled(api.objects[PODS, KEY])
        raw["metadata"]["finalizers"] = ["example.com/protected"]
        api.put(PODS, raw)
        suspended = pipeline().policy(suspend=True).raw()
        api.put(PIPELINES, {**suspended, "status": api.pipeline.status.to_api()})
        late = Operator(api, clock)
        late.watch()
        assert await late.reconcile() == [GET_POD, GET_POD, GET_POD, STATUS, DELETE]
        again = Operator(api, clock)
        again.watch()
        assert await again.reconcile() == [GET_POD, GET_POD], "until it is gone"
        assert KEY in again.unlabelled_pods

    async def test_pod_with_restored_label_is_no_longer_watched_separately(
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

    async def test_pod_without_label_has_not_ended(self, api: FakeApi, running: Operator) -> None:
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
        assert await operator.reconcile() == [CREATE, GET_POD, GET_POD]
        assert KEY in operator.unlabelled_pods
        play(api, running_pod())
        assert await operator.reconcile() == [GET_POD, STATUS]
        assert condition(api) == ("True", Reason.POD_READY)


class TestFailedCreation:
    """The API server reports no refusal of the Pod, so the outcome may be unknown."""

    @pytest.fixture(params=[api_error(504, {"message": "late"}), ConnectionFailed("504: late")])
    def error(self, request: pytest.FixtureRequest) -> Exception:
        error: Exception = request.param
        return error

    async def fails(self, operator: Operator, error: Exception) -> None:
        with pytest.raises(type(error)):
            await operator.reconcile()

    async def test_second_failure_in_a_row_is_reported_once(
        self, api: FakeApi, operator: Operator, error: Exception
    ) -> None:
        api.failing[CREATE] = [error] * 4
        operator.watch()
        await self.fails(operator, error)
        await self.fails(operator, error)
        assert condition(api) == ("False", Reason.POD_PENDING)
        await self.fails(operator, error)
        ready = api.pipeline.status.condition(ConditionType.READY)
        assert ready is not None
        assert ready.reason == Reason.POD_REQUEST_FAILED
        assert ready.message.endswith("failed, but the Pod may exist or appear: 504: late")
        await self.fails(operator, error)
        assert api.calls == [CREATE, STATUS, CREATE, STATUS, CREATE, CREATE]

    async def test_report_ends_with_the_pod(self, api: FakeApi, operator: Operator) -> None:
        error = ConnectionFailed("reset")
        api.failing[CREATE] = [error] * 3
        operator.watch()
        for _ in range(3):
            await self.fails(operator, error)
        await operator.reconcile()
        assert api.runs_of_pods == [1]
        assert condition(api) == ("False", Reason.POD_PENDING)

    async def test_pod_of_an_unanswered_request_ends_the_series_of_failures(
        self, api: FakeApi, operator: Operator
    ) -> None:
        """Otherwise a single failure of a later run would be reported."""
        error = ConnectionFailed("reset")
        api.failing[CREATE] = [error]
        operator.watch()
        await self.fails(operator, error)
        await operator.reconcile()
        play(api, running_pod())
        await operator.settle()
        api.gone(PODS)
        operator.watch()
        api.failing[CREATE] = [error]
        await self.fails(operator, error)
        await operator.reconcile()
        assert condition(api) == ("False", Reason.POD_PENDING)
        assert api.runs_of_pods == [1, 2]

    async def test_write_that_was_not_sent_does_not_count(
        self, api: FakeApi, operator: Operator
    ) -> None:
        error = LeaseExpiring("expires")
        api.failing[CREATE] = [error] * 3
        operator.watch()
        for _ in range(3):
            await self.fails(operator, error)
        assert condition(api) == ("False", Reason.POD_PENDING)


class TestFailedDeletion:
    """The API server does not delete the Pod, or the InitPipeline after its ttl."""

    REFUSED = api_error(403, {"message": 'admission webhook "keep" denied the request: no'})

    @pytest.fixture(
        params=[
            pytest.param(REFUSED, id="refused"),
            pytest.param(ConnectionFailed("timed out"), id="unanswered"),
            pytest.param(CONFLICT, id="refused by a webhook as a conflict"),
            pytest.param(NOT_FOUND, id="refused by a webhook as not found"),
        ]
    )
    def error(self, request: pytest.FixtureRequest) -> Exception:
        error: Exception = request.param
        return error

    async def fails(self, operator: Operator, times: int) -> None:
        for _ in range(times):
            operator.watch()
            with pytest.raises((ApiError, ConnectionFailed)):
                await operator.reconcile()

    async def test_second_failure_in_a_row_is_reported_until_the_pod_is_deleted(
        self, api: FakeApi, running: Operator, error: Exception, clock: Clock
    ) -> None:
        ask(api)
        api.failing[DELETE] = [error] * 4
        await self.fails(running, 2)
        assert condition(api) == ("False", Reason.POD_TERMINATING)
        await self.fails(running, 1)
        ready = api.pipeline.status.condition(ConditionType.READY)
        assert ready is not None
        assert ready.reason == Reason.DELETION_FAILED
        assert ready.message.endswith(f"because the request failed: {error}")
        assert condition(api, ConditionType.RECONCILING) == ("True", Reason.DELETION_FAILED)
        await clock.advance(600)
        await self.fails(running, 1)
        assert condition(api, ConditionType.STALLED) == ("True", Reason.DELETION_FAILED)
        assert api.calls.count(STATUS) == 3
        # The watch reports nothing new about the Pod, so the same reconcile must write the status.
        assert await running.reconcile() == [DELETE, STATUS]
        assert condition(api) == ("False", Reason.POD_TERMINATING)
        api.gone(PODS)
        await running.settle()
        assert api.pipeline.status.condition(ConditionType.STALLED) is None
        assert api.runs_of_pods == [1, 2]

    async def test_report_ends_when_the_pod_is_gone_at_once(
        self, api: FakeApi, running: Operator
    ) -> None:
        ask(api)
        api.failing[DELETE] = [self.REFUSED] * 3
        await self.fails(running, 3)
        api.gone(PODS)
        await running.settle()
        assert api.runs_of_pods == [1, 2]
        assert condition(api) == ("False", Reason.POD_PENDING)

    async def test_single_failure_of_a_later_deletion_is_not_reported(
        self, api: FakeApi, running: Operator
    ) -> None:
        for token in ("one", "two", "three"):
            ask(api, token)
            api.failing[DELETE] = [self.REFUSED]
            await self.fails(running, 1)
            await running.settle()
            assert condition(api) == ("False", Reason.POD_TERMINATING)
            api.gone(PODS)
            await running.settle()
            play(api, running_pod())
            await running.settle()

    async def test_failure_is_reported_while_suspended(
        self, api: FakeApi, running: Operator, error: Exception, clock: Clock
    ) -> None:
        self.change(api, suspend=True)
        api.failing[DELETE] = [error] * 4
        await self.fails(running, 3)
        assert condition(api, ConditionType.SUSPENDED) == ("True", Reason.SUSPENDED)
        assert condition(api, ConditionType.RECONCILING) == ("True", Reason.DELETION_FAILED)
        await clock.advance(600)
        await self.fails(running, 1)
        assert condition(api, ConditionType.STALLED) == ("True", Reason.DELETION_FAILED)
        await running.settle()
        assert condition(api, ConditionType.RECONCILING) == ("True", Reason.POD_TERMINATING)
        api.gone(PODS)
        await running.settle()
        assert api.pipeline.status.condition(ConditionType.STALLED) is None
        assert api.pipeline.status.condition(ConditionType.RECONCILING) is None

    async def test_failure_is_reported_after_an_exceeded_limit(
        self, api: FakeApi, running: Operator, error: Exception, clock: Clock
    ) -> None:
        """The message of Stalled still has the limit."""
        api.gone(PODS)
        self.change(api, initDeadlineSeconds=60)
        await running.settle()
        play(api, fresh_pod())
        await running.settle()
        await clock.advance(100)
        api.failing[DELETE] = [error] * 3
        await self.fails(running, 3)
        stalled = api.pipeline.status.condition(ConditionType.STALLED)
        assert stalled is not None
        assert stalled.reason == Reason.BACKOFF_LIMIT_EXCEEDED
        failed, given_up = "the Pod is not deleted, because", "raise initDeadlineSeconds above 60"
        assert failed in stalled.message
        assert given_up in stalled.message
        await running.settle()
        stalled = api.pipeline.status.condition(ConditionType.STALLED)
        assert stalled is not None
        assert failed not in stalled.message

    async def test_failure_to_delete_a_finished_pipeline_is_reported(
        self, api: FakeApi, running: Operator, error: Exception, clock: Clock
    ) -> None:
        self.change(api, **KEPT)
        play(api, completed_pod())
        await running.settle()
        await clock.advance(KEPT["ttlSecondsAfterFinished"])
        api.failing[DELETE_PIPELINE] = [error] * 4
        await self.fails(running, 3)
        assert condition(api) == ("True", Reason.POD_SUCCEEDED)
        assert condition(api, ConditionType.RECONCILING) == ("True", Reason.DELETION_FAILED)
        await clock.advance(600)
        await self.fails(running, 1)
        assert condition(api, ConditionType.STALLED) == ("True", Reason.DELETION_FAILED)
        assert api.pipeline.status.condition(ConditionType.RECONCILING) is None
        running.watch()
        assert await running.reconcile() == [DELETE_PIPELINE]

    async def test_next_process_keeps_the_report_until_it_has_tried(
        self, api: FakeApi, running: Operator, clock: Clock
    ) -> None:
        ask(api)
        api.failing[DELETE] = [self.REFUSED] * 4
        await self.fails(running, 3)
        before = api.pipeline.status
        await self.fails(Operator(api, clock), 1)
        assert api.pipeline.status == before

    @staticmethod
    def change(api: FakeApi, **policies: Any) -> None:
        spec = {**api.objects[PIPELINES, KEY]["spec"], **policies}
        metadata = dict(api.objects[PIPELINES, KEY]["metadata"])
        metadata["generation"] += 1
        api.edit(PIPELINES, {"spec": spec, "metadata": metadata})


class TestRefusal:
    async def test_refusal_is_written_once(self, api: FakeApi, operator: Operator) -> None:
        api.failing[CREATE] = [QUOTA] * 9
        operator.watch()
        assert await operator.reconcile() == [CREATE, STATUS]
        assert condition(api) == ("False", Reason.QUOTA_EXCEEDED)
        assert await operator.reconcile() == [CREATE], "the status was written again"

    @pytest.mark.parametrize(
        ("refusal", "longest"),
        [pytest.param(QUOTA, 300, id="quota"), pytest.param(DENIED, 30, id="missing permission")],
    )
    async def test_refused_creation_is_retried_with_growing_delays(
        self,
        api: FakeApi,
        operator: Operator,
        clock: Clock,
        refusal: ApiError,
        longest: float,
    ) -> None:
        api.failing[CREATE] = [refusal] * 99
        operator.watch()
        delays = []
        for _ in range(13):
            await operator.reconcile()
            assert operator.delay is not None
            delays.append(operator.delay)
            await clock.advance(operator.delay)
        assert [round(delay, 2) for delay in delays[:4]] == [0.25, 0.5, 1, 2]
        assert round(delays[-1]) == longest

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

    async def test_accepted_creation_resets_the_back_off(
        self, api: FakeApi, operator: Operator
    ) -> None:
        api.failing[CREATE] = [QUOTA] * 5
        operator.watch()
        for _ in range(6):
            await operator.reconcile()
        assert api.pod is not None
        assert operator.queue.retry(KEY) == 0.25, "the back-off was not reset"

    async def test_invalid_pod_is_retried_until_it_is_accepted(
        self, api: FakeApi, operator: Operator, clock: Clock
    ) -> None:
        api.failing[CREATE] = [INVALID] * 13
        operator.watch()
        assert await operator.reconcile() == [CREATE, STATUS]
        assert condition(api, ConditionType.STALLED) == ("True", Reason.INVALID_TEMPLATE)
        for _ in range(12):
            assert operator.delay is not None
            await clock.advance(operator.delay)
            assert await operator.reconcile() == [CREATE], "a retry wrote status"
        await clock.advance(300)
        assert await operator.reconcile() == [CREATE, STATUS]
        assert api.pipeline.status.condition(ConditionType.STALLED) is None
        assert (run(api), history(api)) == ((1, "Created"), [])

    @pytest.mark.parametrize("change", ["spec", "token"])
    async def test_new_spec_or_token_retries_with_the_shortest_delay(
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

    async def test_refusal_by_the_operators_validation_is_not_retried(
        self, api: FakeApi, operator: Operator
    ) -> None:
        api.put(PIPELINES, pipeline().policy(initPolicies=[{"name": "typo"}]).raw())
        operator.watch()
        assert await operator.reconcile() == [STATUS]
        assert condition(api, ConditionType.STALLED) == ("True", Reason.INVALID_TEMPLATE)
        assert (await operator.reconcile(), operator.delay, operator.requeued) == ([], None, False)

    async def test_creation_in_terminating_namespace_is_not_retried(
        self, api: FakeApi, operator: Operator
    ) -> None:
        api.failing[CREATE] = [TERMINATING]
        operator.watch()
        assert await operator.reconcile() == [CREATE]
        assert (operator.delay, operator.requeued) == (None, False)


class TestForgedGate:
    """A user has created the run's Pod with the operator's scheduling gate, and the operator has no
    permission to remove it."""

    FORBIDDEN = api_error(
        403, {"message": 'pods "demo" is forbidden: User "me" cannot patch resource "pods"'}
    )

    @pytest.fixture
    async def gated(self, api: FakeApi, operator: Operator) -> Operator:
        operator.watch()
        await operator.reconcile()
        play(api, fresh_pod())
        spec = {**api.objects[PODS, KEY]["spec"], "schedulingGates": [{"name": RUN_GATE}]}
        api.edit(PODS, {"spec": spec})
        api.failing[UNGATE] = [self.FORBIDDEN] * 99
        operator.watch()
        assert await operator.reconcile() == [STATUS, UNGATE]
        return operator

    async def test_refused_patch_is_retried_with_growing_delays_and_without_a_status_write(
        self, gated: Operator, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        delays = []
        for _ in range(13):
            assert gated.delay is not None
            delays.append(gated.delay)
            await clock.advance(gated.delay)
            caplog.clear()
            gated.watch()
            assert await gated.reconcile() == [UNGATE]
            assert [one.getMessage() for one in caplog.records] == ["scheduling gate not removed"]
        assert [round(delay, 2) for delay in delays[:4]] == [0.25, 0.5, 1, 2]
        assert round(delays[-1]) == 300

    @pytest.mark.parametrize("error", [CONFLICT, NOT_FOUND])
    async def test_code_that_a_webhook_chose_is_an_error(
        self, api: FakeApi, gated: Operator, error: ApiError
    ) -> None:
        """The Pod has not changed, and exists. The caller retries with delays."""
        api.failing[UNGATE] = [error]
        gated.watch()
        with pytest.raises(type(error)):
            await gated.reconcile()
        assert KEY in gated.cache.pods
        assert await gated.reconcile() == [UNGATE]

    async def test_gate_is_removed_when_the_patch_is_permitted(
        self, api: FakeApi, gated: Operator
    ) -> None:
        api.failing[UNGATE] = []
        gated.watch()
        assert await gated.reconcile() == [UNGATE]
        assert "schedulingGates" not in api.objects[PODS, KEY]["spec"]
        assert gated.queue.retry(KEY) == 0.25, "the back-off was not reset"


class TestTimeToLive:
    """A finished pipeline with ttlSecondsAfterFinished."""

    @pytest.fixture
    async def finished(self, api: FakeApi, running: Operator) -> Operator:
        api.edit(PIPELINES, {"spec": {**api.objects[PIPELINES, KEY]["spec"], **KEPT}})
        play(api, completed_pod())
        await running.settle()
        api.calls.clear()
        return running

    async def test_pipeline_before_its_ttl_makes_no_request(self, finished: Operator) -> None:
        assert await finished.reconcile() == []

    async def test_pipeline_after_its_ttl_is_deleted(
        self, api: FakeApi, finished: Operator, clock: Clock
    ) -> None:
        await clock.advance(KEPT["ttlSecondsAfterFinished"])
        assert await finished.reconcile() == [DELETE_PIPELINE]
        assert (PIPELINES, KEY) not in api.objects

    async def test_pipeline_changed_before_its_deletion_is_kept(
        self, api: FakeApi, finished: Operator, clock: Clock
    ) -> None:
        await clock.advance(KEPT["ttlSecondsAfterFinished"])
        ask(api)
        assert await finished.reconcile() == [DELETE_PIPELINE, GET_PIPELINE]
        assert await finished.reconcile() == [STATUS, DELETE]
        assert run(api) == (2, "Requested")

    async def test_pipeline_that_does_not_exist_is_removed_from_the_cache(
        self, api: FakeApi, finished: Operator, clock: Clock
    ) -> None:
        await clock.advance(KEPT["ttlSecondsAfterFinished"])
        api.gone(PIPELINES)
        assert await finished.reconcile() == [DELETE_PIPELINE, GET_PIPELINE]
        assert finished.cache.pipelines.get(KEY) is None


class TestNotInPlace:
    """The API server refuses the restart rules, so the Pod is created without them."""

    @pytest.fixture
    def in_place(self, api: FakeApi) -> None:
        api.put(PIPELINES, pipeline().policy(rerunStrategy="InPlace").raw())

    @pytest.mark.usefixtures("in_place")
    async def test_pod_without_rules_is_created_in_the_same_reconcile(
        self, api: FakeApi, operator: Operator
    ) -> None:
        api.failing[CREATE] = [NOT_IN_PLACE]
        operator.watch()
        assert await operator.reconcile() == [CREATE, STATUS, CREATE]
        assert condition(api, ConditionType.IN_PLACE_UNAVAILABLE) == (
            "True",
            Reason.IN_PLACE_UNSUPPORTED,
        )
        assert api.pod is not None
        assert not api.pod.restarts_in_place

    @pytest.mark.usefixtures("in_place")
    async def test_rules_are_tried_once_per_run(self, api: FakeApi, operator: Operator) -> None:
        api.failing[CREATE] = [NOT_IN_PLACE, QUOTA]
        operator.watch()
        await operator.reconcile()
        operator.watch()
        assert await operator.reconcile() == [CREATE, STATUS], "the refusal is still reported"
        assert (api.runs_of_pods, run(api)) == ([1], (1, "Created"))

    @pytest.mark.usefixtures("in_place")
    async def test_pod_without_rules_makes_no_further_request(
        self, api: FakeApi, operator: Operator
    ) -> None:
        api.failing[CREATE] = [NOT_IN_PLACE]
        await operator.settle()
        play(api, running_pod())
        await operator.settle()
        operator.watch()
        assert await operator.reconcile() == []


class TestFailure:
    """A reconcile raises an error that is not about this pipeline. The caller retries, and then no
    action is lost or repeated."""

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
    async def test_failed_request_is_raised_and_retried(
        self, api: FakeApi, operator: Operator, request_: str, error: Exception
    ) -> None:
        api.failing[request_] = [error]
        operator.watch()
        with pytest.raises(type(error)):
            await self.first_report(api, operator)
        await self.first_report(api, operator)
        assert (api.runs_of_pods, run(api)) == ([1], (1, "Created"))

    @staticmethod
    async def first_report(api: FakeApi, operator: Operator) -> None:
        """Let the operator create the Pod, and the kubelet report on it."""
        await operator.settle()
        play(api, fresh_pod())
        await operator.settle()

    @pytest.mark.parametrize("request_", [STATUS, CREATE, DELETE])
    async def test_lost_response_causes_no_second_action(
        self, api: FakeApi, running: Operator, request_: str
    ) -> None:
        """The API server carried out the request, but the operator got no response."""
        api.put(PIPELINES, {**pipeline().edited().raw(), "status": api.pipeline.status.to_api()})
        api.unanswered.add(request_)
        running.watch(PIPELINES)
        for _ in range(9):
            with contextlib.suppress(ConnectionFailed):
                await running.reconcile()
            if api.pod is not None and api.pod.deleting:
                api.gone(PODS)
            running.watch(PODS)
        assert not api.unanswered, "the request was not made"
        assert (run(api), history(api)) == ((2, "SpecChanged"), [(1, "Initialized")])
        assert api.runs_of_pods == [1, 2]


def create(_: FakeApi) -> None:
    """Leave the new pipeline as it is."""


def lose(api: FakeApi) -> None:
    """Delete the first run's Pod."""
    api.gone(PODS)


def edit(api: FakeApi) -> None:
    """Change the template while the first run's Pod exists."""
    api.put(PIPELINES, {**pipeline().edited().raw(), "status": api.pipeline.status.to_api()})


def ask(api: FakeApi, token: str = "now") -> None:
    """Request a run by a token."""
    raw = pipeline().token(token).raw()
    api.put(PIPELINES, {**raw, "status": api.pipeline.status.to_api()})


def restart(api: FakeApi) -> None:
    """Restart the app container."""
    play(api, running_pod().app(running=True, restarts=1))


def fail(api: FakeApi) -> None:
    """Let an init container fail finally, with one retry allowed."""
    spec = {**api.objects[PIPELINES, KEY]["spec"], "backoffLimit": 1}
    api.edit(PIPELINES, {"spec": spec})
    play(api, fresh_pod().restarts("Never").init("one", exit=1).phase("Failed"))


class TestDying:
    """The process dies after each of its requests. The next process knows only the API server's
    state. The result is the same: one Pod and one run for each trigger."""

    @staticmethod
    async def live(api: FakeApi, clock: Clock, happens: Any, dies_after: int | None) -> bool:
        """Reconcile until the process dies or nothing is to be done. Returns whether it died."""
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
        """Start a new process, and let the kubelet end terminating Pods and report on a new one."""
        operator = Operator(api, clock)
        await operator.settle()
        while api.pod is not None and api.pod.deleting:
            api.gone(PODS)
            await operator.settle()
        if api.pod is not None and api.pod.silent_since is not None:
            play(api, fresh_pod())
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
    async def test_process_dying_between_any_two_requests_loses_and_repeats_nothing(
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
        assert requests > 2, "no request was made"


async def test_pod_on_a_dead_node_that_the_operator_deletes_is_reported_as_stuck(
    api: FakeApi, running: Operator, clock: Clock
) -> None:
    suspend(api)
    running.watch()
    assert await running.reconcile() == [STATUS, DELETE]
    assert running.delay == 30 + 300, "the watch reports nothing more about the Pod"
    await clock.advance(330)
    assert await running.reconcile() == [STATUS]
    assert condition(api, ConditionType.STALLED) == ("True", Reason.POD_TERMINATING)


def suspend(api: FakeApi) -> None:
    """Suspend the pipeline."""
    raw = pipeline().policy(suspend=True).raw()
    api.put(PIPELINES, {**raw, "status": api.pipeline.status.to_api()})


class TestTakeover:
    """The watches of a new leader may be behind the writes of the previous one."""

    @staticmethod
    def after_completion(api: FakeApi, clock: Clock) -> Operator:
        """Returns a new leader that has to write that the Pod of the pipeline has completed."""
        play(api, completed_pod())
        late = Operator(api, clock)
        late.watch()
        return late

    async def test_pod_older_than_the_status_starts_no_run(
        self, api: FakeApi, operator: Operator, clock: Clock
    ) -> None:
        await operator.settle()
        play(api, fresh_pod())
        await operator.settle()
        late = Operator(api, clock)
        late.watch(PODS)
        play(api, running_pod())
        await operator.settle()
        late.watch(PIPELINES)
        assert await late.reconcile() == [GET_POD]
        assert late.cache.pods.get(KEY) == api.pod
        assert run(api) == (1, "Created")

    @pytest.mark.usefixtures("running")
    async def test_deletion_that_the_watch_has_not_reported_is_awaited(
        self, api: FakeApi, clock: Clock
    ) -> None:
        """The event of the deletion has the Pod's last state."""
        late = self.after_completion(api, clock)
        api.gone(PODS)
        assert await late.reconcile() == [GET_POD]
        assert late.delay is not None
        assert run(api) == (1, "Created")

    @pytest.mark.usefixtures("running")
    async def test_pod_whose_deletion_is_reported_while_it_is_read_is_gone(
        self, api: FakeApi, clock: Clock
    ) -> None:
        """No later event would remove it from the cache."""
        late = self.after_completion(api, clock)

        def delete() -> None:
            api.gone(PODS)
            late.watch(PODS)

        api.after[GET_POD] = delete
        assert await late.reconcile() == [GET_POD]
        assert KEY not in late.cache.pods
        assert late.requeued
        assert await late.reconcile() == [GET_POD, GET_POD, STATUS, CREATE]
        assert run(api) == (2, "PodLost")

    async def test_pod_of_a_resumed_pipeline_is_not_deleted(
        self, api: FakeApi, running: Operator, clock: Clock
    ) -> None:
        status = api.pipeline.status.to_api()
        api.put(PIPELINES, {**pipeline().policy(suspend=True).raw(), "status": status})
        await running.settle()
        api.gone(PODS)
        await running.settle()
        late = Operator(api, clock)
        late.watch(PIPELINES)
        status = api.pipeline.status.to_api()
        api.put(PIPELINES, {**pipeline().of_generation(3).raw(), "status": status})
        await running.settle()
        late.watch(PODS)
        assert await late.reconcile() == [GET_POD, STATUS, GET_PIPELINE]
        assert api.pod is not None
        assert run(api) == (2, "Resumed")

    async def test_own_status_needs_no_confirmation(self, api: FakeApi, running: Operator) -> None:
        play(api, completed_pod())
        running.watch()
        assert await running.reconcile() == [STATUS]


class TestFirstPod:
    """The Pod of the first run exists, and status does not record the run yet."""

    @pytest.fixture(params=["same process", "another process"])
    async def created(
        self, request: pytest.FixtureRequest, api: FakeApi, operator: Operator, clock: Clock
    ) -> Operator:
        """Returns an operator that has created the first Pod, or one that was started after that
        operator had died."""
        operator.watch()
        assert await operator.reconcile() == [CREATE]
        assert not api.objects[PIPELINES, KEY].get("status")
        return operator if request.param == "same process" else Operator(api, clock)

    async def test_pod_is_adopted_with_its_first_report(
        self, api: FakeApi, created: Operator
    ) -> None:
        assert await created.settle() == []
        play(api, running_pod())
        assert await created.settle() == [STATUS]
        assert (api.runs_of_pods, run(api)) == ([1], (1, "Created"))

    async def test_changed_template_replaces_the_pod(self, api: FakeApi, created: Operator) -> None:
        edit(api)
        created.watch()
        assert await created.reconcile() == [STATUS, DELETE]
        assert (run(api), history(api)) == ((2, "SpecChanged"), [(1, "Superseded")])
        assert await created.settle() == [CREATE]
        assert api.runs_of_pods == [1, 2]

    async def test_later_token_starts_another_run(self, api: FakeApi, created: Operator) -> None:
        ask(api)
        created.watch()
        assert await created.reconcile() == [STATUS, DELETE]
        assert (run(api), history(api)) == ((2, "Requested"), [(1, "Superseded")])

    async def test_suspension_records_the_run_and_deletes_its_pod(
        self, api: FakeApi, created: Operator
    ) -> None:
        suspend(api)
        created.watch()
        assert await created.reconcile() == [STATUS, DELETE]
        assert (api.pod, history(api)) == (None, [(1, "Superseded")])

    async def test_deleted_pipeline_is_left_to_the_garbage_collector(
        self, api: FakeApi, created: Operator
    ) -> None:
        api.gone(PIPELINES)
        assert await created.settle() == []

    async def test_pod_deleted_before_its_first_report_is_created_again(
        self, api: FakeApi, created: Operator
    ) -> None:
        api.gone(PODS)
        created.watch()
        assert (await created.reconcile())[-1] == CREATE
        play(api, fresh_pod())
        await created.settle()
        assert (api.runs_of_pods, run(api), history(api)) == ([1, 1], (1, "Created"), [])

    async def test_status_is_written_before_the_creation_is_repeated(
        self, api: FakeApi, operator: Operator
    ) -> None:
        """The user would otherwise see no status as long as the API server fails."""
        api.failing[CREATE] = [ConnectionFailed("timed out")] * 3
        operator.watch()
        with pytest.raises(ConnectionFailed):
            await operator.reconcile()
        with pytest.raises(ConnectionFailed):
            await operator.reconcile()
        assert api.calls == [CREATE, STATUS, CREATE]
        assert condition(api) == ("False", Reason.POD_PENDING)

    async def test_creation_without_response_is_adopted(
        self, api: FakeApi, operator: Operator
    ) -> None:
        api.unanswered.add(CREATE)
        operator.watch()
        with pytest.raises(ConnectionFailed):
            await operator.reconcile()
        assert await operator.reconcile() == [STATUS, CREATE, GET_POD]
        assert (api.runs_of_pods, run(api)) == ([1], (1, "Created"))

    @pytest.mark.parametrize("change", [edit, ask], ids=["template", "token"])
    async def test_creation_without_response_before_a_change_is_replaced(
        self, api: FakeApi, operator: Operator, change: Any
    ) -> None:
        """Status records the run as it is after the change."""
        api.unanswered.add(CREATE)
        operator.watch()
        with pytest.raises(ConnectionFailed):
            await operator.reconcile()
        change(api)
        operator.watch(PIPELINES)
        assert await operator.reconcile() == [STATUS, CREATE, GET_POD, STATUS, DELETE]
        assert await operator.settle() == [CREATE]
        assert (api.runs_of_pods, run(api), history(api)) == ([1, 1], (1, "Created"), [])
        assert api.pod is not None
        assert api.pod.template_hash == api.pipeline.template_hash
        assert api.pod.rerun_token == (api.pipeline.rerun_token or "")

    async def test_pod_whose_run_annotation_a_webhook_removes_is_replaced_with_delays(
        self, api: FakeApi, operator: Operator, clock: Clock
    ) -> None:
        for _ in range(600):
            operator.watch()
            await operator.reconcile()
            raw = api.objects.get((PODS, KEY))
            if raw is not None:
                raw["metadata"]["annotations"] = {}
                api.put(PODS, raw)
            await clock.advance(1)
        assert set(api.runs_of_pods) == {1}
        assert 5 < len(api.runs_of_pods) < 15, "ten minutes"
        assert run(api) == (1, "Created")


class TestOtherPods:
    async def test_terminating_foreign_pod_delays_the_creation(
        self, api: FakeApi, operator: Operator
    ) -> None:
        api.put(PODS, fresh_pod().owned_by("its former owner").deleting().raw())
        operator.watch()
        assert await operator.reconcile() == [STATUS]
        assert condition(api) == ("False", Reason.POD_TERMINATING)
        api.gone(PODS)
        operator.watch()
        assert await operator.reconcile() == [CREATE]


class PruningApi(FakeApi):
    """Stores no node name in a status, like a CRD without that field."""

    def _patch(self, plural: str, key: Key, body: Raw, query: object) -> Raw:
        if plural == PIPELINES:
            kept = {key: value for key, value in body["status"].items() if key != "nodeName"}
            body = {**body, "status": kept}
        return super()._patch(plural, key, body, query)


class TestDroppedFields:
    """Fields of status that the API server does not store."""

    @staticmethod
    async def events_of(api: FakeApi, clock: Clock) -> list[tuple[str, str]]:
        """Returns reason and note of the events of a run that is initialized."""
        api.put(PIPELINES, pipeline().raw())
        operator = Operator(api, clock)
        await operator.settle()
        play(api, running_pod())
        operator.watch()
        assert await operator.reconcile() == [STATUS]
        posting = asyncio.create_task(operator.events.run())
        await clock.advance()
        posting.cancel()
        return [(raw["reason"], raw["note"]) for raw in api.posted_events]

    async def test_dropped_fields_are_reported_in_an_event(self, clock: Clock) -> None:
        [note] = [
            note
            for reason, note in await self.events_of(PruningApi(clock), clock)
            if reason == "StatusFieldsDropped"
        ]
        assert note == (
            "the API server stored the status without fields that the operator had set. Apply the "
            "CRD of the operator's version. Dropped: status.nodeName"
        )

    async def test_stored_fields_are_not_reported(self, clock: Clock) -> None:
        reasons = {reason for reason, _ in await self.events_of(FakeApi(clock), clock)}
        assert reasons == {"RunStarted", "RunInitialized"}


class SilentApi(FakeApi):
    """Counts the requests, and never answers."""

    requests = 0

    async def answer(self, _: Request) -> Raw:
        self.requests += 1
        await asyncio.Event().wait()
        raise AssertionError("nothing sets the event")


class TestLargePipelines:
    """Pipelines for which the API server needs more CPU."""

    @staticmethod
    async def requests_at_once(clock: Clock, characters: int, *keys: Key) -> int:
        """Returns the number of requests that wait for the API server at the same time."""
        api = SilentApi(clock)
        operator = Operator(api, clock)
        template = {
            "spec": {
                "initContainers": [{"name": "one", "image": "i", "args": ["x" * characters]}],
                "containers": [{"name": "app", "image": "i"}],
            }
        }
        for key in keys:
            raw = pipeline().with_template(template).raw()
            raw["metadata"] |= {"name": key.name, "namespace": key.namespace}
            operator.cache.pipelines.put(key, Pipeline.from_api(raw))
        tasks = [asyncio.create_task(operator.reconciler.reconcile(key)) for key in keys]
        for _ in range(20):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return api.requests

    @pytest.mark.parametrize(
        ("characters", "namespaces", "requests"),
        [
            pytest.param(ONE_AT_A_TIME, "aaa", 1, id="large ones of a namespace"),
            pytest.param(ONE_AT_A_TIME, "abc", 3, id="large ones of three namespaces"),
            pytest.param(ONE_AT_A_TIME // 2, "aaa", 3, id="small ones of a namespace"),
        ],
    )
    async def test_large_pipelines_of_a_namespace_are_reconciled_one_at_a_time(
        self, clock: Clock, characters: int, namespaces: str, requests: int
    ) -> None:
        keys = [Key(namespace, f"p{index}") for index, namespace in enumerate(namespaces)]
        assert await self.requests_at_once(clock, characters, *keys) == requests
