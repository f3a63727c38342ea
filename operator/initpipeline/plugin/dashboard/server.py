"""Serves the pages, their streams of changes, logs and actions."""

import asyncio
import codecs
import contextlib
import json
import logging
import signal
import socket
import threading
import webbrowser
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, Final, TypeVar

from aiohttp import web
from markupsafe import Markup

from initpipeline.api import names
from initpipeline.core.text import plain
from initpipeline.plugin.cluster.client import ClusterClient, Kind
from initpipeline.plugin.dashboard import pages, security
from initpipeline.plugin.dashboard.actions import Action, patch, preview
from initpipeline.plugin.dashboard.live import Key, Store, Watcher
from initpipeline.plugin.errors import PluginError
from initpipeline.plugin.report.explain import OPERATOR_TIMEOUT_SECONDS
from initpipeline.plugin.views.svg import STYLE

HOST: Final = "127.0.0.1"
REDRAW_SECONDS: Final = 10.0
"""How often the page of a pipeline is rendered if nothing changes: bars of the timeline grow. A
stream sends a comment as often, so that it notices a browser that has gone."""
COALESCE_SECONDS: Final = 0.1
"""Changes within this time are sent together."""
MAX_LINE: Final = 4096
"""Characters of a line of a log that the page shows. The download has all of them."""
_STATIC: Final = {"dashboard.css": "text/css", "dashboard.js": "text/javascript"}
_ICON: Final = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><path fill="#0969da" '
    'd="M1 2h6v3H1zM4 6.5h6v3H4zM7 11h8v3H7z"/></svg>'
)

T = TypeVar("T")


@dataclass
class Dashboard:
    """What all requests share."""

    connect: Callable[[], ClusterClient]
    """Returns a new client. Each thread needs a client of its own."""
    new_token: Callable[[], str]
    """Returns a token that requests a run."""
    namespace: str | None
    """None: all namespaces."""
    context: str
    """A text that identifies the cluster, for the head of each page."""
    read_only: bool = False
    flags: Callable[[Key], str] = lambda _: ""
    """Returns the flags with which a kubectl command that is shown finds an InitPipeline."""
    store: Store = field(default_factory=Store)
    known: security.Secrets = field(default_factory=security.Secrets)
    clients: list[ClusterClient] = field(default_factory=list)
    """Clients that no request uses at the moment."""

    def application(self, port: int) -> web.Application:
        """Returns the application. Without its watches: see ``watch``."""
        made = web.Application(middlewares=[security.middleware(self.known, port)])  # type: ignore[list-item]
        made.router.add_get("/", self.list_page)
        made.router.add_get("/-/{file}", self.static)
        made.router.add_get("/-/stream/list", self.list_stream)
        made.router.add_get("/-/stream/{namespace}/{name}", self.pipeline_stream)
        made.router.add_get("/-/log/{namespace}/{name}/{container}", self.log)
        made.router.add_get("/{namespace}/{name}", self.pipeline_page)
        made.router.add_get("/{namespace}/{name}/run/{number:\\d+}", self.pipeline_page)
        made.router.add_get("/{namespace}/{name}/logs/{container}", self.log_page)
        if not self.read_only:
            made.router.add_get("/-/preview/{namespace}/{name}/{action}", self.preview)
            made.router.add_post("/-/action/{namespace}/{name}/{action}", self.act)
        return made

    def watch(self) -> list[Watcher]:
        """Starts one watch per kind."""
        loop = asyncio.get_running_loop()
        made = [Watcher(kind, self.namespace, self.connect, self.store, loop) for kind in Kind]
        for one in made:
            one.start()
        return made

    async def static(self, request: web.Request) -> web.Response:
        file = request.match_info["file"]
        if file == "icon.svg":
            return web.Response(text=_ICON, content_type="image/svg+xml")
        if file == "timeline.css":
            return web.Response(text=STYLE, content_type="text/css")
        if file not in _STATIC:
            raise web.HTTPNotFound
        text = files("initpipeline.plugin.dashboard").joinpath("static", file).read_text("utf-8")
        return web.Response(text=text, content_type=_STATIC[file])

    def _page(self, template: str, **values: Any) -> web.Response:
        html = (
            pages.environment()
            .get_template(template)
            .render(
                csrf=self.known.csrf,
                now=self.store.now(),
                context=self.context,
                read_only=self.read_only,
                **values,
            )
        )
        return web.Response(text=html, content_type="text/html")

    async def list_page(self, request: web.Request) -> web.Response:  # noqa: ARG002
        rows = sorted(
            (pages.row(entry) for entry in self.store.pipelines.values()), key=lambda one: one.order
        )
        return self._page(
            "list.html",
            title="All" if self.namespace is None else self.namespace,
            page="list",
            stream=f"/-/stream/list?since={self.store.version}",
            problems=Markup(pages.problems(self.store)),
            rows=[Markup(row.html) for row in rows],
        )

    async def list_stream(self, request: web.Request) -> web.StreamResponse:
        """Streams the rows that changed after the version of the page."""
        since = request.headers.get("Last-Event-ID") or request.query.get("since", "0")
        version = int(since) if since.isdecimal() else 0
        sent = ""
        async with _stream(request, self.store) as (response, changed):
            while True:
                if version < self.store.forgotten:
                    await _send(response, self.store.version, {"reload": True})
                    return response
                message = self._list_changes(version)
                shown = pages.problems(self.store)
                if message["rows"] or message["gone"] or shown != sent:
                    sent, version = shown, self.store.version
                    await _send(response, version, {**message, "problems": shown})
                await _next(response, changed)

    def _list_changes(self, version: int) -> dict[str, Any]:
        store = self.store
        rows = [key for key, at in store.changed.items() if at > version]
        gone = [key for key, at in store.gone.items() if at > version]
        return {
            "rows": [pages.row(store.pipelines[key]).data() for key in rows],
            "gone": ["/".join(key) for key in gone],
        }

    async def pipeline_page(self, request: web.Request) -> web.Response:
        key = _key(request)
        rendered = pages.sections(self.store, key, flags=self.flags(key))
        return self._page(
            "pipeline.html",
            title=key[1],
            page="pipeline",
            stream=f"/-/stream/{key[0]}/{key[1]}",
            sections={name: Markup(html) for name, html in rendered.items()},
            denied="" if self.read_only else await self._denied(key[0]),
            exists=pages.view(self.store, key) is not None,
        )

    async def _denied(self, namespace: str) -> str:
        """Returns which permission an action lacks. Empty: it is allowed or not known."""
        try:
            allowed = await self._call(
                lambda client: client.is_allowed("patch", names.PLURAL, namespace, names.GROUP)
            )
        except PluginError:
            return ""
        return "" if allowed else f'you may not "patch" {names.PLURAL} in namespace {namespace}'

    async def pipeline_stream(self, request: web.Request) -> web.StreamResponse:
        """Streams the parts of the page that changed."""
        key, sent, absence = _key(request), dict[str, str](), _Absence()
        async with _stream(request, self.store) as (response, changed):
            while True:
                overdue = absence.seconds(self.store, key)
                rendered = pages.sections(self.store, key, overdue, self.flags(key))
                parts = {name: html for name, html in rendered.items() if sent.get(name) != html}
                if parts:
                    sent.update(parts)
                    await _send(response, self.store.version, {"parts": parts})
                await _next(response, changed, absence.next_check)

    async def log_page(self, request: web.Request) -> web.Response:
        (namespace, name), container = _key(request), _container(request)
        previous = request.query.get("previous") == "1"
        return self._page(
            "log.html",
            title=f"{name} {container}",
            page="log",
            stream="",
            namespace=namespace,
            name=name,
            container=container,
            previous=previous,
            source=f"/-/log/{namespace}/{name}/{container}?previous={int(previous)}",
        )

    async def log(self, request: web.Request) -> web.StreamResponse:
        """Streams the log of a container: for the page with long lines cut, or as a download."""
        (namespace, name), container = _key(request), _container(request)
        previous, whole = (request.query.get(flag) == "1" for flag in ("previous", "download"))
        client = await asyncio.to_thread(self._client)
        chunks = client.read_log(
            namespace, name, container, follow=not previous and not whole, previous=previous
        )
        shown = chunks if whole else (line.encode() for line in cut_lines(chunks))
        response = web.StreamResponse(headers=security.HEADERS)
        response.content_type = "application/octet-stream" if whole else "text/plain"
        if whole:
            response.headers["Content-Disposition"] = "attachment"
        await response.prepare(request)
        async with contextlib.aclosing(_from_thread(shown)) as arriving:
            try:
                async for chunk in arriving:
                    await response.write(chunk)
            except PluginError as error:
                if not whole:
                    await response.write(f"[{plain(str(error))}]\n".encode())
        return response

    async def preview(self, request: web.Request) -> web.Response:
        """Returns what an action would do."""
        found = pages.view(self.store, _key(request))
        if found is None:
            raise web.HTTPNotFound(text="the InitPipeline does not exist")
        lines = preview(_action(request), found.entry.raw, found.facts, self.store.now())
        return web.json_response({"effects": [plain(line) for line in lines]})

    async def act(self, request: web.Request) -> web.Response:
        """Carries out an action as the user of the kubeconfig."""
        (namespace, name), action = _key(request), _action(request)
        change = patch(action, self.new_token())
        try:
            await self._call(lambda client: client.patch_pipeline(namespace, name, change))
        except PluginError as error:
            return web.json_response({"error": plain(str(error))}, status=409)
        done = {Action.RERUN: "a new run is requested", Action.SUSPEND: "suspended"}
        return web.json_response({"done": done.get(action, "resumed")})

    async def _call(self, request: Callable[[ClusterClient], T]) -> T:
        """Sends a request in a thread, with a client that no other thread uses meanwhile."""

        def call() -> T:
            client = self._client()
            try:
                return request(client)
            finally:
                self.clients.append(client)

        return await asyncio.to_thread(call)

    def _client(self) -> ClusterClient:
        try:
            return self.clients.pop()
        except IndexError:
            return self.connect()


@dataclass
class _Absence:
    """How long the operator has not acted on a version of an InitPipeline."""

    version: str = ""
    since: float = 0.0
    next_check: float = REDRAW_SECONDS

    def seconds(self, store: Store, key: Key) -> float:
        """Returns the time if it is longer than a running operator needs, or else 0."""
        self.next_check = REDRAW_SECONDS
        found, now = pages.view(store, key), asyncio.get_running_loop().time()
        if found is None or not found.overdue:
            self.version = ""
            return 0
        version = str(found.facts.pipeline.resource_version)
        if version != self.version:
            self.version, self.since = version, now
        waited = now - self.since
        if waited > OPERATOR_TIMEOUT_SECONDS:
            return waited
        self.next_check = OPERATOR_TIMEOUT_SECONDS - waited + 0.1
        return 0


def cut_lines(chunks: Iterator[bytes]) -> Iterator[str]:
    """Yields the text of a log for the page, without control characters, as it arrives.

    A line longer than MAX_LINE is cut. A note at its end has the number of bytes that are not
    shown.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    room, hidden = MAX_LINE, 0
    for chunk in chunks:
        out: list[str] = []
        for position, piece in enumerate(decoder.decode(chunk).split("\n")):
            if position:
                out.append(_hidden(hidden) + "\n")
                room, hidden = MAX_LINE, 0
            out.append(plain(piece[:room]).replace("\n", " "))
            hidden += len(piece[room:].encode())
            room -= len(piece[:room])
        yield "".join(out)
    yield decoder.decode(b"", final=True) + _hidden(hidden)


def _hidden(count: int) -> str:
    return f" [{count} more bytes: use Download]" if count else ""


async def _from_thread(chunks: Iterator[T]) -> AsyncGenerator[T]:
    """Yields the items of a blocking iterator. Raises what it raises."""
    loop, queue = asyncio.get_running_loop(), asyncio.Queue[T | Exception | None](16)
    ended = threading.Event()

    def put(item: T | Exception | None) -> bool:
        if ended.is_set():
            return False
        future = asyncio.run_coroutine_threadsafe(queue.put(item), loop)
        while not ended.is_set():
            with contextlib.suppress(TimeoutError):
                future.result(0.5)
                return True
        future.cancel()
        return False

    def read() -> None:
        try:
            for chunk in chunks:
                if not put(chunk):
                    return
            put(None)
        except Exception as error:
            put(error)

    threading.Thread(target=read, name="log", daemon=True).start()
    try:
        while (item := await queue.get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield item
    finally:
        ended.set()


@contextlib.asynccontextmanager
async def _stream(
    request: web.Request, store: Store
) -> AsyncIterator[tuple[web.StreamResponse, asyncio.Event]]:
    """Starts a stream of events. Yields it and the event that is set at each change."""
    response = web.StreamResponse(headers={**security.HEADERS})
    response.content_type = "text/event-stream"
    await response.prepare(request)
    changed = store.subscribe()
    try:
        yield response, changed
    except (ConnectionError, asyncio.CancelledError):
        pass  # The browser has gone, or the program ends.
    finally:
        store.unsubscribe(changed)


async def _send(response: web.StreamResponse, version: int, message: Any) -> None:
    await response.write(f"id: {version}\ndata: {json.dumps(message)}\n\n".encode())


async def _next(
    response: web.StreamResponse, changed: asyncio.Event, seconds: float = REDRAW_SECONDS
) -> None:
    """Waits for the next change, or for ``seconds``."""
    try:
        await asyncio.wait_for(changed.wait(), seconds)
    except TimeoutError:
        await response.write(b": alive\n\n")
        return
    await asyncio.sleep(COALESCE_SECONDS)
    changed.clear()


def _key(request: web.Request) -> Key:
    """Returns the InitPipeline in the address. Raises HTTPNotFound if it cannot be a name."""
    namespace, name = request.match_info["namespace"], request.match_info["name"]
    for one in (namespace, name):
        _check_name(one)
    return namespace, name


def _container(request: web.Request) -> str:
    container = request.match_info["container"]
    _check_name(container)
    return container


def _check_name(name: str) -> None:
    if not all(letter.isascii() and (letter.isalnum() or letter in "-.") for letter in name):
        raise web.HTTPNotFound(text="there is no such page")


def _action(request: web.Request) -> Action:
    try:
        return Action(request.match_info["action"])
    except ValueError:
        raise web.HTTPNotFound(text="there is no such action") from None


def listen(port: int) -> socket.socket:
    """Returns a socket of the loopback interface. Port 0: any free port. Raises PluginError."""
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((HOST, port))
    except (OSError, OverflowError) as error:
        made.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise PluginError(
            f"cannot listen on {HOST}:{port}: {reason}; choose another port with --port, or 0 for "
            "any free port"
        ) from error
    made.listen()
    return made


async def serve(
    dashboard: Dashboard, listener: socket.socket, started: Callable[[str], None]
) -> None:
    """Serves until SIGINT or SIGTERM. ``started`` is called with the address."""
    # Neither requests nor errors are logged: addresses may have the token.
    logging.getLogger("aiohttp").addHandler(logging.NullHandler())
    logging.getLogger("aiohttp").propagate = False
    port = listener.getsockname()[1]
    runner = web.AppRunner(
        dashboard.application(port),
        access_log=None,
        shutdown_timeout=0.5,
        handler_cancellation=True,
    )
    await runner.setup()
    await web.SockSite(runner, listener).start()
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    watchers = dashboard.watch()
    try:
        started(f"http://{HOST}:{port}/?token={dashboard.known.token}")
        await ended.wait()
    finally:
        for one in watchers:
            one.end()
        await runner.cleanup()


def open_browser(address: str) -> None:
    """Opens the address in a browser, if there is a graphical one."""
    with contextlib.suppress(webbrowser.Error):
        browser = webbrowser.get()
        if not isinstance(browser, webbrowser.GenericBrowser):
            threading.Thread(target=browser.open, args=(address,), daemon=True).start()
