"""The description of the agent's interface: generated, and true of a real agent, whatever it is asked."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from cede.api.messages import JSON_LINES, PROBLEM
from openapi import openapi_document
from unit.http_client import Answer, ask
from unit.test_agent import Served, policy, served
from unit.test_cli import NIC

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["policy", "served"]
PATH = Path(__file__).parents[2] / "schemas/agent.openapi.yaml"
METHODS = ("get", "post", "delete")
TEXTS = st.text(max_size=20)
WRONG = (
    TEXTS | st.integers() | st.floats() | st.booleans() | st.none() | st.lists(TEXTS, max_size=3)
)
KNOWN = st.sampled_from(["pv1", "pv2", "nic0", NIC, "0000:02:00.0", "01:00.0", "console", "", "x"])


@cache
def description() -> Any:  # noqa: ANN401 - YAML is any
    return yaml.safe_load(PATH.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def document() -> Any:  # noqa: ANN401 - YAML is any
    return description()


def test_the_description_that_is_checked_in_is_the_generated_one(
    request: pytest.FixtureRequest,
) -> None:
    generated = openapi_document()
    if request.config.getoption("--regenerate-golden"):
        PATH.write_text(generated, encoding="utf-8")
    assert PATH.read_text(encoding="utf-8") == generated, (
        "pytest tests/unit/test_openapi.py --regenerate-golden writes it anew; read the diff"
    )


def operations(document: Any) -> Iterator[tuple[str, str, Any]]:  # noqa: ANN401 - YAML is any
    for path, methods in document["paths"].items():
        for method in METHODS:
            if method in methods:
                yield method.upper(), path, methods[method]


def test_every_resource_is_described_and_nothing_else(served: Served, document: Any) -> None:  # noqa: ANN401 - YAML is any
    described = {(method, path) for method, path, _ in operations(document)}
    assert described == {(route.method, route.path) for route in served.agent.router.routes}


def resolved(document: Any, node: Any) -> Any:  # noqa: ANN401 - YAML is any
    while "$ref" in node:
        place = document
        for part in node["$ref"].removeprefix("#/").split("/"):
            place = place[part]
        node = place
    return node


def test_every_reference_leads_somewhere_and_every_schema_is_one(document: Any) -> None:  # noqa: ANN401 - YAML is any
    def walk(node: Any) -> None:  # noqa: ANN401 - YAML is any
        if isinstance(node, dict):
            if "$ref" in node:
                resolved(document, node)
            for each in node.values():
                walk(each)
        elif isinstance(node, list):
            for each in node:
                walk(each)

    walk(document)
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def fits(document: Any, schema: Any, value: Any) -> None:  # noqa: ANN401 - YAML is any
    whole = {**schema, "components": document["components"]}
    Draft202012Validator(whole).validate(value)


def assert_described(document: Any, operation: Any, answer: Answer) -> None:  # noqa: ANN401 - YAML is any
    """Fail unless the answer is one that is described: another one is a problem, whatever was asked."""
    kind = answer.headers["content-type"].partition(";")[0]
    responses = operation["responses"]
    response = resolved(document, responses.get(str(answer.status), responses["default"]))
    assert kind in response["content"], (answer.status, kind, answer.body)
    schema = response["content"][kind]["schema"]
    if str(answer.status) not in responses:
        assert (kind, answer.json["status"]) == (PROBLEM, answer.status)
        assert answer.json["name"] != "unexpected", answer.json
    if kind == JSON_LINES:
        for line in answer.body.splitlines():
            fits(document, schema, json.loads(line))
    elif kind != "text/plain":
        fits(document, schema, answer.json)


def value_of(schema: Any) -> st.SearchStrategy[Any]:  # noqa: ANN401 - YAML is any
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    return {
        "string": KNOWN,
        "integer": st.integers(0, 50),
        "number": st.integers(0, 2),
        "boolean": st.booleans(),
        "array": st.lists(KNOWN, max_size=2),
    }[schema["type"]]


def body_of(draw: st.DrawFn, schema: Any) -> Any:  # noqa: ANN401 - YAML is any
    properties = schema["properties"]
    optional = [name for name in properties if name not in schema["required"]]
    chosen = [*schema["required"], *draw(st.lists(st.sampled_from(optional), unique=True, max_size=3))]  # fmt: skip
    body = {name: draw(value_of(properties[name])) for name in chosen}
    if draw(st.integers(0, 3)) == 0:  # one of four is wrong somewhere
        body[draw(st.sampled_from(chosen or optional) | st.text(max_size=5))] = draw(WRONG)
    return body


@st.composite
def requests(draw: st.DrawFn) -> tuple[int, str, list[tuple[str, str]], Any, str]:
    """Which operation, what in the place of its path, which parameters, which body, and what is accepted."""
    described = description()
    every = list(operations(described))
    number = draw(st.integers(0, len(every) - 1))
    operation = every[number][2]
    query: list[tuple[str, str]] = []
    for each in operation.get("parameters", ()):
        parameter = resolved(described, each)
        if parameter["in"] == "query" and draw(st.booleans()):
            value = draw(value_of(parameter["schema"]) | WRONG)
            values = value if isinstance(value, list) else [value]
            query += [(parameter["name"], str(one)) for one in values]
    body: Any = None
    if "requestBody" in operation:
        schema = resolved(described, operation["requestBody"]["content"]["application/json"]["schema"])  # fmt: skip
        body = body_of(draw, schema) if draw(st.integers(0, 9)) else draw(WRONG)
    accept = draw(st.sampled_from(["*/*", "application/json", "text/plain", JSON_LINES]))
    return number, draw(KNOWN | st.text(max_size=10)), query, body, accept


@given(asked=st.lists(requests(), max_size=4))
@settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_the_agent_answers_as_described_whatever_it_is_asked(
    served: Served, asked: list[Any]
) -> None:
    document = description()
    every = list(operations(document))
    ids = [""]
    for number, place, query, body, accept in asked:
        method, path, operation = every[number]
        if path == "/v1/events" and not any(name == "after" and value for name, value in query):
            continue  # it has no end
        target = path.replace("{address}", quote(place or "x", safe=""))
        target = target.replace("{id}", ids[-1] or quote(place or "x", safe=""))
        data = b"" if body is None else json.dumps(body).encode()
        headers = f"accept: {accept}\r\ncontent-type: application/json\r\n"
        text = urlencode(query, errors="replace")
        answer = ask(served.path, f"{target}?{text}" if text else target, method, data, headers)
        assert_described(document, operation, answer)
        if answer.status == 202 and method == "POST":
            ids.append(answer.json["id"])
            events = served.events(answer.headers["location"])
            assert events[-1]["kind"] == "end"
            error = events[-1]["error"]
            assert error is None or error["name"] != "unexpected", (error, path, body)
            for event in events:
                fits(document, {"$ref": "#/components/schemas/operation_event"}, event)


def test_changes_are_as_described(served: Served, document: Any) -> None:  # noqa: ANN401 - YAML is any
    stream = served.agent.watch.follow("")
    served.operate("/v1/apply")
    lines: list[bytes] = []
    while len(lines) <= 3:
        lines += (stream.read() or b"").splitlines()  # as much as has come
    stream.close()
    for line in lines:
        fits(document, {"$ref": "#/components/schemas/watch_event"}, json.loads(line))


def test_read_only_socket_answers_as_described(served: Served, document: Any) -> None:  # noqa: ANN401 - YAML is any
    served.operate("/v1/apply")
    for method, path, operation in operations(document):
        target = path.replace("{address}", NIC).replace("{id}", "1")
        answer = ask(served.public, target, method)
        assert_described(document, operation, answer)
        assert answer.status in {200, 403, 405}
        if answer.status == 200:
            (public,) = (
                each["$ref"]
                for each in operation["responses"]["200"]["content"]["application/json"]["schema"]["anyOf"]
                if "public" in each["$ref"]
            )  # fmt: skip
            fits(document, {"$ref": public}, answer.json)
