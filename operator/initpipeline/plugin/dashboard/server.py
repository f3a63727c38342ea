"""Serves the pages, their streams of changes, logs and actions."""

import asyncio
import contextlib
import json
import logging
import re
import signal
import socket
import threading
import webbrowser
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, Final, TypeVar

from aiohttp import web
from markupsafe import Markup

from initpipeline.api import names
from initpipeline.core.text import plain
from initpipeline.plugin import signals
from initpipeline.plugin.cluster.client import NAME, ClusterClient, Kind
from initpipeline.plugin.cluster.log_reader import LogReader
from initpipeline.plugin.dashboard import change, pages, security
from initpipeline.plugin.dashboard.actions import Action, patch, preview
from initpipeline.plugin.dashboard.live import Entry, Key, Store, Watcher
from initpipeline.plugin.dashboard.logs import Reading, cut_lines, from_thread, in_thread
from initpipeline.plugin.errors import NotUsableError, PluginError
from initpipeline.plugin.report import log_parts
from initpipeline.plugin.report.explain import OPERATOR_TIMEOUT_SECONDS
from initpipeline.plugin.session import Target
from initpipeline.plugin.views.svg import STYLE

HOST: Final = "127.0.0.1"
REDRAW_SECONDS: Final = 10.0
"""How often the page of a pipeline is rendered if nothing changes: bars of the timeline grow. A
stream sends the time as often, so that it notices a browser that has gone."""
COALESCE_SECONDS: Final = 0.1
"""Changes within this time are sent together."""
BATCH_ROWS: Final = 100
"""Rows of the list that are sent at once."""
REVIEW_SECONDS: Final = 0.5
"""How long a page waits for the permissions before it is shown without them."""
IDENTITY_MARK: Final = "\x1e"
_NUMBER: Final = re.compile(r"[0-9]{1,18}")
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
    permissions: dict[str, pages.Permissions] = field(default_factory=dict)
    """By namespace, as last read."""
    reviews: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    """By namespace, the tasks that read the permissions at the moment."""
    outdated: set[str] = field(default_factory=set)
    """The namespaces of these tasks whose permissions must be read once more."""
    review_slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))
    """Bounds the threads of these tasks, so that actions do not wait for them."""
    rows: dict[Key, tuple[Entry, pages.Row]] = field(default_factory=dict)
    """The rows that were rendered last."""

    def application(self, port: int) -> web.Application:
        """Returns the application. Without its watches: see ``watch``."""
        made = web.Application(middlewares=[security.middleware(self.known, port)])  # type: ignore[list-item]
        made.on_response_prepare.append(security.set_headers)
        made.router.add_get("/", self.list_page)
        made.router.add_get("/-/{file}", self.static)
        made.router.add_get("/-/stream/list", self.list_stream, allow_head=False)
        made.router.add_get("/-/stream/{namespace}/{name}", self.pipeline_stream, allow_head=False)
        made.router.add_get("/-/log/{namespace}/{name}/{container}", self.log, allow_head=False)
        made.router.add_get("/{namespace}/{name}", self.pipeline_page)
        made.router.add_get("/{namespace}/{name}/run/{number:\\d+}", self.pipeline_page)
        made.router.add_get("/{namespace}/{name}/logs/{container}", self.log_page)
        if not self.read_only:
            made.router.add_get("/-/spec/{namespace}/{name}", self.spec)
            made.router.add_post("/-/plan/{namespace}/{name}", self.plan)
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
                now=_milliseconds(self.store),
                context=self.context,
                read_only=self.read_only,
                **values,
            )
        )
        return web.Response(text=html, content_type="text/html")

    async def list_page(self, request: web.Request) -> web.Response:  # noqa: ARG002
        rows = sorted(map(self._row, self.store.pipelines), key=lambda one: one.order)
        self.rows = {key: self.rows[key] for key in self.store.pipelines}
        return self._page(
            "list.html",
            title="All" if self.namespace is None else self.namespace,
            page="list",
            stream=f"/-/stream/list?since={self.store.version}",
            problems=Markup(pages.problems(self.store)),
            rows=[Markup(row.html) for row in rows],
        )

    def _row(self, key: Key) -> pages.Row:
        """Returns the row of an InitPipeline, which is rendered once for all browsers."""
        entry, known = self.store.pipelines[key], self.rows.get(key)
        if known is None or known[0] is not entry:
            known = self.rows[key] = entry, pages.row(entry, self.store.now())
        return known[1]

    async def list_stream(self, request: web.Request) -> web.StreamResponse:
        """Streams the rows that changed after the version of the page."""
        since = request.headers.get("Last-Event-ID") or request.query.get("since", "0")
        version = int(since) if _NUMBER.fullmatch(since) else 0
        sent = ""
        async with _stream(request, self.store) as (response, changed):
            while True:
                if version < self.store.forgotten:
                    await _send(response, self.store, self.store.version, {"reload": True})
                    return response
                rows, gone = self._list_changes(version)
                shown = pages.problems(self.store)
                if rows or gone or shown != sent:
                    sent, version = shown, self.store.version
                    # A slow browser delays the next batch, so no more than one is kept for it.
                    *batches, last = _batches(rows)
                    for batch in batches:
                        await _send(response, self.store, None, {"rows": self._row_data(batch)})
                    rest = {"gone": gone, "problems": shown}
                    await _send(
                        response, self.store, version, {"rows": self._row_data(last), **rest}
                    )
                await _next(response, self.store, changed)
        return response

    def _list_changes(self, version: int) -> tuple[list[Key], list[str]]:
        """Returns the InitPipelines that changed and those that were deleted after a version."""
        store = self.store
        if version == store.version:
            return [], []
        rows = [key for key, at in store.changed.items() if at > version]
        return rows, ["/".join(key) for key, at in store.gone.items() if at > version]

    def _row_data(self, keys: Iterable[Key]) -> list[dict[str, str]]:
        """Returns the rows of those that still exist."""
        return [self._row(key).data() for key in keys if key in self.store.pipelines]

    async def pipeline_page(self, request: web.Request) -> web.Response:
        key = _key(request)
        review = self._review(key[0])
        if key[0] not in self.permissions:
            # The page does not wait for a slow API server: the stream has what is read later.
            await asyncio.wait([review], timeout=REVIEW_SECONDS)
        rendered = self._sections(key)
        return self._page(
            "pipeline.html",
            title=key[1],
            page="pipeline",
            stream=f"/-/stream/{key[0]}/{key[1]}?seen={_digests(rendered)}",
            sections={name: Markup(html) for name, html in rendered.items()},
            exists=pages.view(self.store, key) is not None,
        )

    def _sections(self, key: Key, overdue: float = 0) -> Mapping[str, str]:
        permissions = self.permissions.get(key[0]) or pages.Permissions(not self.read_only)
        return pages.sections(self.store, key, overdue, self.flags(key), permissions)

    def _review(self, namespace: str) -> asyncio.Task[None]:
        """Starts to read the permissions in a namespace. If they are being read, they are read once
        more after that. The pages show them when they have changed."""
        if namespace in self.reviews:
            self.outdated.add(namespace)
            return self.reviews[namespace]

        def ended(task: asyncio.Task[None]) -> None:
            del self.reviews[namespace]
            if namespace in self.outdated and not task.cancelled():
                self.outdated.remove(namespace)
                self._review(namespace)

        task = self.reviews[namespace] = asyncio.create_task(self._read_permissions(namespace))
        task.add_done_callback(ended)
        return task

    async def _read_permissions(self, namespace: str) -> None:
        patch = ""
        try:
            async with self.review_slots:
                if not self.read_only:
                    patch = await self._denied("patch", names.PLURAL, namespace)
                logs = await self._denied("get", "pods/log", namespace)
        except (PluginError, OSError):
            return  # What is known stays.
        read = pages.Permissions(not self.read_only, patch, logs)
        if self.permissions.get(namespace) != read:
            self.permissions[namespace] = read
            self.store.notify()

    async def _denied(self, verb: str, resource: str, namespace: str) -> str:
        """Returns which permission is missing. Empty: it is granted."""
        group = names.GROUP if resource == names.PLURAL else ""
        allowed = await self._call(
            lambda client: client.is_allowed(verb, resource, namespace, group)
        )
        return "" if allowed else f'you may not "{verb}" {resource} in namespace {namespace}'

    async def pipeline_stream(self, request: web.Request) -> web.StreamResponse:
        """Streams the parts of the page that changed."""
        key, sent, absence = _key(request), dict[str, str](), _Absence()
        self._review(key[0])
        # The page has just been loaded. A browser that reconnects gets all parts.
        seen = "" if "Last-Event-ID" in request.headers else request.query.get("seen", "")
        async with _stream(request, self.store, key) as (response, changed):
            while True:
                overdue = absence.seconds(self.store, key)
                rendered = self._sections(key, overdue)
                if seen:
                    digests = zip(seen.split(","), rendered.items(), strict=False)
                    sent = {
                        name: html for digest, (name, html) in digests if digest == _digest(html)
                    }
                    seen = ""
                parts = {name: html for name, html in rendered.items() if sent.get(name) != html}
                if parts:
                    sent.update(parts)
                    await _send(response, self.store, self.store.version, {"parts": parts})
                await _next(response, self.store, changed, absence.next_check)
        return response

    async def log_page(self, request: web.Request) -> web.Response:
        key, container = _key(request), _container(request)
        namespace, name = key
        previous = request.query.get("previous") == "1"
        entry = self.store.pipelines.get(key)
        run = entry.pipeline.status.run if entry and entry.pipeline else None
        return self._page(
            "log.html",
            title=f"{name} {container}",
            page="log",
            stream="",
            namespace=namespace,
            name=name,
            container=container,
            previous=previous,
            run=run.number if run else None,
            source=f"/-/log/{namespace}/{name}/{container}?previous={int(previous)}",
        )

    async def log(self, request: web.Request) -> web.StreamResponse:
        """Streams the log of a container: for the page with long lines cut, or as a download."""
        key, container = _key(request), _container(request)
        previous, whole = (request.query.get(flag) == "1" for flag in ("previous", "download"))
        response = web.StreamResponse()
        response.content_type = "application/octet-stream" if whole else "text/plain"
        if whole:
            response.headers["Content-Disposition"] = "attachment"
        await response.prepare(request)
        found = await self._part(response, key, container, previous)
        if found is None:
            return response
        reading = Reading(await in_thread(self._client))
        reader = LogReader(reading, Target(*key), *found)
        chunks = reader.once() if whole else reader.all(follow=not previous)
        shown = chunks if whole else _identified(cut_lines(chunks), reader)
        async with contextlib.aclosing(from_thread(shown, reading.end)) as arriving:
            try:
                async for chunk in arriving:
                    await response.write(chunk)
            except PluginError as error:
                if whole and request.transport is not None:
                    request.transport.abort()  # The browser reports an incomplete download.
                else:
                    await response.write(f"[{plain(str(error))}]\n".encode())
        return response

    async def _part(
        self, response: web.StreamResponse, key: Key, container: str, previous: bool
    ) -> tuple[str, log_parts.Part] | None:
        """Waits until the container has a log. Returns the UID of its Pod, and the attempt. None:
        it has no such log, and the reason was written."""
        changed = self.store.subscribe(key)
        try:
            waiting = False
            while True:
                found = pages.log_part(self.store, key, container, previous)
                if found is not None or previous or key not in self.store.pipelines:
                    break
                if not waiting:
                    await response.write(b"[waiting: the container has not started in this run]\n")
                waiting = True
                await changed.wait()
                changed.clear()
        finally:
            self.store.unsubscribe(changed)
        if found is None:
            await response.write(
                b"[no log: the Pod, or this attempt of the container, does not exist any more]\n"
            )
        return found

    async def spec(self, request: web.Request) -> web.Response:
        """Returns the manifest that a user can edit for a dry run."""
        entry = self.store.pipelines.get(_key(request))
        if entry is None:
            raise web.HTTPNotFound(text="the InitPipeline does not exist")
        return web.Response(text=change.editable(entry.raw))

    async def plan(self, request: web.Request) -> web.Response:
        """Returns what the operator would do after a change, from a dry run."""
        key, text = _key(request), (await request.read()).decode(errors="replace")
        try:
            lines = await self._call(lambda client: change.lines(client, key, text))
        except PluginError as error:
            return web.json_response({"error": plain(str(error))}, status=409)
        return web.json_response({"lines": [plain(line) for line in lines]})

    async def preview(self, request: web.Request) -> web.Response:
        """Returns what an action would do."""
        found = pages.view(self.store, _key(request))
        if found is None:
            raise web.HTTPNotFound(text="the InitPipeline does not exist")
        lines = preview(_action(request), found.entry.raw, found.facts, self.store.now())
        items = Markup("").join(Markup("<li>{}</li>").format(pages.markup(one)) for one in lines)
        return web.json_response({"html": items})

    async def act(self, request: web.Request) -> web.Response:
        """Carries out an action as the user of the kubeconfig."""
        (namespace, name), action = _key(request), _action(request)
        body = patch(action, self.new_token())
        try:
            await self._call(lambda client: client.patch_pipeline(namespace, name, body))
        except PluginError as error:
            self._review(namespace)
            return web.json_response({"error": plain(str(error))}, status=409)
        done = {Action.RERUN: "a new run is requested", Action.SUSPEND: "suspended"}
        return web.json_response({"done": done.get(action, "resumed")})

    async def _call(self, request: Callable[[ClusterClient], T]) -> T:
        """Sends a request in a thread, with a client that no other thread uses meanwhile."""

        def call() -> T:
            client = self._client()
            try:
                return request(client)
            except NotUsableError:
                # The credentials may have expired. New clients read the kubeconfig again.
                self.clients.clear()
                client = self.connect()
                raise
            finally:
                self.clients.append(client)

        return await in_thread(call)

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


def _identified(pieces: Iterator[str], reader: LogReader) -> Iterator[bytes]:
    """Yields the log after a line with its identity, by which the page recognizes it when it
    continues. That line starts with a control character, which no line of a log has."""
    for number, piece in enumerate(pieces):
        if number == 0:
            yield f"{IDENTITY_MARK}{reader.identity}\n".encode()
        yield piece.encode()


@contextlib.asynccontextmanager
async def _stream(
    request: web.Request, store: Store, key: Key | None = None
) -> AsyncIterator[tuple[web.StreamResponse, asyncio.Event]]:
    """Starts a stream of events. Yields it and the event that is set at each change."""
    response = web.StreamResponse()
    response.content_type = "text/event-stream"
    await response.prepare(request)
    changed = store.subscribe(key)
    try:
        await _send(response, store, None, {})
        yield response, changed
    except (ConnectionError, asyncio.CancelledError):
        pass  # The browser has gone, or the program ends.
    finally:
        store.unsubscribe(changed)


async def _send(
    response: web.StreamResponse, store: Store, version: int | None, message: dict[str, Any]
) -> None:
    """Sends a message with the present time. ``version`` is that from which a browser that
    reconnects continues. None: more messages with the same version follow."""
    known = "" if version is None else f"id: {version}\n"
    data = json.dumps({**message, "now": _milliseconds(store)})
    await response.write(f"{known}data: {data}\n\n".encode())


def _milliseconds(store: Store) -> int:
    """Returns the time of the API server's clock, in milliseconds since 1970."""
    return int(store.now().timestamp() * 1000)


async def _next(
    response: web.StreamResponse,
    store: Store,
    changed: asyncio.Event,
    seconds: float = REDRAW_SECONDS,
) -> None:
    """Waits for the next change, or for ``seconds``."""
    try:
        await asyncio.wait_for(changed.wait(), seconds)
    except TimeoutError:
        await _send(response, store, None, {})
        return
    await asyncio.sleep(COALESCE_SECONDS)
    changed.clear()


def _batches(rows: list[Key]) -> list[list[Key]]:
    """Returns the rows in batches, at least one, which may be empty."""
    return [rows[at : at + BATCH_ROWS] for at in range(0, max(1, len(rows)), BATCH_ROWS)]


def _digests(rendered: Mapping[str, str]) -> str:
    """Returns the digests of the parts of a page, by which a stream recognizes them."""
    return ",".join(map(_digest, rendered.values()))


def _digest(html: str) -> str:
    return f"{zlib.crc32(html.encode()):x}"


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
    if not NAME.fullmatch(name):
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


async def started_runner(dashboard: Dashboard, listener: socket.socket) -> web.AppRunner:
    """Serves on a socket until the runner is cleaned up. Requests are not logged, since addresses
    may have the token. A handler ends when its browser has gone."""
    runner = web.AppRunner(
        dashboard.application(listener.getsockname()[1]),
        access_log=None,
        shutdown_timeout=0.5,
        handler_cancellation=True,
    )
    await runner.setup()
    await web.SockSite(runner, listener).start()
    return runner


async def serve(
    dashboard: Dashboard, listener: socket.socket, started: Callable[[str, str], None]
) -> None:
    """Serves until SIGINT, SIGTERM or SIGHUP. ``started`` is called with the address, and with one
    that can be opened once."""
    # Neither requests nor errors are logged: addresses may have the token.
    logging.getLogger("aiohttp").addHandler(logging.NullHandler())
    logging.getLogger("aiohttp").propagate = False
    runner = await started_runner(dashboard, listener)
    port = listener.getsockname()[1]
    ended = asyncio.Event()
    for number in (signal.SIGINT, *signals.ending()):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    watchers = dashboard.watch()
    try:
        address = f"http://{HOST}:{port}/?token="
        started(address + dashboard.known.token, address + dashboard.known.new_token())
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
