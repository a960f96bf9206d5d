"""Routes that the served pages share: files of a package, and requests with JSON."""

from collections.abc import Awaitable, Callable
from importlib import resources
from typing import Any

import jinja2
from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response


def template(package: str, name: str) -> jinja2.Template:
    """Returns a template of a package, in which all values are escaped."""
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_text(package, name))


def static(package: str, name: str, media_type: str) -> Callable[[Request], Response]:
    """Returns a route that replies with a text file of a package."""
    text = _text(package, name)

    def route(request: Request) -> Response:
        return Response(text, media_type=media_type)

    return route


def posted(
    most: int, kind: type[BaseModel], handle: Callable[[Any], Response]
) -> Callable[[Request], Awaitable[Response]]:
    """Returns a route that reads JSON of a kind and works in a thread, because it waits for the disk.

    Args:
        most: Largest request, in bytes.
        kind: What the request must hold.
        handle: Makes the reply.
    """

    async def route(request: Request) -> Response:
        if (refusal := too_long(request, most)) is not None:
            return refusal
        try:
            body = kind.model_validate_json(await request.body())
        except ValidationError as error:
            return refused(error)
        return await run_in_threadpool(handle, body)

    return route


def too_long(request: Request, most: int) -> Response | None:
    """Returns the refusal of a request whose length is unknown or more than a number of bytes; None if it is not."""
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) <= most:
        return None
    return JSONResponse({"error": f"a request needs a content-length of at most {most} bytes"}, 413)


def refused(error: ValidationError) -> Response:
    """Returns the reply to a request that does not hold what it must."""
    return JSONResponse({"error": error.errors(include_url=False, include_input=False)[0]["msg"]}, 422)


def _text(package: str, name: str) -> str:
    return resources.files(package).joinpath(name).read_text("utf-8")
