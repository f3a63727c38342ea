"""Serves probes and metrics over HTTP."""

import contextlib
from collections.abc import AsyncIterator, Mapping

from aiohttp import web
from aiohttp.typedefs import Handler

from initpipeline.runtime.errors import OperatorError, one_line


@contextlib.asynccontextmanager
async def served(
    what: str, option: str, address: str, handlers: Mapping[str, Handler]
) -> AsyncIterator[None]:
    """Answer GET requests for these paths on this address, HOST:PORT, within the context. Raises
    OperatorError if the address cannot be used. The message names ``what``, since it is not served,
    and ``option``, which sets the address."""
    app = web.Application()
    for path, handler in handlers.items():
        app.router.add_get(path, handler)
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1)
    await runner.setup()
    host, _, port = address.rpartition(":")
    try:
        try:
            await web.TCPSite(runner, host.strip("[]"), int(port)).start()
        except OSError as error:
            raise OperatorError(
                f"{what} cannot be served on {address} ({one_line(error)}): set {option}"
            ) from error
        yield
    finally:
        await runner.cleanup()
