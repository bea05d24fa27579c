"""Finds the route of a request by its address: one look-up, then the few patterns that begin alike."""

from __future__ import annotations

from collections.abc import Iterable

from fastapi import APIRouter, FastAPI
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Receive, Scope, Send

CHOSEN = "runner.route"


class Table(BaseRoute):
    """Stands before the routes that it knows. What it does not find is looked for among them, one by one."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._fixed: dict[str, list[Route]] = {}
        self._patterns: dict[tuple[str, int], list[Route]] = {}
        for route in routes:
            if route.param_convertors:
                self._patterns.setdefault(_kind(route.path), []).append(route)
            else:
                self._fixed.setdefault(route.path, []).append(route)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] != "http":
            return Match.NONE, {}
        path: str = scope["path"].removeprefix(scope.get("root_path", ""))
        for route in (*self._fixed.get(path, ()), *self._patterns.get(_kind(path), ())):
            match, found = route.matches(scope)
            if match is Match.FULL:
                return match, found | {CHOSEN: route}
        return Match.NONE, {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await scope[CHOSEN].handle(scope, receive, send)


def _kind(path: str) -> tuple[str, int]:
    """What patterns are told apart by: how the address begins, and the number of its parts."""
    return path.split("/", 2)[1] if path.startswith("/") else "", path.count("/")


def install(app: FastAPI, routers: Iterable[APIRouter]) -> None:
    """The routes of these, with nothing between them and the application, before those that it has."""
    for router in routers:
        app.router.routes.extend(router.routes)
    known = [route for route in app.router.routes if isinstance(route, Route)]
    app.router.routes[:] = [Table(known), *known]


def addresses(app: FastAPI) -> list[str]:
    return [route.path for route in app.routes if isinstance(route, Route)]
