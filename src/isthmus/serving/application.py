"""The ASGI application of one model."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from isthmus import __version__
from isthmus.serving import pages
from isthmus.serving.batching import Batcher
from isthmus.serving.bodies import sent_format, wanted_format
from isthmus.serving.facts import facts_of
from isthmus.serving.limits import Limits
from isthmus.serving.metrics import Metrics
from isthmus.serving.replies import JSON, RefusedError, Reply
from isthmus.serving.routes import Route, routes_of
from isthmus.serving.work import Job, Worker

Handler = Callable[[Request], Awaitable[Response]]
LEFT = 499
"""nginx's status for a client that left before the answer."""
FAR_TOO_LARGE = 8
"""Bodies of more than this many times the limit are not read before they are refused."""


def busy() -> RefusedError:
    """The refusal of a request that comes on top of too many."""
    return RefusedError(503, "The server is busy; try again in a second.", Retry_After="1", Connection="close")


class Application:
    """The handlers of one model, and what they share."""

    def __init__(self, model: Any, limits: Limits) -> None:
        self.model, self.limits = model, limits
        self.routes = routes_of(model)
        self.metrics = Metrics()
        self.batcher = Batcher(Worker(limits, self.metrics.call_rows.observe).answer, limits)
        self.held = self.in_flight = self.answered = 0
        self.ending = False

    def handler(self, route: Route) -> Handler:
        """The handler of a route."""

        async def answer(request: Request) -> Response:
            start = time.perf_counter()
            reply = await self._reply(route, request)
            self.answered += 1
            self.metrics.requests.labels(route.name, str(reply.status)).inc()
            self.metrics.seconds.labels(route.name).observe(time.perf_counter() - start)
            # uvicorn closes connections at its end without a word, and a client would send its next request into that
            headers = {**reply.headers, "Connection": "close"} if self.ending else dict(reply.headers)
            return Response(reply.body, reply.status, headers, reply.media_type)

        answer.__name__ = route.name
        return answer

    async def _reply(self, route: Route, request: Request) -> Reply:
        if self.in_flight >= self.limits.max_waiting:
            return busy().reply()
        self._count(1)
        try:
            return await self._answered(route, request)
        except RefusedError as error:
            return error.reply()
        except ClientDisconnect:
            return Reply(b"", status=LEFT)
        finally:
            self._count(-1)

    def _count(self, step: int) -> None:
        self.in_flight += step
        self.metrics.in_flight.set(self.in_flight)

    async def _answered(self, route: Route, request: Request) -> Reply:
        sent = sent_format(request.headers.get("content-type"), request.headers.get("content-encoding"))
        wanted = wanted_format(request.headers.get("accept"), sent)
        options = _options(route, request)
        held = [0]
        try:
            body = await self._body(request, held)
            return await self.batcher.answer(Job(route, body, sent, wanted, options))
        finally:
            self.held -= held[0]

    async def _body(self, request: Request, held: list[int]) -> bytes:
        """The body, within the limits of size and time."""
        length = request.headers.get("content-length", "0")
        declared = int(length) if length.isdecimal() else 0
        parts = list[bytes]()
        try:
            async with asyncio.timeout(self.limits.seconds):
                if declared > self.limits.max_body:
                    await self._discard(request, declared)
                    raise self._too_large()
                async for part in request.stream():
                    held[0] += len(part)
                    self.held += len(part)
                    if held[0] > self.limits.max_body:
                        raise self._too_large(Connection="close")
                    if self.held > self.limits.max_bytes:
                        raise busy()
                    parts.append(part)
        except TimeoutError:
            raise RefusedError(
                408, f"The body did not arrive within {self.limits.seconds:g} s.", Connection="close"
            ) from None
        return b"".join(parts)

    async def _discard(self, request: Request, declared: int) -> None:
        """Read a body that is refused: a client that is still sending when the connection is closed gets no answer.

        One that asks first (curl does for a large body) sends nothing, and far larger bodies are not waited for.
        """
        if "expect" in request.headers or declared > FAR_TOO_LARGE * self.limits.max_body:
            return
        async for _ in request.stream():
            pass

    def _too_large(self, **headers: str) -> RefusedError:
        return RefusedError(
            413,
            f"The body has more than {self.limits.max_body:,} bytes, which is the most that is accepted; send the rows "
            "in parts.",
            **headers,
        )


def _options(route: Route, request: Request) -> dict[str, int]:
    """The options in the query, which are whole numbers."""
    found = dict[str, int]()
    for name, text in request.query_params.multi_items():
        if name not in route.options:
            known = (
                f"/{route.name} has the options {', '.join(route.options)}"
                if route.options
                else f"/{route.name} has none"
            )
            raise RefusedError(400, f"Unknown option {name!r} in the query; {known}.")
        if not text.isascii() or not text.isdecimal() or len(text) > 9:
            raise RefusedError(400, f"The option {name}={text!r} must be a whole number >= 1.")
        found[name] = int(text)
    return found


def build(model: Any, limits: Limits) -> FastAPI:
    """The application, as FastAPI makes it: one path for each route, and those that say how it is."""
    made = Application(model, limits)
    facts = facts_of(model, made.routes, limits)
    api = FastAPI(
        title=f"isthmus: {type(model).__name__}",
        version=__version__,
        docs_url=None,  # its page loads scripts from another host
        redoc_url=None,
        description="Answers of one model. NaN and infinite numbers are null in JSON.",
    )
    api.state.isthmus = made
    for route in made.routes.values():
        api.add_api_route(
            f"/{route.name}",
            made.handler(route),
            methods=["POST"],
            response_class=Response,
            name=route.name,
            **pages.documented(route),
        )

    @api.get("/health", summary="Whether the server answers.")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @api.get("/metrics", summary="Counters, as Prometheus text.", response_class=Response)
    async def metrics() -> Response:
        return Response(made.metrics.text(), media_type="text/plain; version=0.0.4")

    @api.get("/", summary="The facts of the model, and the limits.", response_class=Response)
    async def about() -> Response:
        return Response(facts, media_type=JSON)

    @api.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> Response:
        page = pages.page(api.openapi(), request.scope.get("root_path", ""))
        return Response(page, media_type="text/html")

    @api.exception_handler(HTTPException)
    async def elsewhere(request: Request, error: HTTPException) -> Response:
        known = ", ".join(f"/{name}" for name in (*made.routes, "health", "metrics", "docs"))
        words = {
            404: f"This {type(model).__name__} has no {request.url.path}; it has {known}.",
            405: f"{request.url.path} does not take {request.method}; see /docs.",
        }
        reply = RefusedError(error.status_code, words.get(error.status_code, str(error.detail))).reply()
        made.metrics.requests.labels("other", str(reply.status)).inc()
        return Response(reply.body, reply.status, dict(error.headers or {}), reply.media_type)

    return api
