# SPDX-License-Identifier: Apache-2.0
"""Which call a method and a path name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from fairlead.errors import MethodNotAllowed, NotFound
from fairlead.web.request import Request
from fairlead.web.response import Response

Handler = Callable[[Request], Awaitable[Response]]
Params = dict[str, str]


@dataclass(frozen=True, slots=True)
class Route:
    """One call.

    Attributes:
        template: a path; `{name}` stands for one segment, `{name...}` at the end for all that is left, raw.
        login: whether a login is asked for, once authentication is configured.
    """

    method: str
    template: str
    handler: Handler
    login: bool = True


class Router:
    """The calls there are; HEAD is GET."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = tuple(routes)
        self._plain: dict[str, dict[str, Route]] = {}
        self._patterns: dict[tuple[str, ...], dict[str, Route]] = {}
        for route in self.routes:
            if "{" in route.template:
                self._patterns.setdefault(tuple(route.template.split("/")), {})[route.method] = route
            else:
                self._plain.setdefault(route.template, {})[route.method] = route

    def find(self, method: str, raw_path: bytes) -> tuple[Route, Params]:
        """The call, with the path's variable segments decoded.

        Raises:
            NotFound: no call has that path. MethodNotAllowed: none has that method; `Allow` names those.
        """
        path = raw_path.decode("latin-1")
        methods, params = self._plain.get(path), Params()
        if methods is None:
            methods, params = self._match(path)
        route = methods.get("GET" if method == "HEAD" else method)
        if route is None:
            allowed = sorted([*methods, "HEAD"] if "GET" in methods else methods)
            raise MethodNotAllowed(
                f"{path} has no {method}; it has {', '.join(allowed)}", headers={"Allow": ", ".join(allowed)}
            )
        return route, params

    def _match(self, path: str) -> tuple[dict[str, Route], Params]:
        segments = path.split("/")
        for pattern, methods in self._patterns.items():
            params = _params(pattern, segments)
            if params is not None:
                return methods, params
        raise NotFound(f"there is nothing at {path[:200]}; GET /openapi.json lists every call")


def _params(pattern: tuple[str, ...], segments: list[str]) -> Params | None:
    params: Params = {}
    for at, step in enumerate(pattern):
        if step.endswith("...}"):
            params[step[1:-4]] = "/".join(segments[at:])
            return params if len(segments) > at else None
        if at >= len(segments):
            return None
        if step.startswith("{"):
            value = unquote_to_bytes(segments[at]).decode(errors="replace")
            if not value:
                return None
            params[step[1:-1]] = value
        elif step != segments[at]:
            return None
    return params if len(segments) == len(pattern) else None
