"""Checks of every request before the application sees it, and headers of every response."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = "default-src 'none'; frame-ancestors 'none'"
"""Content security policy of responses that have none of their own."""


class Guard:
    """ASGI middleware that refuses foreign host names and ambiguous requests.

    A web page of another site may reach a server on the user's machine under a host name of its own
    that resolves to this machine (DNS rebinding): requests must name an IP address, localhost or one
    of `hosts`. A request with both Transfer-Encoding and Content-Length may mean something else to a
    proxy than to this server (request smuggling).
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str] = ()) -> None:
        self._app = app
        self._hosts = frozenset(host.lower().rstrip(".") for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-Content-Type-Options"] = "nosniff"
                headers.setdefault("Content-Security-Policy", POLICY)
            await send(message)

        refusal = self._refusal(Headers(scope=scope))
        if refusal is None:
            await self._app(scope, receive, send_with_headers)
        else:
            status, message = refusal
            content = {"error": {"status": status, "message": message}}
            response = JSONResponse(content, status, {"Connection": "close"})
            await response(scope, receive, send_with_headers)

    def _refusal(self, headers: Headers) -> tuple[int, str] | None:
        """Return the status and message if the request must be refused."""
        if "transfer-encoding" in headers and "content-length" in headers:
            return 400, "the request has both Transfer-Encoding and Content-Length"
        if len(headers.getlist("host")) > 1:
            return 400, "the request has more than one Host"
        host = headers.get("host")
        # HTTP/1.0 clients without Host are not browsers
        if host is not None and not self._allows(host):
            return 421, f"this server does not answer for host {host!r} (see --allow-host)"
        return None

    def _allows(self, host: str) -> bool:
        """Return whether a Host header, with or without a port, names an IP address or an allowed name."""
        name = host_name(host)
        if name == "localhost" or name.endswith(".localhost") or name in self._hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def host_name(host: str) -> str:
    """Return the lower-case name or address in a Host header, without port and brackets."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].rstrip(".")
