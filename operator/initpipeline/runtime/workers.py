"""The worker loop: take a key from the queue, reconcile its pipeline, requeue it if that failed."""

import asyncio
import logging
from collections.abc import Callable

from initpipeline.core import admission
from initpipeline.core.text import clip
from initpipeline.runtime.errors import ApiError, ConnectionFailed, OperatorError
from initpipeline.runtime.keys import Key
from initpipeline.runtime.meter import Meter
from initpipeline.runtime.queue import (
    LONGEST_RETRY_SECONDS,
    OUTAGE_RETRY_SECONDS,
    Outcome,
    WorkQueue,
)
from initpipeline.runtime.reconcile import LOGGED, Reconciler

logger = logging.getLogger(__name__)


async def run_worker(
    queue: WorkQueue[Key],
    reconciler: Reconciler,
    leads: Callable[[], bool] = lambda: True,
    meter: Meter = Meter(),
) -> None:
    """Reconcile one key of the queue after another, until the task is cancelled. While ``leads``
    returns False, no key is reconciled. The caller must queue all keys when it returns True."""
    loop = asyncio.get_running_loop()
    while True:
        key = await queue.get()
        try:
            if leads():
                started_at = loop.time()
                result = await _reconcile(key, queue, reconciler)
                meter.reconciled(result, loop.time() - started_at)
                logger.debug("reconciled", extra={"pipeline": str(key)})
            else:
                reconciler.forget_if_deleted(key)
        finally:
            queue.done(key)
        # A reconcile that sends no request does not let other tasks run.
        await asyncio.sleep(0)


async def _reconcile(key: Key, queue: WorkQueue[Key], reconciler: Reconciler) -> str:
    """Returns the result, as ``Meter.reconciled`` gets it."""
    try:
        await reconciler.reconcile(key)
        return queue.outcome(key)
    except (ApiError, ConnectionFailed) as error:
        delay = queue.retry(key, _longest_delay(error), _requested_delay(error))
        about = reconciler.fields_of(key)
        fields = {**about, "error": clip(str(error), LOGGED), "retry_seconds": delay}
        logger.warning("API request failed", extra=fields)
        conflict = isinstance(error, ApiError) and error.code == 409
        return Outcome.REQUEUE if conflict else "error"
    except OperatorError:
        raise
    except Exception as error:
        delay = queue.retry(key)
        fields = {**reconciler.fields_of(key), "retry_seconds": delay}
        logger.exception("reconcile failed", extra=fields)
        await _report(key, error, reconciler)
        return "poisoned"


async def _report(key: Key, error: Exception, reconciler: Reconciler) -> None:
    """Report the exception in the pipeline's conditions. A failure to do so is only logged."""
    try:
        await reconciler.report_error(key, error)
    except (ApiError, ConnectionFailed) as why:
        fields = {**reconciler.fields_of(key), "error": clip(str(why), LOGGED)}
        logger.warning("failure not reported", extra=fields)
    except Exception:
        logger.exception("failure not reported", extra=reconciler.fields_of(key))


def _longest_delay(error: ApiError | ConnectionFailed) -> float:
    """Returns the longest delay before a retry. It is short if the API server is unavailable, or
    refuses the operator's credentials or permissions, because all pipelines must be reconciled soon
    after that has ended."""
    if isinstance(error, ConnectionFailed) or error.code in {401, 429} or error.code >= 500:
        return OUTAGE_RETRY_SECONDS
    denied = error.code == 403 and admission.is_denied(str(error.status.get("message")))
    return OUTAGE_RETRY_SECONDS if denied else LONGEST_RETRY_SECONDS


def _requested_delay(error: ApiError | ConnectionFailed) -> float:
    """Returns the delay that the API server requests with Retry-After, limited because a proxy may
    request hours."""
    requested = error.retry_seconds if isinstance(error, ApiError) else 0
    return min(requested, OUTAGE_RETRY_SECONDS)
