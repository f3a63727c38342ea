"""Reconciles one InitPipeline: read the facts, decide, write status, act.

No other module writes InitPipelines or Pods. (runtime.events writes Events.)

- Status is written before the action, so the process can stop after any request: the next reconcile
  reads from status what remains to be done. The exception is the Pod of the first run, which is
  created before the first status write. The Pod's annotations then show what remains to be done.
- A status write, and the deletion of the pipeline, require that the pipeline has not changed since
  it was read. A Pod is created with the pipeline's name, and deleted by UID. After a conflict, the
  pipeline or the Pod is read, and the pipeline is reconciled again.
- Events are recorded after the write of the status that they repeat, and only if it succeeds. If
  the API server rejects the write, the event StatusNotWritten is recorded, and if it stores the
  status without some fields, StatusFieldsDropped.
- If the response to an action is a new fact, the same reconcile decides again: for example if the
  API server created or refused the Pod, another Pod has its name, or the Pod to delete is gone.
- If two requests to create the Pod fail in a row, without a refusal of the Pod and without another
  Pod of its name, status reports that before the next request. It also reports two deletions that
  fail in a row, for any cause.
- If the pipeline does not exist any more, its state in memory is discarded. The garbage collector
  deletes its Pod.
- A reconcile without a change makes no request, except to read a Pod that the watch does not
  report.
- Before its first write about a pipeline whose status another process has written, this process
  reads the Pod. If that write does not change status, it reads the pipeline as well. Its watches
  may be behind that status.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from initpipeline.api.models import InitPipelineStatus, Run
from initpipeline.api.names import RUN_ANNOTATION
from initpipeline.core import admission, conditions, log_tails, pod_end, podspec, skew, status_size
from initpipeline.core.decide import (
    CreatePod,
    Decision,
    DeletePipeline,
    DeletePod,
    UngatePod,
    decide,
    needs_live_pod,
)
from initpipeline.core.facts import Facts, Pipeline, Refusal
from initpipeline.core.patch import merge_patch
from initpipeline.core.pod import Pod
from initpipeline.core.text import clip
from initpipeline.core.unreadable import (
    UnreadablePipeline,
    error_conditions,
    unreadable_conditions,
)
from initpipeline.runtime import run_logs
from initpipeline.runtime.cache import Cache
from initpipeline.runtime.creations import Creations
from initpipeline.runtime.errors import (
    AlreadyExistsError,
    ApiError,
    ConflictError,
    HistoryLost,
    NotFoundError,
    TooLargeError,
    one_line,
)
from initpipeline.runtime.events import EventRecorder
from initpipeline.runtime.failures import Failures
from initpipeline.runtime.gateway import Gateway
from initpipeline.runtime.keys import Key
from initpipeline.runtime.meter import Meter
from initpipeline.runtime.queue import (
    LONGEST_RETRY_SECONDS,
    OUTAGE_RETRY_SECONDS,
    WorkQueue,
)
from initpipeline.runtime.responses import LARGE
from initpipeline.runtime.tracer import ReconcileSpan, Tracer
from initpipeline.runtime.unlabelled_pods import UnlabelledPodWatcher

logger = logging.getLogger(__name__)

MAX_DECISIONS_PER_RECONCILE = 4
"""Maximum number of decisions in one reconcile. A response of the API server, such as a refusal,
may require another decision at once. After this number, the pipeline is requeued with back-off, so
that it does not occupy a worker."""

LOGGED = 500
"""Maximum size in bytes of an API server's message in a log line. Webhooks may write long ones."""

ONE_AT_A_TIME = 16 * 1024
"""In bytes. See ``Reconciler.reconcile``. docs/decisions/0017-limit-the-size-of-a-pipeline.md has
the measurements."""

_ACTIONS: Final = {
    CreatePod: "create Pod",
    DeletePod: "delete Pod",
    UngatePod: "remove scheduling gate",
    DeletePipeline: "delete pipeline",
}
"""The names of actions in traces."""


class Reconciler:
    """Reconciles pipelines. If a method raises ApiError or ConnectionFailed, the caller must
    requeue the key with back-off."""

    def __init__(
        self,
        gateway: Gateway,
        cache: Cache,
        queue: WorkQueue[Key],
        now: Callable[[], datetime],
        events: EventRecorder,
        unlabelled_pods: UnlabelledPodWatcher,
        gated: bool = False,
        meter: Meter = Meter(),
        tracer: Tracer = Tracer(),
        *,
        omit_log_tails: bool = False,
    ) -> None:
        """Create a reconciler. With ``gated``, it creates each Pod with a scheduling gate, and
        removes the gate when status records the Pod. With ``omit_log_tails``, no status has
        termination messages."""
        self._gateway = gateway
        self._cache = cache
        self._queue = queue
        self._now = now
        self._events = events
        self._unlabelled_pods = unlabelled_pods
        self._gated = gated
        self._meter = meter
        self._tracer = tracer
        self._omit_log_tails = omit_log_tails
        self._creations = Creations()
        self._failed_creations, self._failed_deletions = Failures(), Failures()
        self._followed: dict[Key, str] = {}
        """The UIDs of pipelines with a status that this process has written, or whose Pod it has
        read."""
        self._large: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        """By namespace: held while a large pipeline is reconciled."""

    async def reconcile(self, key: Key) -> None:
        """Reconcile one pipeline, until nothing more can be done now. Requeues it for its next
        deadline or retry.

        Pipelines larger than ONE_AT_A_TIME are reconciled one at a time in each namespace. The API
        server needs more CPU for them, which delays the InitPipelines of all namespaces.
        """
        pipeline = self._cache.pipelines.get(key)
        if isinstance(pipeline, Pipeline) and pipeline.size > ONE_AT_A_TIME:
            async with self._large[key.namespace]:
                await self._reconcile(key, self._cache.pipelines.get(key))
        else:
            await self._reconcile(key, pipeline)

    async def _reconcile(self, key: Key, pipeline: Pipeline | UnreadablePipeline | None) -> None:
        with self._tracer.reconcile() as span:
            await self._decide_and_act(key, pipeline, span)

    async def _decide_and_act(
        self, key: Key, pipeline: Pipeline | UnreadablePipeline | None, span: ReconcileSpan
    ) -> None:
        facts = await self._read(key, pipeline)
        for _ in range(MAX_DECISIONS_PER_RECONCILE):
            if facts is None:
                return
            facts = await self._hashed(facts)
            decision = await self._decide(facts)
            if self._is_unconfirmed(key, facts.pipeline, decision):
                facts = await self._confirm(key, facts, decision)
                continue
            for write in _writes(decision):
                run = decision.status.run
                span.note(facts.pipeline, run.number if run else None, write)
            pipeline = await self._write_status(facts.pipeline, decision)
            if pipeline is None:
                return
            refusal = facts.refusal
            facts = await self._act(key, decision, facts.with_pipeline(pipeline))
            if facts is None:
                self._requeue(key, decision, refusal)
                return
        self._queue.retry(key)

    def _is_unconfirmed(self, key: Key, pipeline: Pipeline, decision: Decision) -> bool:
        """Returns whether another process may have written the pipeline's status from a newer Pod,
        or may have created a newer Pod, than the watches of this process have reported.

        If so, the Pod would seem to go back in time, which the decision would take for a restart or
        a loss. Only a decision to write something matters. Once this process has written the
        status, or has read the Pod, the cache is at least as new as the status.
        """
        followed = pipeline.status.run is None or self._followed.get(key) == pipeline.uid
        return not followed and bool(decision.patch or decision.action)

    async def _confirm(self, key: Key, facts: Facts, decision: Decision) -> Facts | None:
        """Read the Pod from the API server. A status write would detect a change of the pipeline.
        So without one, the pipeline is read as well. Returns the facts. None: the pipeline is gone
        or cannot be read, the Pod was deleted while it was read, or the Pod is gone and its event
        DELETED, which has its last state, was not received yet."""
        pipeline: Pipeline | UnreadablePipeline | None = facts.pipeline
        if not decision.patch:
            pipeline = await self._gateway.get_pipeline(key)
        if pipeline is None:
            return None  # The watch or the sweep reports that.
        self._cache.pipelines.replace(key, pipeline)
        if isinstance(pipeline, UnreadablePipeline):
            self._queue.requeue(key)
            return None
        with self._cache.pods.response(key) as keep:
            pod = await self._get_pod(key)
            if pod is not None and pod.labelled and not keep(pod):
                # The Pod was deleted meanwhile, or has lost its label.
                self._queue.requeue(key)
                return None
        if pod is None and key in self._cache.pods:
            self._queue.retry(key)
            return None
        self._followed[key] = pipeline.uid
        return Facts(pipeline, pod, gone=None if pod else self._cache.pods.gone(key))

    async def _decide(self, facts: Facts) -> Decision:
        """Returns the decision. For a large pipeline, a thread computes it, because it would block
        the event loop."""
        now = self._now()
        requested = self._creations.requested(Key.of(facts.pipeline))
        if requested != facts.requested:
            facts = replace(facts, requested=requested)
        if self._omit_log_tails:
            facts = log_tails.required(facts)
        if facts.pipeline.size <= LARGE:
            return decide(facts, now)
        return await asyncio.to_thread(decide, facts, now)

    async def _hashed(self, facts: Facts) -> Facts:
        """Returns the facts with the hash of the template, which is computed once."""
        pipeline = facts.pipeline
        if pipeline.template_hash:
            return facts
        large = pipeline.size > LARGE
        pipeline = await asyncio.to_thread(pipeline.hashed) if large else pipeline.hashed()
        self._cache.pipelines.refine(Key.of(pipeline), pipeline)
        return facts.with_pipeline(pipeline)

    def _requeue(self, key: Key, decision: Decision, refusal: Refusal | None) -> None:
        """Requeue the pipeline for the decision's next deadline or retry, if it has any."""
        if decision.wake_at is not None:
            self._queue.add_at(key, decision.wake_at)
        if decision.retry:
            denied = refusal is not None and admission.is_denied(refusal.message)
            self._queue.retry(key, OUTAGE_RETRY_SECONDS if denied else LONGEST_RETRY_SECONDS)
        else:
            self._queue.forget_failures(key)

    def forget_if_deleted(self, key: Key) -> None:
        """Discard what is kept in memory about a pipeline that does not exist any more."""
        if self._cache.pipelines.get(key) is None:
            self._queue.forget_failures(key)
            self._cache.pods.forget_gone(key)
            self._unlabelled_pods.forget(key)
            self._creations.forget(key)
            self._failed_creations.forget(key)
            self._failed_deletions.forget(key)
            self._followed.pop(key, None)

    def fields_of(self, key: Key) -> dict[str, Any]:
        """Returns the fields of a log line about the pipeline, and about its current run if it is
        known. Never raises, because it describes exceptions."""
        try:
            pipeline = self._cache.pipelines.get(key)
        except Exception:
            pipeline = None
        if not isinstance(pipeline, Pipeline):
            return {"pipeline": str(key)}
        return run_logs.about(pipeline, pipeline.status.run)

    async def report_error(self, key: Key, error: Exception) -> None:
        """Report an exception of the reconcile in the pipeline's conditions, unless they report it
        already."""
        pipeline = self._cache.pipelines.get(key)
        if not isinstance(pipeline, Pipeline) or pipeline.deleting:
            return
        conditions = error_conditions(pipeline, error, self._now())
        if conditions is not None:
            await self._patch(pipeline, {"conditions": conditions})

    async def _report_unreadable(self, pipeline: UnreadablePipeline) -> None:
        if pipeline.deleting:
            return
        conditions = unreadable_conditions(pipeline, self._now())
        if conditions is None:
            return
        try:
            await self._patch(pipeline, {"conditions": conditions})
        except ApiError as error:
            if _refused(error):
                self._events.not_written(pipeline, f"{pipeline.problem}; {error}")
            raise

    async def _read(self, key: Key, pipeline: Pipeline | UnreadablePipeline | None) -> Facts | None:
        """Returns the facts for the decision. None: the pipeline does not exist, or it cannot be
        read, and nothing more is to be done."""
        if pipeline is None:
            self.forget_if_deleted(key)
            return None
        if isinstance(pipeline, UnreadablePipeline):
            await self._report_unreadable(pipeline)
            self._queue.forget_failures(key)
            return None
        pod = self._cache.pods.get(key)
        if pod is not None:
            self._unlabelled_pods.forget(key)
        elif (needs_live_pod(pipeline) or key in self._unlabelled_pods) and not pipeline.deleting:
            pod = await self._get_pod(key)
        if pod is not None:
            self._failed_creations.forget(key)
        if pod is not None and pod.deleting:
            self._failed_deletions.forget(key)
        created, deleted = self._failed_creations.last(key), self._failed_deletions.last(key)
        return Facts(
            pipeline,
            pod,
            gone=None if pod else self._cache.pods.gone(key),
            failed=admission.failed_request(created.code, created.error) if created else None,
            undeleted=deleted.error if deleted else None,
        )

    async def _get_pod(self, key: Key) -> Pod | None:
        """Returns the Pod from the API server, and watches it if it lacks the operator's label.
        None: it does not exist."""
        pod = await self._gateway.get_pod(key)
        if pod is None or pod.labelled:
            self._unlabelled_pods.forget(key)
            return pod
        # When the label was removed, the watch reported DELETED, because it selects by label. The
        # Pod exists.
        self._cache.pods.forget_gone(key)
        if not self._unlabelled_pods.watch(key):
            return pod
        pod = await self._get_pod(key)
        if pod is not None:
            self._unlabelled_pods.was_read(key, pod.resource_version)
        return pod

    async def _write_status(self, pipeline: Pipeline, decision: Decision) -> Pipeline | None:
        """Write the decision's status, unless that is deferred. Then post events for what changed,
        and log it. Returns the stored pipeline. None: the pipeline has changed since it was read,
        so the decision is out of date."""
        key = Key.of(pipeline)
        if decision.defer_status:
            return pipeline
        try:
            written = await self._patch_status(pipeline, decision)
        except ApiError as error:
            if _refused(error):
                self._events.not_written(pipeline, str(error))
            raise
        if written is None:
            return None
        if written is pipeline:
            self._queue.reflected(key)
            return written
        if isinstance(written, UnreadablePipeline):
            return None  # The CRD has changed. The next reconcile reports that.
        self._followed[key] = written.uid
        if _resets_back_off(pipeline.status, written.status):
            self._queue.forget_failures(key)
        run_logs.status_written(pipeline, written, self._events.status_written(pipeline, written))
        self._meter.status_written(pipeline.status, written.status, self._queue.age(key))
        self._queue.reflected(key)
        self._tracer.status_written(pipeline, written)
        return written

    async def _patch_status(
        self, pipeline: Pipeline, decision: Decision
    ) -> Pipeline | UnreadablePipeline | None:
        """Write the status, or a smaller one if the cluster cannot store it. Returns the stored
        pipeline. None: the pipeline has changed since it was read, or does not exist."""
        if not decision.patch:
            return pipeline
        try:
            return await self._patch(pipeline, decision.patch)
        except TooLargeError:
            smallest = status_size.smallest(decision.status)
            patch = merge_patch(pipeline.status.to_api(), smallest.to_api())
            return await self._patch(pipeline, patch) if patch else pipeline

    async def _patch(
        self, pipeline: Pipeline | UnreadablePipeline, patch: dict[str, Any]
    ) -> Pipeline | UnreadablePipeline | None:
        key = Key.of(pipeline)
        try:
            written = await self._gateway.patch_status(pipeline, patch)
        except (ConflictError, NotFoundError) as error:
            await self._read_again(pipeline, error)
            return None
        self._cache.pipelines.replace(key, written)
        if isinstance(written, Pipeline):
            if fields := tuple(skew.dropped(patch, written.status.to_api())):
                self._events.dropped(pipeline, fields)
        elif isinstance(pipeline, Pipeline):
            self._queue.requeue(key)
        return written

    async def _read_again(
        self, pipeline: Pipeline | UnreadablePipeline, error: ConflictError | NotFoundError
    ) -> None:
        """Read the pipeline after a write that found another version or none, and requeue it.
        Raises the error if the pipeline has not changed: an admission webhook chose this HTTP code.
        """
        key = Key.of(pipeline)
        known = self._cache.pipelines.get(key)
        fresh = await self._gateway.get_pipeline(key)
        if fresh is None:
            self._cache.pipelines.remove(key, pipeline.uid)
            return
        if known is not None and int(fresh.resource_version) < int(known.resource_version):
            raise HistoryLost(f"InitPipeline {key}", known.resource_version, fresh.resource_version)
        if fresh.resource_version == pipeline.resource_version:
            raise error
        self._cache.pipelines.replace(key, fresh)
        self._queue.requeue(key)

    async def _act(self, key: Key, decision: Decision, facts: Facts) -> Facts | None:
        """Carry out the action. Returns new facts if they require another decision at once. None:
        the next decision follows from a watch event or a deadline."""
        match decision.action:
            case CreatePod() as creation:
                return await self._create(key, creation, facts, decision.status.run)
            case DeletePod(uid):
                return await self._delete(key, uid, facts)
            case UngatePod(uid):
                return await self._ungate(key, uid, facts, decision.status.run)
            case DeletePipeline():
                await self._delete_pipeline(key, facts.pipeline)
                return None
            case None:
                return None

    async def _create(
        self, key: Key, creation: CreatePod, facts: Facts, current: Run | None
    ) -> Facts | None:
        """Create the Pod of the current run, and store the response in the cache, because a
        reconcile before the watch event would try to create it again. Returns facts with the Pod or
        the refusal. None: the creation is delayed, or the namespace is being deleted."""
        about = run_logs.about(facts.pipeline, current)
        run = creation.manifest["metadata"]["annotations"][RUN_ANNOTATION]
        next_at = self._creations.next_at(key, run)
        if next_at is not None and next_at > self._now():
            self._queue.add_at(key, next_at)
            return None
        self._creations.request(key)
        manifest = podspec.gated(creation.manifest) if self._gated else creation.manifest
        try:
            with self._cache.pods.response(key) as keep:
                with self._failed_creations.counted(key, AlreadyExistsError, NotFoundError):
                    answer = await self._gateway.create_pod(manifest)
                if isinstance(answer, Pod):
                    self._failed_deletions.forget(key)
                    self._creations.created(key, run, self._now())
                    logger.info("Pod created", extra={**about, "pod_uid": answer.uid})
                if isinstance(answer, Pod) and answer.labelled:
                    keep(answer)
                    return Facts(facts.pipeline, self._cache.pods.get(key))
            if isinstance(answer, Pod):  # A webhook has removed the label.
                return Facts(facts.pipeline, await self._get_pod(key))
        except AlreadyExistsError:
            return Facts(facts.pipeline, await self._get_pod(key))
        except NotFoundError:
            return None  # The namespace does not exist any more, so the pipeline does not either.
        except ApiError as error:
            if admission.namespace_terminating(error.status):
                return None  # The pipeline is about to be deleted.
            raise
        fields = {"reason": answer.reason.value, "error": clip(one_line(answer.message), LOGGED)}
        logger.warning("Pod refused", extra={**about, **fields})
        return Facts(facts.pipeline, None, answer, refused_in_place=creation.in_place)

    async def _ungate(self, key: Key, uid: str, facts: Facts, current: Run | None) -> Facts | None:
        """Remove the scheduling gate. Users can create a Pod that has it, and without
        --scheduling-gate the operator may lack the permission to remove it. So a 403 does not fail
        the reconcile."""
        try:
            ungated = await self._gateway.ungate_pod(key, uid)
        except (NotFoundError, ConflictError):
            pod = await self._get_pod(key)
            if pod is not None and pod.uid == uid:
                raise  # Another client has written to the Pod, or a webhook chose this HTTP code.
            self._cache.pods.remove(key, uid)
            return replace(facts, pod=pod)
        except ApiError as error:
            if error.code != 403:
                raise
            about = run_logs.about(facts.pipeline, current)
            fields = {"pod_uid": uid, "error": clip(str(error), LOGGED)}
            logger.warning("scheduling gate not removed", extra={**about, **fields})
            return replace(facts, gate_refused=True)
        self._cache.pods.replace(key, ungated)
        return None

    async def _delete(self, key: Key, uid: str, facts: Facts) -> Facts | None:
        try:
            with self._failed_deletions.counted(key):
                deleting = await self._gateway.delete_pod(key, uid)
        except (NotFoundError, ConflictError):
            pod = await self._get_pod(key)
            if pod is not None and pod.uid == uid and not pod.deleting:
                raise  # The Pod has not changed: an admission webhook chose this HTTP code.
            self._failed_deletions.forget(key)
            self._cache.pods.remove(key, uid)
            return replace(facts, pod=pod, undeleted=None)
        if deleting is not None:
            self._cache.pods.replace(key, deleting)
            if (stuck_at := pod_end.stuck_at(deleting)) is not None:
                # The watch may report nothing more, for example if the node is down.
                self._queue.add_at(key, stuck_at)
            if conditions.failed_deletion(facts.pipeline.status) is not None:
                return replace(facts, pod=deleting, undeleted=None)
        return None

    async def _delete_pipeline(self, key: Key, pipeline: Pipeline) -> None:
        """Delete a finished pipeline. The garbage collector deletes its Pod. If a user has changed
        the pipeline since it was read, it is not deleted but reconciled again."""
        try:
            with self._failed_deletions.counted(key):
                await self._gateway.delete_pipeline(pipeline)
        except (ConflictError, NotFoundError) as error:
            await self._read_again(pipeline, error)
            self._failed_deletions.forget(key)
        else:
            logger.info("finished pipeline deleted", extra={"pipeline": str(key)})


def _writes(decision: Decision) -> Iterator[str]:
    """Yields what the decision writes, for traces."""
    if decision.patch:
        yield "write status"
    if decision.action is not None:
        yield _ACTIONS[type(decision.action)]


def _resets_back_off(before: InitPipelineStatus, after: InitPipelineStatus) -> bool:
    """Returns whether to reset the back-off: a new run has started, or the spec has changed."""
    numbers = [status.run.number if status.run else 0 for status in (before, after)]
    return numbers[0] != numbers[1] or before.observed_generation != after.observed_generation


def _refused(error: ApiError) -> bool:
    """Returns whether the API server would refuse the same request again."""
    if isinstance(error, TooLargeError) or error.code in {400, 403, 422}:
        return True
    return admission.is_by_admission(str(error.status.get("message")))
