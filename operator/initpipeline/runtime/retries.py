"""The delays between attempts, and a loop that repeats a watch or a list.

An error is retried without end, as in client-go's Reflector, so the operator survives any outage of
the API server.
"""

import asyncio
import logging
import math
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from initpipeline.runtime.errors import ApiError, ConnectionFailed, OperatorError

logger = logging.getLogger(__name__)

RETRY_SECONDS: Final = (1, 1, 2, 3, 5, 8, 13, 21, 30)
"""The delays before retries. The last one repeats."""

SHORT_SECONDS: Final = 1.0
"""A watch that ends earlier is followed by a delay, even if it ends without an error."""


def retry_delay(failures: int, requested: float = 0.0) -> float:
    """Returns the delay in seconds before the next attempt. ``failures`` is the number of failures
    in a row before the last one, ``requested`` the delay that the API server requests."""
    delay = RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)]
    return max(delay, limited(requested))


def limited(requested: float) -> float:
    """Returns the delay that the API server requests, or the longest of RETRY_SECONDS, because a
    proxy may request a day."""
    return min(requested, RETRY_SECONDS[-1])


def jittered(seconds: float) -> float:
    """Returns the delay with up to a fifth added, like client-go's wait.Jitter, so that what failed
    together is not retried together."""
    return seconds * random.uniform(1, 1.2)


async def repeat(
    failure: str,
    fields: Mapping[str, object],
    watch: Callable[[Callable[[], None]], Awaitable[None]],
    once: bool = False,
) -> None:
    """Call ``watch`` again and again, until the task is cancelled. Logs each error as ``failure``
    with these fields, and waits after it. The delays grow, until a watch has been open for longer
    than the last delay. ``watch`` must call its argument when the API server has accepted the
    watch. With ``once``, returns when ``watch`` has succeeded. Raises OperatorError if ``watch``
    does."""
    loop = asyncio.get_running_loop()
    opened_at = math.inf

    def opened() -> None:
        nonlocal opened_at
        opened_at = loop.time()

    failures, delay = 0, 0.0
    while True:
        opened_at, requested = math.inf, 0
        try:
            await watch(opened)
            if once:
                return
            if loop.time() - opened_at >= SHORT_SECONDS:
                failures = 0
                continue
        except OperatorError:
            raise
        except (ApiError, ConnectionFailed) as error:
            logger.warning(failure, extra={**fields, "error": str(error)})
            requested = error.retry_seconds if isinstance(error, ApiError) else 0
        except Exception:
            logger.exception(failure, extra=dict(fields))
        if loop.time() - opened_at > max(SHORT_SECONDS, delay):
            failures = 0
        delay = retry_delay(failures)
        await asyncio.sleep(jittered(retry_delay(failures, requested)))
        failures += 1
