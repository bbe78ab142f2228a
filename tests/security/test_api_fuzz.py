"""Whatever is sent to the API, as whomever: no answer is a server error, each is documented, each refusal is in the one error format."""

import json
from dataclasses import dataclass
from typing import Any

import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode, SerializationContext
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.python.asgi import ASGIClient
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from schemathesis.transport.serialization import serialize_binary

from moorage_service.app import API
from moorage_service.context import Context
from moorage_service.settings import PREFIX
from moorage_service.store.tables import ProjectRow
from tests.security.examples import examples
from tests.service.test_bad_input import BODIES
from tests.service.test_routes import Route, routes_of
from tests.service.world import World, make_world

Headers = dict[str, str]
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
LAST = ("PATCH", "DELETE")  # so that what the others name is still there


@schemathesis.serializer("application/x-tar")
def as_it_is(_context: SerializationContext, value: Any) -> bytes:
    return serialize_binary(value)


@dataclass
class Callers:
    """Everyone who can call, by name; and a world to name things of."""

    client: TestClient
    world: World
    headers: dict[str, Headers]

    def ids(self, path: str) -> dict[str, str]:
        """What the path's parameters can be, so that more than 404 is reached."""
        world = self.world
        workload = world.notebook if "notebooks" in path else world.cluster
        known = {
            "slug": world.slug, "build_id": world.build, "job_id": world.job, "run_id": world.run, "cluster_id": world.cluster,
            "workload_id": workload, "name": "bob" if "/users/" in path else "run.log" if "outputs" in path else "KEY", "user": "bob",
            "limit_id": "machine-cpu",
        }  # fmt: skip
        return {name: value for name, value in known.items() if f"{{{name}}}" in path}


@pytest.fixture
def callers(
    client: TestClient, context: Context, project: ProjectRow, ada: Headers, admin: Headers, spawner: Headers
) -> Callers:
    world = make_world(context, "ada", "adas")
    own = {kind.value: {"Authorization": f"Bearer {token}"} for kind, token in world.tokens.items()}
    return Callers(client, world, {"user": ada, "admin": admin, "hub": spawner, "nobody": {}, **own})


def refused_in_the_one_format(status: int, content_type: str, text: str, told: str) -> None:
    if status < 400:
        return
    assert content_type == "application/json", told
    body = json.loads(text)
    assert {"code", "message"} <= set(body) <= {"code", "message", "field", "refusal"}, told
    assert body["message"].strip(), told
    assert len(body["message"]) < 4000, told
    assert "Traceback" not in text, told


def test_a_fuzzer_of_the_schema_finds_no_server_error_and_nothing_undocumented(callers: Callers) -> None:
    origin = str(callers.client.base_url.copy_with(path="/"))
    schema = schemathesis.openapi.from_dict(callers.client.get("/api/v1/openapi.json").json())
    found = [each.ok() for each in schema.get_all_operations() if isinstance(each, Ok)]
    assert len(found) > 50
    app: Any = callers.client.app
    session = ASGIClient(app)
    for operation in sorted(found, key=lambda each: (each.method.upper() in LAST, each.path, each.method)):
        ids = callers.ids(operation.path)
        cases = operation.as_strategy(path_parameters=ids or None) | operation.as_strategy(
            generation_mode=GenerationMode.NEGATIVE
        )

        @examples(2)
        @given(case=cases, who=st.sampled_from(sorted(callers.headers)))
        def ask(case: Case[Any], who: str) -> None:
            answer = case.call(origin, session=session, headers=callers.headers[who], allow_redirects=False)
            told = f"{who}: {case.as_curl_command()}\n{answer.status_code} {answer.text[:500]}"
            case.validate_response(answer, checks=CHECKS)
            refused_in_the_one_format(
                answer.status_code, answer.headers.get("content-type", [""])[0], answer.text, told
            )

        ask()


# What no schema describes: bytes that are no request of anybody's.

DEEP = b'{"a":' * 50_000 + b"1" + b"}" * 50_000
BODIES_THAT_ARE_NONE: dict[str, tuple[str, bytes]] = {
    "not JSON": ("application/json", b"{'a': 1}"),
    "cut off": ("application/json", b'{"project": "ad'),
    "NaN": ("application/json", b'{"cpu": NaN, "memory": Infinity, "amount": -Infinity}'),
    "huge number": ("application/json", b'{"cpu": ' + b"9" * 5000 + b', "memory": 1e400}'),
    "deep": ("application/json", DEEP),
    "duplicate keys": ("application/json", b'{"slug": "a", "slug": "b", "cpu": 1, "cpu": 2}'),
    "lone surrogate": ("application/json", b'{"slug": "\\ud800", "\\udfff": 1}'),
    "NUL": ("application/json", b'{"slug": "\\u0000", "manifest": "\\u0000"}'),
    "not UTF-8": ("application/json", b'{"slug": "\xff\xfe"}'),
    "UTF-16": ("application/json; charset=utf-16", '{"slug": "a"}'.encode("utf-16")),
    "BOM": ("application/json", b"\xef\xbb\xbf{}"),
    "a list": ("application/json", b"[[]]"),
    "a form": ("application/x-www-form-urlencoded", b"slug=a&cpu=1"),
    "multipart without its end": (
        "multipart/form-data; boundary=x",
        b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n',
    ),
    "multipart without a boundary": ("multipart/form-data", b"--x"),
    "a type that is none": ("///", b"{}"),
    "XML": ("text/xml", b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>'),
    "said to be zipped": ("application/json", b"\x1f\x8b\x08\x00garbage"),
    "nothing": ("application/json", b""),
}
ODD_PARTS = (
    "%00", "%2F", "%2e%2e%2f%2e%2e%2fetc%2fpasswd", "..", "%5c..%5c", "%ff%fe", "%ed%a0%80", "%0d%0aSet-Cookie:%20a=b", "a;b=c",
    "%25%30%30", "9" * 400, "%F0%9F%92%A9", "'%20OR%201=1--", "{{7*7}}", "%3Cscript%3E", "-", "*", "null",
)  # fmt: skip
ODD_HEADERS: tuple[Headers, ...] = (
    {"Authorization": "Bearer " + "x" * 60_000},
    {"Authorization": "Bearer \xff\xfe"},
    {"Authorization": "Bearer moor_\xe9"},
    {"Cookie": "moorage-session=\xff; moorage-session"},
    {"Cookie": "moorage-session=" + "gAAAA" * 2000},
    {"Idempotency-Key": "\xff"},
    {"Idempotency-Key": "x" * 10_000},
    {"Content-Length": "-1"},
    {"Host": "a b<c>\xff"},
    {"Origin": "\xff", "Cookie": "moorage-session=a"},
    {"X-Forwarded-For": "x" * 9000, "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "javascript"},
    {"Range": "bytes=9-1,5-,-0,a"},
    {"Accept": "\x7f", "Accept-Encoding": "br;q=2, *;q=-1"},
    {"Transfer-Encoding": "chunked, gzip"},
)


def reached(callers: Callers, route: Route) -> Headers:
    """The credential that leads furthest into a route."""
    if "/agent/" in route.path:
        return callers.headers["cluster"]
    return callers.headers[{"admin": "admin", "spawner": "hub", "workload": "run"}.get(route.guard or "", "user")]


def api_routes(callers: Callers) -> list[Route]:
    there = routes_of(callers.client.app)
    return [each for each in there if each.path.startswith(f"{API}/") and each.guard is not None and not each.is_page]


def ask(callers: Callers, route: Route, path: str, told: str, **sent: Any) -> None:
    answer = callers.client.request(route.method, path, **sent)
    told = f"{route} {path[:200]} {told} -> {answer.status_code} {answer.text[:300]}"
    assert answer.status_code < 500 or answer.json()["code"].startswith("hub_"), told
    refused_in_the_one_format(answer.status_code, answer.headers.get("content-type", ""), answer.text, told)


def named(callers: Callers, route: Route) -> str:
    path = route.path.removeprefix(PREFIX)
    for name, value in callers.ids(path).items():
        path = path.replace(f"{{{name}}}", value)
    return path


def test_a_body_that_is_none_is_refused_in_the_one_format(callers: Callers) -> None:
    written = [route for route in api_routes(callers) if route.method in ("POST", "PUT", "PATCH")]
    assert len(written) > 20
    for what, (kind, content) in BODIES_THAT_ARE_NONE.items():
        for route in written:
            headers = {**reached(callers, route), "Content-Type": kind}
            if "zipped" in what:
                headers["Content-Encoding"] = "gzip"
            ask(callers, route, named(callers, route), what, content=content, headers=headers)


def test_an_odd_path_is_answered_in_the_one_format(callers: Callers) -> None:
    asked = 0
    for route in api_routes(callers):
        path = route.path.removeprefix(PREFIX)
        for odd in ODD_PARTS if "{" in path else ():
            start, _, rest = path.partition("{")
            end = rest.partition("}")[2].replace("{user}", odd).replace("{name}", odd)
            body = BODIES.get((route.method, path.removeprefix("/api/v1")))
            ask(
                callers,
                route,
                start + odd + end,
                odd,
                headers=reached(callers, route),
                **({} if body is None else {"json": body}),
            )
            asked += 1
    assert asked > 400


def test_an_odd_header_is_answered_in_the_one_format(callers: Callers) -> None:
    for odd in ODD_HEADERS:
        for route in api_routes(callers):
            if route.method == "DELETE":
                continue
            headers = [
                (name.encode(), value.encode("latin-1")) for name, value in {**reached(callers, route), **odd}.items()
            ]
            body = BODIES.get((route.method, route.path.removeprefix(API)))
            ask(
                callers,
                route,
                named(callers, route),
                str(odd)[:200],
                headers=headers,
                **({} if body is None else {"json": body}),
            )
