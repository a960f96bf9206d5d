"""Access to a page that a command serves: a token, allowed host names, and headers that keep other sites out."""

import hmac
import secrets
from dataclasses import dataclass
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HEADERS = {
    # The page loads only its own files; it fetches images and shows them from memory.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


@dataclass(frozen=True)
class Access:
    """Conditions for access to the page.

    Attributes:
        token: The token that every request must carry.
        hosts: Allowed host names. Another name may belong to a site that points it at this address (DNS rebinding).
        command: The command that serves the page.
    """

    token: str
    hosts: frozenset[str]
    command: str = "label serve"

    @staticmethod
    def new_token() -> str:
        """Returns a new random token."""
        return secrets.token_urlsafe(24)

    def refusal(self, scope: Scope) -> str | None:
        """Returns why a request is refused; None if it is allowed."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        name = host[1 : host.find("]")] if host.startswith("[") else host.rpartition(":")[0] or host
        if name.lower() not in self.hosts:
            return f"this host name is not allowed: use the address that `winnow {self.command}` printed"
        query = parse_qs(scope["query_string"].decode("latin-1"))
        given = headers.get("x-winnow-token") or query.get("token", [""])[0]
        if not hmac.compare_digest(given.encode(), self.token.encode()):
            return f"the access token is missing or wrong: use the address that `winnow {self.command}` printed"
        return None


class Guard:
    """Middleware that refuses requests without access, and adds the page's headers to every response.

    Args:
        app: The application behind it.
        access: Conditions for access.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one ASGI request."""
        if scope["type"] != "http":
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        refusal = self._access.refusal(scope)
        answer = PlainTextResponse(f"403: {refusal}\n", 403) if refusal else self._app
        await answer(scope, receive, send_with_headers)
