"""Implements ``dashboard``, which serves a live page on the loopback interface."""

import asyncio
import itertools
import threading
from pathlib import Path
from typing import Final

from initpipeline.plugin.cluster import kubeconfig
from initpipeline.plugin.cluster.client import ClusterClient
from initpipeline.plugin.commands.rerun import new_token
from initpipeline.plugin.errors import NotUsableError
from initpipeline.plugin.options import Subparsers, command
from initpipeline.plugin.session import Session, Target

_DEFAULT_PORT: Final = 8643

_EXAMPLES = """\
  # Show the InitPipelines of all namespaces in a browser
  kubectl initpipeline dashboard -A

  # Show those of a namespace, on any free port, without actions that change them
  kubectl initpipeline dashboard -n team-a --port 0 --read-only
"""

_DESCRIPTION = """\
Serve a live page on the loopback interface, until Ctrl-C. The page shows the InitPipelines of a
namespace, or of all namespaces with -A, and for each one its steps, timeline, history, logs and
events, and what happens next. It can start runs, suspend and resume. The page acts as the user of
the kubeconfig and has no other permissions.

The printed address has a token. The first request of the browser exchanges the token for a cookie.
The page loads nothing from other hosts."""

_CODES = """\
exit codes:
  0    ended by Ctrl-C
  1    the port is in use
  2    invalid usage
  3    the kubeconfig cannot be used
"""


def add(subparsers: Subparsers) -> None:
    parser = command(
        subparsers,
        "dashboard",
        run,
        summary="Serve a live page of InitPipelines on this machine",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
        codes=_CODES,
    )
    parser.add_argument(
        "--port",
        type=int,
        default=_DEFAULT_PORT,
        metavar="PORT",
        help=f"port of the loopback interface; 0: any free port (default: {_DEFAULT_PORT})",
    )
    parser.add_argument(
        "--read-only", action="store_true", help="serve no action that changes an InitPipeline"
    )
    parser.add_argument("--no-open", action="store_true", help="do not open a browser")


def run(session: Session) -> int:
    # Imported here, so that no other command loads the server and the templates.
    from initpipeline.plugin.dashboard import server

    options = session.options
    access = kubeconfig.load(options.kubeconfig, options.context)
    numbers = itertools.count()
    writing, ended = threading.Lock(), threading.Event()

    def connect() -> ClusterClient:
        """Returns a client with the present credentials of the kubeconfig, since the user may have
        logged in again, and with a directory of its own for private keys."""
        config = kubeconfig.load(options.kubeconfig, options.context)
        with writing:
            if ended.is_set():
                raise NotUsableError("the dashboard has ended")
            directory = Path(session.key_directory) / str(next(numbers))
            directory.mkdir(mode=0o700)
            return ClusterClient(config, directory)

    dashboard = server.Dashboard(
        connect,
        lambda: new_token(dashboard.store.now()),
        session.scope,
        f"context {access.context}, {session.cluster.server}, "
        + ("all namespaces" if session.scope is None else f"namespace {session.scope}"),
        read_only=options.read_only,
        flags=lambda key: session.flags(Target(*key)),
    )

    def started(address: str, once: str) -> None:
        session.out.print(address, soft_wrap=True)
        session.note("Ctrl-C ends the dashboard")
        if not options.no_open:
            server.open_browser(once)

    listener = server.listen(options.port)
    asyncio.run(server.serve(dashboard, listener, started))
    # The private keys are deleted now. A thread must not write one meanwhile.
    with writing:
        ended.set()
    return 0
