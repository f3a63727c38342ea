"""Admits only the browser that opened the printed address, and only requests of the page itself.

- Host: another name that resolves to the loopback address is refused (DNS rebinding).
- Token: the printed address has it. The browser gets a cookie for it, whose value differs.
- Origin: other sites cannot send requests, even if the browser would add the cookie.
- Content-Security-Policy: no script and no style except the two files of this package.
"""

import hmac
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web
from markupsafe import escape

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

CSRF_HEADER: Final = "X-InitPipeline-CSRF"
HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_PUBLIC_SITES: Final = frozenset({"none", "same-origin"})
"""Values of Sec-Fetch-Site. ``none``: the user opened the address. ``same-origin``: a page of the
dashboard sent the request."""


@dataclass(frozen=True, slots=True)
class Secrets:
    """The secrets of one invocation."""

    token: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    """The token in the printed address. It is valid as long as the program runs."""
    once: set[str] = field(default_factory=set)
    """Tokens that are valid for one request. Other users of the machine can read the arguments of
    the browser, and with them the address that it was started with."""
    cookie: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    csrf: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    """A value in each page, which the page returns in a header of each action."""

    def new_token(self) -> str:
        """Returns a token that is valid for one request."""
        token = secrets.token_urlsafe(32)
        self.once.add(token)
        return token

    def admits(self, token: str) -> bool:
        """Returns whether a token is valid."""
        if token in self.once:
            self.once.remove(token)
            return True
        return _same(token, self.token)


def cookie_name(port: int) -> str:
    """Returns the name of the cookie. Browsers send cookies to all ports of a host."""
    return f"initpipeline-{port}"


def middleware(known: Secrets, port: int) -> Handler:
    """Returns the middleware that refuses foreign requests."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        return _entered(request, known, port) or await handler(request)

    return guard  # type: ignore[return-value]


async def set_headers(_: web.Request, response: web.StreamResponse) -> None:
    """Sets the security headers. Called for each response, also those to failed requests."""
    response.headers.update(HEADERS)


def _entered(request: web.Request, known: Secrets, port: int) -> web.Response | None:
    """Returns the redirect that drops the token from the address. None: the request is admitted.

    Raises HTTPForbidden.
    """
    hosts = {f"{host}:{port}" for host in ("127.0.0.1", "localhost")}
    if request.headers.get("Host") not in hosts:
        raise web.HTTPForbidden(text="this host name is not served")
    token = request.query.get("token")
    if request.method == "GET" and token is not None:
        if not known.admits(token):
            raise _stranger(request)
        # Two slashes, or a decoded backslash, would lead to another host.
        path = request.rel_url.raw_path.lstrip("/")
        redirect = web.Response(status=303, headers={"Location": f"/{path}"})
        redirect.set_cookie(
            cookie_name(port), known.cookie, httponly=True, samesite="Strict", path="/"
        )
        return redirect
    if not _same(request.cookies.get(cookie_name(port), ""), known.cookie):
        raise _stranger(request)
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in _PUBLIC_SITES:
        raise web.HTTPForbidden(text="requests of other sites are refused")
    if request.method not in ("GET", "HEAD"):
        _check_action(request, known, hosts)
    return None


def _check_action(request: web.Request, known: Secrets, hosts: set[str]) -> None:
    """Raises HTTPForbidden if another site may have sent the request."""
    if request.headers.get("Origin") not in {f"http://{host}" for host in hosts}:
        raise web.HTTPForbidden(text="requests of other sites are refused")
    if not _same(request.headers.get(CSRF_HEADER, ""), known.csrf):
        raise web.HTTPForbidden(text="the page is outdated: reload it")


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(errors="replace"), expected.encode())


def _stranger(request: web.Request) -> web.HTTPForbidden:
    """Returns the refusal of a browser without the cookie. A browser also omits it if the user
    follows a link of another site, but not if the user then follows the link of this page."""
    path = request.rel_url.raw_path.lstrip("/")
    return web.HTTPForbidden(text=_STRANGER.format(path=escape(path)), content_type="text/html")


_STRANGER: Final = """\
<!doctype html><html lang="en"><title>InitPipelines</title>
<main><h1>Open the address that is printed in the terminal</h1>
<p>Open the address that kubectl initpipeline dashboard has printed in the terminal. It includes a
token, and is valid as long as the command runs.</p>
<p>If you have opened that address in this browser before: <a href="/{path}">continue</a>.</p>
</main></html>
"""
