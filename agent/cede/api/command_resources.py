"""The commands as resources, made from the one catalog: a question is answered at once, an action is an operation."""

from __future__ import annotations

import json
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import asdict, replace
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from cede.api.fields import from_json, from_query
from cede.api.messages import JSON, JSON_LINES, Response
from cede.api.negotiation import TEXT, accepted, content_type, only_parameters
from cede.api.operation_events import end_event
from cede.api.outputs import PreviewOutput
from cede.api.peer import user_name
from cede.api.problems import RequestError, problem_document, problem_response
from cede.api.routes import Route
from cede.commands.catalog import COMMANDS, Kind, command_of
from cede.commands.requests import DevicesRequest, PlanRequest
from cede.commands.screen import named, show_as
from cede.model.serialization import dumps
from cede.util.text import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cede.adapters.runtime import Runtime
    from cede.api.messages import Request
    from cede.api.operations import Operations
    from cede.api.questions import Printed, Questions
    from cede.commands.answer import Answer
    from cede.commands.catalog import Command
    from cede.commands.requests import Request as CommandRequest

OUTPUT = "output"  # the parameter that says whether a command prints JSON or text
POLICY_TYPES = ("application/yaml", "application/x-yaml", "text/yaml", TEXT)
_OUTPUTS = {"json": True, "text": False}
_MAX_REQUESTER = 100


class CommandResources:
    """`/v1/NAME` for each command of the catalog, and `/v1/devices/{address}`."""

    def __init__(self, runtime: Runtime, questions: Questions, operations: Operations) -> None:
        self._runtime = runtime
        self._questions = questions
        self._operations = operations

    def routes(self) -> Iterator[Route]:
        """Yield who answers what."""
        for command in COMMANDS.values():
            path = f"/v1/{command.name}"
            if command.kind is Kind.READ:
                yield Route(method="GET", path=path, answer=self._reading(command, _in_query))
                yield Route(method="POST", path=path, answer=self._reading(command, _in_body))
            else:
                yield Route(method="POST", path=path, answer=self._acting(command))
        yield Route(method="GET", path="/v1/devices/{address}", answer=self._device)

    def _reading(
        self, command: Command, read: Callable[[Command, Request], CommandRequest]
    ) -> Callable[[Request, str], Response]:
        def answer(request: Request, _place: str) -> Response:
            if command.request is PlanRequest and request.method == "POST":
                kind = content_type(request, JSON, *POLICY_TYPES)
                if kind != JSON:
                    return self._plan_of_body(request)
            return self._question(request, read(command, request))

        return answer

    def _acting(self, command: Command) -> Callable[[Request, str], Response]:
        def answer(request: Request, _place: str) -> Response:
            asked = _in_body(command, request)
            if getattr(asked, "preview", False):
                return self._preview(request, asked)
            begun = self._operations.begin(
                asked, requester=_requester(request), as_json=_prints_json(request, JSON)
            )
            return Response(
                status=HTTPStatus.ACCEPTED,
                headers=(("location", f"/v1/operations/{begun.id}"),),
                body=dumps(begun).encode() + b"\n",
            )

        return answer

    def _device(self, request: Request, place: str) -> Response:
        only_parameters(request, OUTPUT)
        return self._question(request, DevicesRequest(devices=(place,)))

    def _plan_of_body(self, request: Request) -> Response:
        """Plan by the policy in the body; its file is in a folder of its own, for the time of the question."""
        with _policy_file(self._runtime.paths.run, request.body) as path:
            pairs = (("policy", str(path)), *_without_output(request))
            with show_as(str(path), "policy.yaml"):
                return self._question(request, from_query(PlanRequest, pairs))

    def _question(self, request: Request, asked: CommandRequest) -> Response:
        kind = accepted(request, JSON, JSON_LINES, TEXT)
        answer, printed = self._questions.ask(asked, as_json=_prints_json(request, kind))
        return _answered(kind, answer, printed, printed.out)

    def _preview(self, request: Request, asked: CommandRequest) -> Response:
        """A preview prints text alone, which JSON has as one of its members."""
        kind = accepted(request, JSON, JSON_LINES, TEXT)
        _prints_json(request, JSON)  # only to refuse another word
        answer, printed = self._questions.ask(asked, as_json=False)
        shown = PreviewOutput(exit=answer.exit, digest=answer.digest, text=printed.out)
        return _answered(kind, answer, printed, dumps(shown) + "\n")


def _answered(kind: str, answer: Answer, printed: Printed, as_json: str) -> Response:
    """Return what was printed in the media type `kind`; an error is a problem in any but lines of JSON."""
    headers = [("cede-exit", str(int(answer.exit)))]
    headers += [("cede-plan", answer.digest)] if answer.digest else []
    if kind == JSON_LINES:
        return Response(
            status=HTTPStatus.OK,
            content_type=JSON_LINES,
            headers=tuple(headers),
            body=_lines(answer, printed),
        )
    if answer.error is not None:
        problem = problem_response(answer.error)
        document = named(problem_document(answer.error).decode(), as_json=True).encode()
        return replace(problem, headers=(*problem.headers, *headers), body=document)
    return Response(
        status=HTTPStatus.OK,
        content_type=f"{TEXT}; charset=utf-8" if kind == TEXT else JSON,
        headers=tuple(headers),
        body=(printed.both if kind == TEXT else as_json).encode("utf-8", "replace"),
    )


def _in_query(command: Command, request: Request) -> CommandRequest:
    return _served(from_query(command.request, _without_output(request)))


def _in_body(command: Command, request: Request) -> CommandRequest:
    content_type(request, JSON)
    if _without_output(request):
        raise RequestError(
            "the fields are in the body, and not in the query",
            name="unknown-field",
            status=HTTPStatus.UNPROCESSABLE_ENTITY,
        )
    return _served(from_json(command.request, request.body))


def _without_output(request: Request) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, value in request.query if name != OUTPUT)


def _served(asked: CommandRequest) -> CommandRequest:
    if getattr(asked, "policy", "").partition("/")[0]:
        raise RequestError(
            "the policy is no absolute path, and the agent has another working directory",
            name="wrong-field",
            status=HTTPStatus.UNPROCESSABLE_ENTITY,
        )
    field = command_of(asked).only_here(asdict(asked))
    if field:
        raise RequestError(
            f"{field!r} is for the command itself: it names a file of the caller's, or never ends",
            name="only-here",
            status=HTTPStatus.UNPROCESSABLE_ENTITY,
            remedy="run the command with --no-agent; GET /v1/events tells what changes",
        )
    return asked


def _prints_json(request: Request, kind: str) -> bool:
    """Whether the command prints JSON: as `output` says, else as the media type does."""
    said = dict(request.query).get(OUTPUT)
    if said is None:
        return kind != TEXT
    if said not in _OUTPUTS or (kind == JSON and not _OUTPUTS[said] and _is_question(request)):
        raise RequestError(
            f"{OUTPUT!r} is `json` or `text`, and text is no JSON",
            name="wrong-field",
            status=HTTPStatus.UNPROCESSABLE_ENTITY,
        )
    return _OUTPUTS[said]


def _is_question(request: Request) -> bool:
    command = COMMANDS.get(request.path.removeprefix("/v1/"))
    return command is None or command.kind is Kind.READ


def _requester(request: Request) -> str:
    """Return who asks, by the kernel's word; root may ask on behalf of another."""
    own = user_name(request.peer.uid)
    said = one_line(request.headers.get("cede-requester", ""), _MAX_REQUESTER)
    return said if said and request.peer.uid == 0 else own


def _lines(answer: Answer, printed: Printed) -> bytes:
    """Return what was printed, and the answer, as events of an operation are."""
    events: list[dict[str, object]] = [
        {"kind": "err" if err else "out", "text": text} for text, err in printed.pieces
    ]
    events.append(end_event(answer))
    return b"".join(
        named(json.dumps({"n": place, **event}), as_json=True).encode() + b"\n"
        for place, event in enumerate(events, 1)
    )


@contextmanager
def _policy_file(folder: Path, text: bytes) -> Iterator[Path]:
    """Keep the text in a file that only this user can read."""
    made = Path(tempfile.mkdtemp(prefix="cede-policy-", dir=folder))
    try:
        path = made / "policy.yaml"
        path.write_bytes(text)
        yield path
    finally:
        shutil.rmtree(made, ignore_errors=True)
