"""The web application of `browse`: routes and replies."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from jobs.commands.browse import condition
from jobs.commands.browse.index import Index, NotComparableError
from jobs.commands.browse.view import SORTS, Id, View
from jobs.pages.web import routes
from jobs.pages.web.access import Access, Guard
from models.errors import WinnowError
from models.images.decoding import ImageFault

_MOST_BODY = 1 << 20
_MOST_IMAGE = 64 << 20  # bytes
_MOST_IMAGES = 500  # of a reply or a decision
_PAIRS = 60
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


class _QueueRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")
    images: Annotated[list[Id], Field(min_length=1, max_length=_MOST_IMAGES)]
    category: str
    why: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]


@dataclass(frozen=True)
class CategoryScores:
    """What the page shows of a category.

    Attributes:
        name: Its name.
        threshold: The threshold that `filter` uses; None without one.
        recall: The lower bound of its recall; None if unknown.
        scored: Number of scored images.
        confidence: Confidence of the bound.
    """

    name: str
    threshold: float | None
    recall: float | None
    scored: int
    confidence: float = 0.95


@dataclass(frozen=True)
class Commands:
    """What the page may ask of the command that serves it.

    Attributes:
        decide: Writes a decision on images to the lake: images, decision, reason.
        queue: Queues images for labelling: images, category, reason. Returns those that were not queued or labelled.
        looks_of: Returns the perceptual hash of an image file, and the vector of what it shows (None without features).
        explain: Returns the command that explains an image, as it can be pasted.
        label: Returns the command that labels the queued images of a category.
        next_commands: The commands that follow a decision, as they can be pasted.
    """

    decide: Callable[[Sequence[str], Decision, str], None]
    queue: Callable[[Sequence[str], str, str], list[str]]
    looks_of: Callable[[bytes], tuple[bytes, NDArray[np.float16] | None]]
    explain: Callable[[str], str]
    label: Callable[[str], str]
    next_commands: str


class BrowsePage:
    """The routes of the page.

    Args:
        name: Name of the lake.
        index: Its index.
        categories: The categories with scores.
        commands: What the page may ask for.
        labelled: Names of all categories of the settings: images may be queued for them.
    """

    def __init__(
        self,
        name: str,
        index: Index,
        categories: Sequence[CategoryScores],
        commands: Commands,
        labelled: Sequence[str] = (),
    ) -> None:
        self._name, self._index, self._categories, self._commands = name, index, categories, commands
        self._labelled = list(labelled)
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
            Route("/faults", self._faults),
            Route("/threshold", self._threshold),
            Route("/distance", self._distance),
            Route("/find", self._find, methods=["POST"]),
            Route("/decide", routes.posted(_MOST_BODY, _DecisionRequest, self._decide), methods=["POST"]),
            Route("/queue", routes.posted(_MOST_BODY, _QueueRequest, self._queue), methods=["POST"]),
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
        found = self._index.distances()
        apart = found and {"threshold": found.threshold, "farthest": found.farthest, "histogram": found.histogram()}
        return {
            **counts, "categories": categories, "next": self._commands.next_commands, "distances": apart,
            "labelled": self._labelled, "columns": sorted(condition.NUMBERS | condition.TEXTS),
        }  # fmt: skip

    def _images(self, request: Request) -> Response:
        try:
            asked = _ViewRequest.model_validate(dict(request.query_params))
        except ValidationError as error:
            return routes.refused(error)
        view = View(**asked.model_dump(exclude={"offset", "limit"}))
        try:
            return JSONResponse(self._index.images(view, asked.offset, asked.limit))
        except (condition.ConditionError, NotComparableError) as error:
            return JSONResponse({"error": str(error)}, 422)

    def _image(self, request: Request) -> Response:
        image_id = request.path_params["image_id"]
        found = self._index.image(image_id)
        if found is None:
            return JSONResponse({"error": "no such image"}, 404)
        return JSONResponse({**found, "explain": self._commands.explain(image_id)})

    def _thumbnail(self, request: Request) -> Response:
        data = self._index.thumbnail(request.path_params["image_id"])
        return Response(data, media_type="image/webp") if data else PlainTextResponse("no such image\n", 404)

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
        recall = self._index.recall(name, at, found.confidence)
        return JSONResponse({"above": above, "scored": found.scored, "now": now, "recall": recall})

    def _distance(self, request: Request) -> Response:
        """Replies what another distance of `dedup` would change, and pairs that would change sides."""
        found, text = self._index.distances(), request.query_params.get("at", "")
        if found is None:
            return JSONResponse({"error": "duplicates have not been searched for: run `winnow dedup`"}, 422)
        if not text.isdecimal() or int(text) > found.farthest:
            return JSONResponse({"error": f"name a distance from 0 to {found.farthest} bits"}, 422)
        pairs = self._index.pairs(int(text), found.threshold, _PAIRS)
        return JSONResponse({"effect": found.effect(int(text)), "pairs": pairs})

    async def _find(self, request: Request) -> Response:
        if (refusal := routes.too_long(request, _MOST_IMAGE)) is not None:
            return refusal
        data = await request.body()
        try:
            looks = await run_in_threadpool(self._commands.looks_of, data)
        except ImageFault as fault:
            return JSONResponse({"error": f"this file cannot be shown: {fault.reason}"}, 422)
        return JSONResponse({"like": self._index.drop_in(*looks), "by": "copies" if looks[1] is None else "likeness"})

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
        return JSONResponse({"images": self._index.some(known)})

    def _queue(self, asked: _QueueRequest) -> Response:
        known = self._index.known(asked.images)
        if len(known) < len(asked.images):
            return JSONResponse({"error": "an image is not in the lake: reload the page"}, 404)
        if asked.category not in self._labelled:
            names = ", ".join(self._labelled) or "the settings define none"
            return JSONResponse({"error": f"there is no category {asked.category!r}: {names}"}, 422)
        try:
            with self._deciding:
                queued = self._commands.queue(known, asked.category, asked.why)
        except WinnowError as error:
            return JSONResponse({"error": str(error)}, 507)
        self._index.queue(queued, asked.category)
        found = {"queued": len(queued), "label": self._commands.label(asked.category)}
        return JSONResponse({**found, "images": self._index.some(known)})
