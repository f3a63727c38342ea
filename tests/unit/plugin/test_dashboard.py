"""Tests the server of the dashboard without a cluster: routes, escaping, headers, streams."""

import asyncio
import json
import re
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
import yaml
from aiohttp import ClientResponse, CookieJar
from aiohttp.test_utils import TestClient, TestServer
from yarl import URL

from initpipeline.api.raw import Raw
from initpipeline.core.text import is_plain
from initpipeline.plugin import terminal
from initpipeline.plugin.cluster.client import ClusterClient, Kind
from initpipeline.plugin.dashboard import pages, server
from initpipeline.plugin.dashboard.live import MAX_GONE, Entry, Store, Watcher
from initpipeline.plugin.dashboard.logs import MAX_LINE, cut_lines, in_thread
from initpipeline.plugin.dashboard.security import CSRF_HEADER, cookie_name
from initpipeline.plugin.dashboard.server import Dashboard
from initpipeline.plugin.errors import NotUsableError, PluginError
from tests.builders import NAME, NAMESPACE, at, fresh_pod, pipeline, running_pod
from tests.unit.core.simulation import started

EVIL = "<script>alert(1)</script>\x1b[2J\u202e\"'&"
PATH = f"/{NAMESPACE}/{NAME}"


class FakeCluster:
    """Records patches. It permits all verbs except those in ``denied``."""

    def __init__(self) -> None:
        self.patches: list[tuple[str, str, Any]] = []
        self.denied: set[str] = set()
        self.error: PluginError | None = None
        self.down: PluginError | None = None
        self.answers = threading.Event()
        self.answers.set()

    def is_allowed(self, verb: str, *_: str) -> bool:
        self.answers.wait()
        if self.down:
            raise self.down
        return verb not in self.denied

    def patch_pipeline(self, namespace: str, name: str, change: Any) -> Raw:
        if self.error:
            raise self.error
        self.patches.append((namespace, name, change))
        return {}


class Page:
    """A dashboard on a free port, and a browser that has the cookie."""

    def __init__(self, dashboard: Dashboard, cluster: FakeCluster, client: Any) -> None:
        self.dashboard = dashboard
        self.cluster = cluster
        self.client = client

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.client.port}"

    async def get(self, path: str, **headers: str) -> ClientResponse:
        url = URL(f"{self.origin}{path}", encoded=True)
        found: ClientResponse = await self.client.session.get(
            url, headers=headers, allow_redirects=False
        )
        return found

    async def text(self, path: str) -> str:
        response = await self.get(path)
        assert response.status == 200, await response.text()
        return await response.text()

    async def act(self, action: str, **headers: str) -> ClientResponse:
        sent = {"Origin": self.origin, CSRF_HEADER: self.dashboard.known.csrf, **headers}
        done: ClientResponse = await self.client.post(f"/-/action{PATH}/{action}", headers=sent)
        return done


async def opened(*, read_only: bool = False) -> Page:
    cluster = FakeCluster()
    store = Store(now=lambda: at(60))
    dashboard = Dashboard(
        lambda: cast(ClusterClient, cluster),
        lambda: "token",
        None,
        "context test",
        read_only,
        flags=lambda key: f" -n {key[0]}",
        store=store,
    )
    listener = server.listen(0)
    port = listener.getsockname()[1]
    made = TestServer(
        dashboard.application(port),
        host="127.0.0.1",
        port=port,
        socket_factory=lambda *_: listener,
    )
    client: Any = TestClient(made, cookie_jar=CookieJar(unsafe=True))
    await client.start_server()
    await client.get(f"/?token={dashboard.known.token}")
    return Page(dashboard, cluster, client)


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    made = await opened()
    show(made.dashboard.store)
    yield made
    await made.client.close()


def show(store: Store, raw: Raw | None = None, pod: Raw | None = None) -> None:
    """Lets the watches report one InitPipeline and its Pod, by default one that is Ready."""
    default = started(running_pod()).pipeline.raw()
    store.replace(Kind.PIPELINES, [Entry.read(raw or default)])
    store.replace(Kind.PODS, [pod or running_pod().raw()])
    store.replace(Kind.EVENTS, [])


def failing(message: str) -> tuple[Raw, Raw]:
    """Returns an InitPipeline and its Pod, whose first step has failed with this message."""
    pod = fresh_pod().init("one", exit=3, message=message).phase("Failed").restarts("Never")
    return started(pod).pipeline.raw(), pod.raw()


class TestAccess:
    async def test_address_with_the_token_sets_a_cookie_and_drops_the_token(
        self, page: Page
    ) -> None:
        response = await page.get(f"{PATH}?token={page.dashboard.known.token}")
        assert (response.status, response.headers["Location"]) == (303, PATH)
        cookie = response.headers["Set-Cookie"]
        assert cookie.startswith(cookie_name(page.client.port or 0))
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert page.dashboard.known.token not in cookie

    async def test_token_for_the_browser_is_valid_once(self, page: Page) -> None:
        once = page.dashboard.known.new_token()
        answers = [await page.get(f"/?token={once}") for _ in range(2)]
        assert [one.status for one in answers] == [303, 403]

    async def test_link_of_another_site_leads_to_a_link_of_this_page(self, page: Page) -> None:
        page.client.session.cookie_jar.clear()
        text = await (await page.get(f"{PATH}/%3Cb%3E%22?token=x")).text()
        assert f'href="{PATH}/%3Cb%3E%22"' in text

    @pytest.mark.parametrize("path", ["/%5Cevil.example/", "//evil.example/"])
    async def test_redirect_stays_on_this_host(self, page: Page, path: str) -> None:
        response = await page.get(f"{path}?token={page.dashboard.known.token}")
        location = response.headers.get("Location", "/")
        assert re.match(r"/(?![/\\])", location)

    @pytest.mark.parametrize(
        "path", ["/", PATH, "/-/dashboard.js", "/-/stream/list", f"/-/stream{PATH}", "/?token=x"]
    )
    async def test_request_without_the_cookie_is_forbidden(self, page: Page, path: str) -> None:
        page.client.session.cookie_jar.clear()
        response = await page.get(path)
        assert response.status == 403
        assert "has printed in the terminal" in await response.text()

    @pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "[::1]:80"])
    async def test_other_host_name_is_forbidden(self, page: Page, host: str) -> None:
        assert (await page.get("/", Host=host)).status == 403

    @pytest.mark.parametrize("site", ["cross-site", "same-site"])
    async def test_request_of_another_site_is_forbidden(self, page: Page, site: str) -> None:
        assert (await page.get("/", **{"Sec-Fetch-Site": site})).status == 403

    async def test_browser_with_two_dashboards_has_the_cookies_of_both(self, page: Page) -> None:
        other = await opened()
        address = f"{other.origin}/?token={other.dashboard.known.token}"
        for url in (address, f"{page.origin}/", f"{other.origin}/"):
            assert (await page.client.session.get(url)).status == 200
        await other.client.close()

    @pytest.mark.parametrize(
        "path", ["/-/stream/list", f"/-/stream{PATH}", f"/-/log{PATH}/one"], ids=str
    )
    async def test_head_of_a_stream_is_not_allowed(self, page: Page, path: str) -> None:
        assert (await page.client.head(path)).status == 405

    @pytest.mark.parametrize("since", ["9" * 5000, "%C2%B2", "-1", "x", ""])
    async def test_version_that_is_not_a_number_gets_the_whole_list(
        self, page: Page, since: str
    ) -> None:
        response = await page.get(f"/-/stream/list?since={since}")
        assert response.status == 200
        assert (await next_message(response))["rows"]
        response.close()

    async def test_request_that_fails_has_the_security_headers(
        self, page: Page, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(page.dashboard, "context", None)
        monkeypatch.setattr(page.dashboard.store, "pipelines", None)
        response = await page.get("/")
        assert response.status == 500
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]

    @pytest.mark.parametrize("path", ["/", "/-/dashboard.js", "/unknown", "/-/stream/list"])
    async def test_each_response_has_the_security_headers(self, page: Page, path: str) -> None:
        response = await page.get(path)
        policy = response.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'")
        assert "unsafe" not in policy
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        response.close()

    async def test_page_has_no_inline_script_style_or_handler(self, page: Page) -> None:
        for path in ("/", PATH, f"{PATH}/logs/one"):
            text = await page.text(path)
            assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=|javascript:", text)


class TestContent:
    async def test_list_shows_stalled_pipelines_first(self, page: Page) -> None:
        raw, _ = failing("x")
        raw["metadata"]["name"] = "zzz"
        page.dashboard.store.put(Kind.PIPELINES, Entry.read(raw))
        text = await page.text("/")
        assert text.index(f'data-key="{NAMESPACE}/zzz"') < text.index(f'data-key="{NAMESPACE}/demo')

    async def test_list_counts_down_to_a_delayed_run(self, page: Page) -> None:
        lost = started(running_pod()).reconcile(None, 20).reconcile(fresh_pod(2))
        show(page.dashboard.store, lost.reconcile(None, 30).pipeline.raw())
        [message] = re.findall(r'<span class="message">(.*)</span>', await page.text("/"))
        assert message.startswith(
            'the next run is delayed until <time datetime="2030-01-01T12:00:40Z" data-mode="until">'
        )

    async def test_page_shows_the_same_values_as_the_terminal(self, page: Page) -> None:
        raw, pod = failing("database is locked")
        show(page.dashboard.store, raw, pod)
        text = await page.text(PATH)
        for expected in (
            "database is locked",
            "exit 3",
            "Timeline of default/demo",
            "backoffLimit",
            "rerun demo -n default",
        ):
            assert expected in re.sub(r"</?span>", "", text)

    @pytest.mark.parametrize("path", ["/", PATH, f"{PATH}/run/1"])
    @pytest.mark.parametrize("by_option", [False, True], ids=["by spec", "by option"])
    async def test_omitted_output_of_a_step_is_explained(
        self, page: Page, path: str, by_option: bool
    ) -> None:
        pod = fresh_pod().init("one", exit=3, message="hunter2").phase("Failed").restarts("Never")
        raw = started(pod, logTails="Omit").pipeline.raw()
        if by_option:
            del raw["spec"]["logTails"]
        show(page.dashboard.store, raw, pod.raw())
        text = await page.text(path)
        assert "hunter2" not in text
        assert "log tails are switched off" in text

    @pytest.mark.parametrize("path", ["/", PATH, f"{PATH}/run/1"])
    async def test_hostile_text_is_escaped(self, page: Page, path: str) -> None:
        raw, pod = failing(EVIL)
        show(page.dashboard.store, raw, pod)
        text = await page.text(path)
        assert "alert(1)" in text
        assert "<script>" not in text
        assert is_plain(text)

    async def test_unreadable_pipeline_is_listed_with_its_error(self, page: Page) -> None:
        raw = pipeline().raw()
        raw["spec"] = {}
        show(page.dashboard.store, raw)
        assert "Unreadable" in await page.text("/")
        assert "cannot read the InitPipeline" in await page.text(PATH)

    async def test_missing_pipeline_is_reported(self, page: Page) -> None:
        assert "There is no such InitPipeline" in await page.text("/default/other")

    @pytest.mark.parametrize(
        "path",
        [
            *("/default/a%2Fb", "/default/%3Cscript%3E", "/default/%2e%2e", "/default/-"),
            *("/-/secret.py", "/-/..%2fserver.py", f"/default/{'a' * 254}", "/favicon.ico"),
        ],
    )
    async def test_path_that_is_not_a_name_is_not_found(self, page: Page, path: str) -> None:
        assert (await page.get(path)).status == 404

    async def test_missing_permission_for_events_is_shown_and_the_rest_stays(
        self, page: Page
    ) -> None:
        page.dashboard.store.fail(Kind.EVENTS, "cannot list resource events")
        text = await page.text(PATH)
        assert "cannot list resource events" in text
        assert "the Pod is Ready" in text


async def next_message(response: ClientResponse) -> dict[str, Any]:
    """Returns the next message of a stream that has more than the present time."""
    while True:
        line = await asyncio.wait_for(response.content.readline(), 20)
        assert line, "the stream has ended"
        if line.startswith(b"data: "):
            message: dict[str, Any] = json.loads(line.removeprefix(b"data: "))
            assert message.pop("now") == at(60).timestamp() * 1000
            if message:
                return message


class TestStreams:
    async def test_list_streams_changed_and_deleted_rows_only(self, page: Page) -> None:
        store = page.dashboard.store
        response = await page.get(f"/-/stream/list?since={store.version}")
        raw, _ = failing("x")
        raw["metadata"]["name"] = "other"
        store.put(Kind.PIPELINES, Entry.read(raw))
        message = await next_message(response)
        assert [row["key"] for row in message["rows"]] == ["default/other"]
        store.remove(Kind.PIPELINES, raw)
        message = await next_message(response)
        assert (message["rows"], message["gone"]) == ([], ["default/other"])
        response.close()

    async def test_many_rows_are_streamed_in_batches_and_only_the_last_has_the_version(
        self, page: Page
    ) -> None:
        store, raw = page.dashboard.store, pipeline().raw()
        for number in range(2 * server.BATCH_ROWS + 1):
            metadata = {**raw["metadata"], "name": f"p{number}"}
            store.put(Kind.PIPELINES, Entry.read({**raw, "metadata": metadata}))
        response = await page.get("/-/stream/list?since=0")
        keys: list[str] = []
        versions: list[bool] = []
        while len(keys) < len(store.pipelines):
            text = (await response.content.readuntil(b"\n\n")).decode()
            rows = json.loads(text.partition("data: ")[2]).get("rows", [])
            keys += [row["key"] for row in rows]
            versions += [text.startswith("id: ")] if rows else []
        assert sorted(keys) == sorted("/".join(key) for key in store.pipelines)
        assert versions == [False, False, True]
        response.close()

    async def test_history_does_not_change_while_only_time_passes(self, page: Page) -> None:
        store = page.dashboard.store
        before = pages.sections(store, (NAMESPACE, NAME))["history"]
        store.now = lambda: at(600)
        assert pages.sections(store, (NAMESPACE, NAME))["history"] == before

    async def test_yaml_of_an_unchanged_pipeline_is_made_once(
        self, page: Page, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made: list[Raw] = []

        def to_yaml(raw: Raw, _: str) -> str:
            made.append(raw)
            return "yaml"

        monkeypatch.setattr(terminal, "to_yaml", to_yaml)
        for _ in range(3):
            assert "yaml" in await page.text(PATH)
        assert len(made) == 1

    async def test_unchanged_list_is_not_streamed_again(self, page: Page) -> None:
        version = page.dashboard.store.version
        show(page.dashboard.store)
        assert page.dashboard.store.version == version

    async def test_browser_that_missed_too_many_deletions_reloads(self, page: Page) -> None:
        store, raw = page.dashboard.store, pipeline().raw()
        for number in range(MAX_GONE + 2):
            raw["metadata"]["name"] = f"p{number}"
            store.pipelines["default", f"p{number}"] = Entry(raw, None)
            store.remove(Kind.PIPELINES, raw)
        response = await page.get("/-/stream/list?since=1")
        assert await next_message(response) == {"reload": True}
        response.close()

    async def test_page_streams_the_parts_that_changed(self, page: Page) -> None:
        response = await page.get(f"/-/stream{PATH}")
        first = (await next_message(response))["parts"]
        assert "the Pod is Ready" in first["head"]
        raw, pod = failing("locked")
        page.dashboard.store.put(Kind.PODS, pod)
        page.dashboard.store.put(Kind.PIPELINES, Entry.read(raw))
        changed = (await next_message(response))["parts"]
        assert "locked" in changed["head"]
        assert "problems" not in changed
        response.close()

    async def test_deletion_while_the_page_is_open_is_shown(self, page: Page) -> None:
        response = await page.get(f"/-/stream{PATH}")
        await next_message(response)
        page.dashboard.store.remove(Kind.PIPELINES, pipeline().raw())
        parts = (await next_message(response))["parts"]
        assert "was deleted while this page was open" in parts["head"]
        response.close()

    async def test_cluster_that_does_not_answer_is_shown_until_it_does(self, page: Page) -> None:
        store = page.dashboard.store
        response = await page.get(f"/-/stream/list?since={store.version}")
        store.fail(Kind.PIPELINES, "no answer from the API server")
        assert "no answer" in (await next_message(response))["problems"]
        show(store)
        assert (await next_message(response))["problems"] == ""
        response.close()

    async def test_change_of_another_pipeline_does_not_render_this_page(self, page: Page) -> None:
        store = page.dashboard.store
        changed = store.subscribe((NAMESPACE, NAME))
        raw, pod = failing("x")
        for one in (raw, pod):
            one["metadata"]["name"] = "other"
        event = {"involvedObject": {"kind": "Pod", "name": "other", "uid": "uid"}}
        event["metadata"] = {"namespace": NAMESPACE, "name": "event", "uid": "event"}
        store.put(Kind.PIPELINES, Entry.read(raw))
        store.put(Kind.PODS, pod)
        store.put(Kind.EVENTS, event)
        assert not changed.is_set()
        event["involvedObject"]["name"] = NAME
        store.put(Kind.EVENTS, event)
        assert changed.is_set()
        store.unsubscribe(changed)

    async def test_page_that_was_just_loaded_gets_only_later_changes(self, page: Page) -> None:
        stream = re.search(r'data-stream="([^"]+)"', await page.text(PATH))
        assert stream is not None
        response = await page.get(stream[1])
        page.dashboard.store.fail(Kind.EVENTS, "cannot list events")
        assert set((await next_message(response))["parts"]) == {"problems", "events"}
        response.close()
        again = await page.get(stream[1], **{"Last-Event-ID": "1"})
        assert "head" in (await next_message(again))["parts"]
        again.close()

    async def test_deleted_pipeline_leaves_no_events(self, page: Page) -> None:
        store, raw = page.dashboard.store, started(running_pod()).pipeline.raw()
        about = {"kind": "InitPipeline", "name": NAME, "uid": raw["metadata"]["uid"]}
        event = {"metadata": {"namespace": NAMESPACE, "name": "e", "uid": "e"}}
        store.put(Kind.EVENTS, {**event, "involvedObject": about})
        store.put(Kind.EVENTS, {**event, "involvedObject": {**about, "kind": "Pod", "uid": "pod"}})
        store.remove(
            Kind.EVENTS, {**event, "involvedObject": {**about, "kind": "Pod", "uid": "pod"}}
        )
        store.remove(Kind.PIPELINES, raw)
        assert store.events == {}


class TestChanges:
    async def test_manifest_to_edit_has_the_spec_only(self, page: Page) -> None:
        manifest = yaml.safe_load(await page.text(f"/-/spec{PATH}"))
        assert set(manifest) == {"apiVersion", "kind", "metadata", "spec"}
        assert manifest["metadata"] == {"name": NAME, "namespace": NAMESPACE}

    @pytest.mark.parametrize(
        ("text", "error"),
        [
            ("kind: [", "the text cannot be read"),
            ("kind: InitPipeline", "the text must have the InitPipeline default/demo"),
            ("{kind: InitPipeline, metadata: {namespace: default, name: demo}}", "no spec"),
            ("[" * 10_000, "the text cannot be read"),
            ("kind: A\n---\nkind: B", "must have one InitPipeline"),
            (b"\xff\xfe\xfd", "the text cannot be read"),
        ],
    )
    async def test_text_that_is_not_the_pipeline_is_refused(
        self, page: Page, text: str | bytes, error: str
    ) -> None:
        headers = {"Origin": page.origin, CSRF_HEADER: page.dashboard.known.csrf}
        answer = await page.client.post(f"/-/plan{PATH}", data=text, headers=headers)
        assert answer.status == 409
        assert error in (await answer.json())["error"]

    async def test_text_that_is_not_the_pipeline_keeps_the_connections(self, page: Page) -> None:
        """The dashboard replaces them if the credentials may have expired, and only then."""
        page.dashboard.clients = [cast(ClusterClient, page.cluster)] * 2
        headers = {"Origin": page.origin, CSRF_HEADER: page.dashboard.known.csrf}
        await page.client.post(f"/-/plan{PATH}", data="kind: [", headers=headers)
        assert len(page.dashboard.clients) == 2

    async def test_dry_run_of_another_site_is_forbidden(self, page: Page) -> None:
        answer = await page.client.post(f"/-/plan{PATH}", data="x", headers={"Origin": page.origin})
        assert answer.status == 403


class TestActions:
    @pytest.mark.parametrize(
        ("action", "change"),
        [
            ("rerun", {"metadata": {"annotations": {"initpipeline.dev/rerun": "token"}}}),
            ("suspend", {"spec": {"suspend": True}}),
            ("resume", {"spec": {"suspend": False}}),
        ],
    )
    async def test_action_patches_the_pipeline(self, page: Page, action: str, change: Any) -> None:
        assert (await page.act(action)).status == 200
        assert page.cluster.patches == [(NAMESPACE, NAME, change)]

    @pytest.mark.parametrize(
        "headers",
        [
            pytest.param({"Origin": "http://evil.example"}, id="other origin"),
            pytest.param({"Origin": "null"}, id="no origin"),
            pytest.param({CSRF_HEADER: "guess"}, id="no CSRF token"),
            pytest.param({"Sec-Fetch-Site": "cross-site"}, id="other site"),
        ],
    )
    async def test_action_of_another_site_is_forbidden(
        self, page: Page, headers: dict[str, str]
    ) -> None:
        assert (await page.act("rerun", **headers)).status == 403
        assert page.cluster.patches == []

    async def test_preview_names_the_run_that_is_interrupted(self, page: Page) -> None:
        answer = json.loads(await page.text(f"/-/preview{PATH}/rerun"))
        shown = re.sub(r"<time[^>]*>[^<]*</time>", "8s", answer["html"])
        assert shown == (
            "<li>interrupts run 1, Ready for 8s</li><li>the Pod is deleted</li>"
            "<li>run 2 starts (Requested)</li>"
        )

    async def test_preview_of_a_run_that_has_ended_interrupts_none(self, page: Page) -> None:
        show(page.dashboard.store, *failing("no table"))
        answer = json.loads(await page.text(f"/-/preview{PATH}/rerun"))
        assert answer["html"].startswith("<li>no run is interrupted</li>")

    async def test_preview_of_a_suspension_names_what_follows(self, page: Page) -> None:
        answer = json.loads(await page.text(f"/-/preview{PATH}/suspend"))
        assert answer["html"].endswith("<li>no run starts until you resume it</li>")

    async def test_log_page_names_the_run(self, page: Page) -> None:
        assert "demo was in run 1 when" in await page.text(f"{PATH}/logs/one")

    async def test_refused_action_returns_the_error(self, page: Page) -> None:
        page.cluster.error = NotUsableError("you may not patch")
        response = await page.act("rerun")
        assert (response.status, await response.json()) == (409, {"error": "you may not patch"})

    async def test_missing_permission_disables_the_buttons_and_names_the_verb(
        self, page: Page
    ) -> None:
        page.cluster.denied = {"patch"}
        text = await page.text(PATH)
        assert text.count('disabled aria-describedby="denied"') == 2
        assert "you may not &#34;patch&#34; initpipelines in namespace default" in text

    async def test_action_that_is_refused_disables_the_buttons_of_the_open_page(
        self, page: Page
    ) -> None:
        await page.text(PATH)
        response = await page.get(f"/-/stream{PATH}")
        await next_message(response)
        page.cluster.denied, page.cluster.error = {"patch"}, NotUsableError("you may not patch")
        await page.act("rerun")
        actions = (await next_message(response))["parts"]["actions"]
        assert "you may not &#34;patch&#34; initpipelines" in actions
        response.close()

    async def test_permissions_are_read_again_when_the_stream_reconnects(self, page: Page) -> None:
        page.cluster.denied = {"patch"}
        assert "you may not" in await page.text(PATH)
        page.cluster.denied = set()
        response = await page.get(f"/-/stream{PATH}")
        assert "disabled" in (await next_message(response))["parts"]["actions"]
        assert "disabled" not in (await next_message(response))["parts"]["actions"]
        response.close()

    async def test_permissions_that_cannot_be_read_stay_as_known(self, page: Page) -> None:
        page.cluster.denied = {"patch"}
        await page.text(PATH)
        page.cluster.down = PluginError("no answer")
        await page.text(PATH)
        while page.dashboard.reviews:
            await asyncio.gather(*page.dashboard.reviews.values())
        assert "you may not" in await page.text(PATH)

    async def test_pages_do_not_wait_for_an_api_server_that_does_not_answer(
        self, page: Page, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(server, "REVIEW_SECONDS", 0.01)
        page.cluster.answers.clear()
        for number in range(40):
            assert await page.text(f"/n{number}/demo")
        assert (await page.act("rerun")).status == 200
        response = await page.get(f"/-/stream{PATH}")
        assert "disabled" not in (await next_message(response))["parts"]["actions"]
        page.cluster.denied = {"patch"}
        page.cluster.answers.set()
        assert "disabled" in (await next_message(response))["parts"]["actions"]
        response.close()

    async def test_missing_permission_for_logs_is_shown_in_place_of_the_logs(
        self, page: Page
    ) -> None:
        page.cluster.denied = {"get"}
        text = await page.text(PATH)
        assert "you may not &#34;get&#34; pods/log in namespace default" in text
        assert f'href="{PATH}/logs/' not in text

    async def test_read_only_has_no_actions(self) -> None:
        page = await opened(read_only=True)
        show(page.dashboard.store)
        assert "data-action" not in await page.text(PATH)
        assert (await page.act("rerun")).status in (404, 405)
        assert (await page.get(f"/-/preview{PATH}/rerun")).status == 404
        assert (await page.get(f"/-/spec{PATH}")).status == 404
        methods = {route.method for route in page.client.app.router.routes()}
        assert methods == {"GET", "HEAD"}
        await page.client.close()


class TestWatcher:
    @pytest.mark.parametrize("error", [NotUsableError("no access"), FileNotFoundError("keys")])
    def test_watch_that_fails_while_the_program_ends_ends_silently(self, error: Exception) -> None:
        loop = asyncio.new_event_loop()
        loop.close()

        def connect() -> ClusterClient:
            raise error

        Watcher(Kind.PODS, None, connect, Store(), loop).run()

    async def test_watch_reports_each_error_and_tries_again(self) -> None:
        store, loop = Store(), asyncio.get_running_loop()
        attempts = iter([FileNotFoundError("keys"), NotUsableError("no access")])

        def connect() -> ClusterClient:
            error = next(attempts)
            if isinstance(error, NotUsableError):
                watcher.end()
            raise error

        watcher = Watcher(Kind.PODS, None, connect, store, loop)
        changed = store.subscribe()
        watcher.start()
        await asyncio.wait_for(changed.wait(), 20)
        assert store.problems == {Kind.PODS: "keys"}
        changed.clear()
        await asyncio.wait_for(changed.wait(), 20)
        assert store.problems == {Kind.PODS: "no access"}


class TestLogLines:
    def test_short_lines_stay(self) -> None:
        assert "".join(cut_lines(iter([b"a\nb", b"c\n"]))) == "a\nbc\n"

    def test_long_line_is_cut_with_the_number_of_hidden_bytes(self) -> None:
        chunks = [b"x" * 65536] * 100 + [b"\nend"]
        shown = "".join(cut_lines(iter(chunks)))
        hidden = 100 * 65536 - MAX_LINE
        assert shown == f"{'x' * MAX_LINE} [{hidden} more bytes: use Download]\nend"

    def test_character_across_two_chunks_stays(self) -> None:
        text = "a\u20ac" * 5
        chunks = [bytes([byte]) for byte in text.encode()]
        assert "".join(cut_lines(iter(chunks))) == text

    def test_control_sequences_are_removed(self) -> None:
        assert is_plain("".join(cut_lines(iter([b"\x1b[31mred\r\n\x07"]))))


def test_program_does_not_wait_for_a_request_that_is_not_answered() -> None:
    def blocking() -> set[threading.Thread]:
        return {one for one in threading.enumerate() if not one.daemon}

    answers, before = threading.Event(), blocking()

    async def ended() -> None:
        waiting = asyncio.create_task(in_thread(lambda: answers.wait(60)))
        await asyncio.sleep(0)
        waiting.cancel()

    asyncio.run(ended())
    assert blocking() == before
    answers.set()


async def test_request_in_a_thread_raises_its_error() -> None:
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda: 1 // 0)


def test_port_in_use_is_an_error_of_one_line() -> None:
    with server.listen(0) as listener, pytest.raises(PluginError, match="choose another port"):
        server.listen(listener.getsockname()[1])


def test_other_commands_load_neither_server_nor_templates() -> None:
    code = (
        "import sys; from initpipeline.plugin import main; main.build(); "
        "print(sorted({'aiohttp', 'jinja2', 'markupsafe'} & sys.modules.keys()))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
