"""The web application of `browse`: routes and replies."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from jobs.commands.browse.index import SORTS, Id, Index, View
from jobs.pages.web import routes
from jobs.pages.web.access import Access, Guard
from models.errors import WinnowError
from models.images.decoding import ImageFault

_MOST_BODY = 1 << 20
_MOST_IMAGE = 64 << 20  # bytes
_MOST_IMAGES = 500  # of a reply or a decision
_SIMILAR = 60
_PACKAGE = "jobs.commands.browse"
_STATIC = {"browse.css": "text/css", "browse.js": "text/javascript", "icon.svg": "image/svg+xml"}

Decision = Literal["keep", "drop", "withdraw"]


class _ViewRequest(View):
    offset: Annotated[int, Field(ge=0)] = 0
    limit: Annotated[int, Field(ge=1, le=_MOST_IMAGES)] = 120


class _DecisionRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")
    images: Annotated[list[Id], Field(min_length=1, max_length=_MOST_IMAGES)]
    decision: Decision
    why: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]


@dataclass(frozen=True)
class CategoryScores:
    """What the page shows of a category.

    Attributes:
        name: Its name.
        threshold: The threshold that `filter` uses; None without one.
        recall: The lower bound of its recall; None if unknown.
        scored: Number of scored images.
    """

    name: str
    threshold: float | None
    recall: float | None
    scored: int


@dataclass(frozen=True)
class Commands:
    """What the page may ask of the command that serves it.

    Attributes:
        decide: Writes a decision on images to the lake: images, decision, reason.
        hash_of: Returns the perceptual hash of an image file.
        explain: Returns the command that explains an image, as it can be pasted.
        next_commands: The commands that follow a decision, as they can be pasted.
    """

    decide: Callable[[Sequence[str], Decision, str], None]
    hash_of: Callable[[bytes], bytes]
    explain: Callable[[str], str]
    next_commands: str


class BrowsePage:
    """The routes of the page.

    Args:
        name: Name of the lake.
        index: Its index.
        categories: Its categories.
        commands: What the page may ask for.
    """

    def __init__(self, name: str, index: Index, categories: Sequence[CategoryScores], commands: Commands) -> None:
        self._name, self._index, self._categories, self._commands = name, index, categories, commands
        self._deciding = threading.Lock()

    def app(self, access: Access) -> ASGIApp:
        """Returns the application behind its `Guard`."""
        made = [
            Route("/", self._html(access.token)),
            *[Route(f"/{name}", routes.static(_PACKAGE, name, media)) for name, media in _STATIC.items()],
            Route("/overview", lambda request: JSONResponse(self._overview())),
            Route("/images", self._images),
            Route("/image/{image_id}", self._image),
            Route("/thumb/{image_id}", self._thumbnail),
            Route("/similar/{image_id}", self._similar),
            Route("/faults", self._faults),
            Route("/threshold", self._threshold),
            Route("/find", self._find, methods=["POST"]),
            Route("/decide", routes.posted(_MOST_BODY, _DecisionRequest, self._decide), methods=["POST"]),
        ]
        return Guard(Starlette(routes=made), access)

    def _html(self, token: str) -> Callable[[Request], Response]:
        template = routes.template(_PACKAGE, "browse.html.jinja")

        def page(request: Request) -> Response:
            # The overview comes with the page: the first images are then one request away.
            shown = {"name": self._name, "token": token, "sorts": list(SORTS), "overview": self._overview()}
            return Response(template.render(shown), media_type="text/html")

        return page

    def _overview(self) -> dict[str, Any]:
        counts = self._index.counts()
        histograms = counts.pop("histograms")
        categories = [{**vars(one), "histogram": histograms.get(one.name, [])} for one in self._categories]
        return {**counts, "categories": categories, "next": self._commands.next_commands}

    def _images(self, request: Request) -> Response:
        try:
            asked = _ViewRequest.model_validate(dict(request.query_params))
        except ValidationError as error:
            return routes.refused(error)
        view = View(**asked.model_dump(exclude={"offset", "limit"}))
        return JSONResponse(self._index.images(view, asked.offset, asked.limit))

    def _image(self, request: Request) -> Response:
        image_id = request.path_params["image_id"]
        found = self._index.image(image_id)
        if found is None:
            return JSONResponse({"error": "no such image"}, 404)
        return JSONResponse({**found, "explain": self._commands.explain(image_id)})

    def _thumbnail(self, request: Request) -> Response:
        data = self._index.thumbnail(request.path_params["image_id"])
        return Response(data, media_type="image/webp") if data else PlainTextResponse("no such image\n", 404)

    def _similar(self, request: Request) -> Response:
        hash_ = self._index.hash_of(request.path_params["image_id"])
        return self._near(hash_) if hash_ else JSONResponse({"error": "this image has no hash"}, 404)

    def _near(self, hash_: bytes) -> Response:
        found = self._index.near(hash_, _SIMILAR)
        images = [{**(self._index.image(one) or {}), "apart": apart} for one, apart in found]
        return JSONResponse({"total": len(images), "images": images})

    def _faults(self, request: Request) -> Response:
        try:
            asked = _ViewRequest.model_validate(dict(request.query_params))
        except ValidationError as error:
            return routes.refused(error)
        return JSONResponse(self._index.faults(asked.offset, asked.limit))

    def _threshold(self, request: Request) -> Response:
        """Replies what a threshold would drop, and how many images would change sides."""
        name, text = request.query_params.get("category", ""), request.query_params.get("at", "")
        found = next((one for one in self._categories if one.name == name), None)
        try:
            at = float(text)
        except ValueError:
            at = -1.0
        if found is None or not 0 <= at <= 1:
            return JSONResponse({"error": "name a category, and a threshold from 0 to 1"}, 422)
        above = self._index.above(name, at)
        now = None if found.threshold is None else self._index.above(name, found.threshold)
        return JSONResponse({"above": above, "scored": found.scored, "now": now})

    async def _find(self, request: Request) -> Response:
        if (refusal := routes.too_long(request, _MOST_IMAGE)) is not None:
            return refusal
        data = await request.body()
        try:
            hash_ = await run_in_threadpool(self._commands.hash_of, data)
        except ImageFault as fault:
            return JSONResponse({"error": f"this file cannot be shown: {fault.reason}"}, 422)
        return await run_in_threadpool(self._near, hash_)

    def _decide(self, asked: _DecisionRequest) -> Response:
        known = self._index.known(asked.images)
        if len(known) < len(asked.images):
            return JSONResponse({"error": "an image is not in the lake: reload the page"}, 404)
        try:
            with self._deciding:
                self._commands.decide(known, asked.decision, asked.why)
        except WinnowError as error:
            return JSONResponse({"error": str(error)}, 507)
        self._index.decide(known, asked.decision, asked.why)
        return JSONResponse({"images": known, "decision": f"pending {asked.decision}"})
