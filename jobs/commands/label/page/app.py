"""The web server of the label page: access, routes, replies."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from starlette.applications import Starlette
from starlette.datastructures import QueryParams
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from jobs.commands.label.page.assignment_queue import AssignmentQueue, Queued
from jobs.commands.label.page.background_sync import BackgroundSync
from jobs.commands.label.page.images import PageImages
from jobs.commands.label.page.journal import Answer
from jobs.pages.web import routes
from jobs.pages.web.access import Access, Guard
from jobs.runtime.config import PAIRS

_MOST_BODY = 1 << 16
_URGENT_SECONDS = 30.0
_PACKAGE = "jobs.commands.label.page"
_STATIC = {
    "page.css": "text/css",
    "page.js": "text/javascript",
    "pair.js": "text/javascript",
    "grid.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=80, pattern=r"^[^\x00-\x1f]+$")]
Id = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class _NamedRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: Name


class _NextRequest(_NamedRequest):
    holding: Annotated[list[Id], Field(max_length=500)] = []
    count: Annotated[int, Field(ge=0, le=50)] = 8


class _DecideRequest(_NamedRequest):
    image_id: Id
    answer: Answer


class _UndoRequest(_NamedRequest):
    image_id: Id | None = None


@dataclass(frozen=True)
class Spec:
    """What the page shows about the category, and the id of its lake.

    Attributes:
        lake: Id of the lake; it does not reveal the lake's address.
        category: Name of the category.
        definition: Its definition.
        include: What else counts.
        exclude: What does not count.
        refill: The command that queues more images.
        title: Its heading; empty for the name of the category.
        pairs: Whether pairs of images are labelled as the same or different, and not images as yes or no.
        veiled: Whether images are blurred at first.
    """

    lake: str
    category: str
    definition: str
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    refill: str
    title: str = ""
    pairs: bool = False
    veiled: bool = True


class SamePage:
    """Middleware that refuses requests from a page of another lake or category.

    A browser tab can stay open after its server has ended. If the page of another category is then served at the same
    address, an answer about the old category would become a label of the new one.

    Args:
        app: The application behind it.
        spec: The page that is served now.
    """

    def __init__(self, app: ASGIApp, spec: Spec) -> None:
        self._app, self._spec = app, spec

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one ASGI request."""
        refusal = self._refusal(QueryParams(scope["query_string"]))
        answer = JSONResponse({"error": refusal}, 409) if refusal else self._app
        await answer(scope, receive, send)

    def _refusal(self, query: QueryParams) -> str | None:
        lake, category = query.get("lake"), query.get("category")
        if (lake, category) == (self._spec.lake, self._spec.category):
            return None
        other = _named(category) if lake == self._spec.lake else "another lake"
        return f"this page is for {other}, but {_named(self._spec.category)} is served here now; reload the page"


def _named(category: str | None) -> str:
    return f"the queue {PAIRS}" if category == PAIRS else f"the category {category}"


class LabelPage:
    """The routes of the page.

    Args:
        spec: What the page shows about the category.
        assignments: Assigns images and takes answers.
        images: Holds the images.
        sync: Knows whether the lake is reachable.
    """

    def __init__(self, spec: Spec, assignments: AssignmentQueue, images: PageImages, sync: BackgroundSync) -> None:
        self._spec, self._assignments, self._images, self._sync = spec, assignments, images, sync

    def app(self, access: Access) -> ASGIApp:
        """Returns the application behind its `Guard`."""
        same = [Middleware(SamePage, self._spec)]
        posted = partial(routes.posted, _MOST_BODY)
        made = [
            Route("/", self._html(access.token)),
            *[Route(f"/{name}", routes.static(_PACKAGE, f"label_{name}", media)) for name, media in _STATIC.items()],
            Route("/picture/{image_id:path}", self._image, middleware=same),
            Route("/next", posted(_NextRequest, self._next), methods=["POST"], middleware=same),
            Route("/decide", posted(_DecideRequest, self._decide), methods=["POST"], middleware=same),
            Route("/undo", posted(_UndoRequest, self._undo), methods=["POST"], middleware=same),
            Route("/leave", posted(_NamedRequest, self._leave), methods=["POST"], middleware=same),
        ]
        return Guard(Starlette(routes=made), access)

    def _html(self, token: str) -> Callable[[Request], Response]:
        template = routes.template(_PACKAGE, "label_page.html.jinja")

        def page(request: Request) -> Response:
            return Response(template.render(spec=self._spec, token=token), media_type="text/html")

        return page

    def _image(self, request: Request) -> Response:
        image_id = request.path_params["image_id"]
        wait = _URGENT_SECONDS if self._images.located(image_id) else 0.0
        image = self._images.get(image_id, wait)
        if image is None:
            return PlainTextResponse("no such image\n", 404)
        return Response(image.data, media_type=image.media_type)

    def _next(self, request: _NextRequest) -> Response:
        assigned = self._assignments.assign(request.name, request.holding, request.count, self._images.has)
        return self._reply(
            request.name,
            images=[self._described(one) for one in assigned.images],
            lost=assigned.lost,
            loading=assigned.loading,
            elsewhere=assigned.elsewhere,
        )

    def _decide(self, request: _DecideRequest) -> Response:
        try:
            known = self._assignments.decide(request.name, request.image_id, request.answer)
        except OSError as error:
            return _not_saved(error)
        if not known:
            # The page gives up an answer only if the reply names its image: other 404s do not come from this page.
            return JSONResponse({"error": "this image is not queued", "unqueued": request.image_id}, 404)
        return self._reply(request.name)

    def _undo(self, request: _UndoRequest) -> Response:
        try:
            back = self._assignments.undo(request.name, request.image_id)
        except OSError as error:
            return _not_saved(error)
        return self._reply(request.name, image=self._described(back) if back else None)

    def _leave(self, request: _NamedRequest) -> Response:
        self._assignments.leave(request.name)
        return JSONResponse({})

    def _described(self, queued: Queued) -> dict[str, Any]:
        facts = self._images.facts(queued.image_id)
        return {"image_id": queued.image_id, "origin": queued.origin, "reason": queued.reason, **facts}

    def _reply(self, name: str, **more: Any) -> Response:
        progress = asdict(self._assignments.progress(name))
        return JSONResponse({**more, "progress": progress, "fault": self._sync.fault})


def _not_saved(error: OSError) -> Response:
    return JSONResponse({"error": f"the server could not save the answer: {error.strerror}"}, 507)
