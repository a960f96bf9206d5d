"""The web side of the label page: who may ask, what for, and what they get."""

import hmac
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from importlib import resources
from typing import Annotated, Any
from urllib.parse import parse_qs

import jinja2
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jobs.commands.label.page.assignment_queue import AssignmentQueue, Queued
from jobs.commands.label.page.background_sync import BackgroundSync
from jobs.commands.label.page.journal import Answer
from jobs.commands.label.page.pictures import PagePictures

_MOST_BODY = 1 << 16
_URGENT_SECONDS = 30.0
_HEADERS = {
    # The page needs nothing but itself; pictures are fetched and shown from memory.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
_STATIC = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=80, pattern=r"^[^\x00-\x1f]+$")]
Id = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: Name


class _Next(_Asked):
    holding: Annotated[list[Id], Field(max_length=100)] = []
    count: Annotated[int, Field(ge=0, le=50)] = 8


class _Decide(_Asked):
    image_id: Id
    answer: Answer


class _Undo(_Asked):
    image_id: Id | None = None


@dataclass(frozen=True)
class Spec:
    """What the page says of the category, and of which lake it is.

    Attributes:
        lake: The lake's id, from which nobody learns its address.
        category: Its name.
        definition: What it is.
        include: What counts as well.
        exclude: What does not.
        refill: The command that queues more.
    """

    lake: str
    category: str
    definition: str
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    refill: str


@dataclass(frozen=True)
class Access:
    """Who may ask.

    Attributes:
        token: Must come with every request.
        hosts: Names under which the page may be asked for; any other is another site's name led here (DNS rebinding).
    """

    token: str
    hosts: frozenset[str]

    @staticmethod
    def new_token() -> str:
        """A token that nobody guesses."""
        return secrets.token_urlsafe(24)

    def refusal(self, scope: Scope) -> str | None:
        """Why a request is refused; None where it may pass."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        name = host[1 : host.find("]")] if host.startswith("[") else host.rpartition(":")[0] or host
        if name.lower() not in self.hosts:
            return "this host name is not one of the page's"
        query = parse_qs(scope["query_string"].decode("latin-1"))
        given = headers.get("x-winnow-token") or query.get("token", [""])[0]
        if not hmac.compare_digest(given.encode(), self.token.encode()):
            return "the address lacks the access token: use the address that `winnow label serve` printed"
        return None


class Guard:
    """Lets only those through that have access, and puts the page's headers on every answer.

    Args:
        app: What is guarded.
        access: Who may ask.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request, as ASGI has it."""
        if scope["type"] != "http":
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        refusal = self._access.refusal(scope)
        answer = PlainTextResponse(f"403: {refusal}\n", 403) if refusal else self._app
        await answer(scope, receive, send_with_headers)


class SamePage:
    """Lets only those requests through that come from a page of the same lake and category.

    A tab outlives its server. Where another page is served at its address since, an answer that was given under one
    heading would become a label of another.

    Args:
        app: Answers what passes.
        spec: The page that is served now.
    """

    def __init__(self, app: ASGIApp, spec: Spec) -> None:
        self._app, self._spec = app, spec

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request, as ASGI has it."""
        refusal = self._refusal(QueryParams(scope["query_string"]))
        answer = JSONResponse({"error": refusal}, 409) if refusal else self._app
        await answer(scope, receive, send)

    def _refusal(self, query: QueryParams) -> str | None:
        lake, category = query.get("lake"), query.get("category")
        if (lake, category) == (self._spec.lake, self._spec.category):
            return None
        asked = f"the category {category}" if lake == self._spec.lake else "another lake"
        return f"this page is for {asked}, but the category {self._spec.category} is served here now; reload the page"


class LabelPage:
    """The page's addresses.

    Args:
        spec: What the page says of the category.
        assignments: Hands out pictures and takes answers.
        pictures: Has the pictures.
        sync: Knows whether the lake can be reached.
    """

    def __init__(self, spec: Spec, assignments: AssignmentQueue, pictures: PagePictures, sync: BackgroundSync) -> None:
        self._spec, self._assignments, self._pictures, self._sync = spec, assignments, pictures, sync

    def app(self, access: Access) -> ASGIApp:
        """The application, guarded."""
        same = [Middleware(SamePage, self._spec)]
        routes = [
            Route("/", self._html(access.token)),
            *[Route(f"/{name}", _static(name, media)) for name, media in _STATIC.items()],
            Route("/picture/{image_id:path}", self._picture, middleware=same),
            Route("/next", _posted(_Next, self._next), methods=["POST"], middleware=same),
            Route("/decide", _posted(_Decide, self._decide), methods=["POST"], middleware=same),
            Route("/undo", _posted(_Undo, self._undo), methods=["POST"], middleware=same),
            Route("/leave", _posted(_Asked, self._leave), methods=["POST"], middleware=same),
        ]
        return Guard(Starlette(routes=routes), access)

    def _html(self, token: str) -> Callable[[Request], Response]:
        environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
        template = environment.from_string(_template("label_page.html.jinja"))

        def page(request: Request) -> Response:
            return Response(template.render(spec=self._spec, token=token), media_type="text/html")

        return page

    def _picture(self, request: Request) -> Response:
        image_id = request.path_params["image_id"]
        wait = _URGENT_SECONDS if self._assignments.holds(image_id) else 0.0
        picture = self._pictures.get(image_id, wait)
        if picture is None:
            return PlainTextResponse("no such picture\n", 404)
        return Response(picture.data, media_type=picture.media_type)

    def _next(self, asked: _Next) -> Response:
        assigned = self._assignments.assign(asked.name, asked.holding, asked.count, self._pictures.has)
        return self._answer(
            asked.name,
            pictures=[self._shown(one) for one in assigned.pictures],
            lost=assigned.lost,
            loading=assigned.loading,
            elsewhere=assigned.elsewhere,
        )

    def _decide(self, asked: _Decide) -> Response:
        try:
            known = self._assignments.decide(asked.name, asked.image_id, asked.answer)
        except OSError as error:
            return _not_saved(error)
        if not known:
            # Named, so that the page gives up this one answer, and none when something else knows no such address.
            return JSONResponse({"error": "this picture is not queued", "unqueued": asked.image_id}, 404)
        return self._answer(asked.name)

    def _undo(self, asked: _Undo) -> Response:
        try:
            back = self._assignments.undo(asked.name, asked.image_id)
        except OSError as error:
            return _not_saved(error)
        return self._answer(asked.name, picture=self._shown(back) if back else None)

    def _leave(self, asked: _Asked) -> Response:
        self._assignments.leave(asked.name)
        return JSONResponse({})

    def _shown(self, queued: Queued) -> dict[str, Any]:
        picture = self._pictures.get(queued.image_id)
        facts = (
            {"caption": picture.caption, "key": picture.key, "size": [picture.width, picture.height]} if picture else {}
        )
        return {"image_id": queued.image_id, "origin": queued.origin, "reason": queued.reason, **facts}

    def _answer(self, name: str, **more: Any) -> Response:
        progress = asdict(self._assignments.progress(name))
        return JSONResponse({**more, "progress": progress, "fault": self._sync.fault})


def _posted(kind: type[BaseModel], handle: Callable[[Any], Response]) -> Callable[[Request], Awaitable[Response]]:
    """A route that reads JSON of a kind and works in a thread, since the journal waits for the disk."""

    async def route(request: Request) -> Response:
        length = request.headers.get("content-length", "")
        if not length.isdecimal() or int(length) > _MOST_BODY:
            return JSONResponse({"error": f"at most {_MOST_BODY} bytes, their number stated"}, 413)
        try:
            asked = kind.model_validate_json(await request.body())
        except ValidationError as error:
            return JSONResponse({"error": error.errors(include_url=False, include_input=False)[0]["msg"]}, 422)
        return await run_in_threadpool(handle, asked)

    return route


def _static(name: str, media_type: str) -> Callable[[Request], Response]:
    text = _template(f"label_{name}")

    def route(request: Request) -> Response:
        return Response(text, media_type=media_type)

    return route


def _not_saved(error: OSError) -> Response:
    return JSONResponse({"error": f"the decision could not be saved: {error.strerror}"}, 507)


def _template(name: str) -> str:
    return resources.files("jobs.commands.label.page").joinpath(name).read_text("utf-8")
