"""schemas/agent.openapi.yaml: the agent's interface in OpenAPI 3.1, from the catalog of commands and its values' types.

Source: https://spec.openapis.org/oas/v3.1.0; a test asks a real agent for what stands here, and compares.
"""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any, get_type_hints

import yaml

from cede.api import outputs
from cede.api.command_resources import POLICY_TYPES
from cede.commands.catalog import COMMANDS, Kind
from cede.commands.exit_status import Exit
from cede.errors import CedeError, FailureKind
from cede.model.conditions import Condition
from json_schema import OUTPUTS, Definitions, described

if TYPE_CHECKING:
    from cede.commands.catalog import Command

Schema = dict[str, Any]
JSON, LINES, TEXT, PROBLEM = (
    "application/json", "application/x-ndjson", "text/plain", "application/problem+json",
)  # fmt: skip
_PLACE = "#/components/schemas/"
_TYPES: dict[object, Schema] = {
    str: {"type": "string", "maxLength": 4096},
    int: {"type": "integer", "minimum": 0},
    float: {"type": "number", "minimum": 0},
    bool: {"type": "boolean"},
    tuple[str, ...]: {"type": "array", "items": {"type": "string"}},
}
# what fields of several requests mean (cede/commands/requests.py)
_SHARED = {
    "policy": "the absolute path of a policy, empty for the host's own",
    "wait": "how long to wait for another running cede, in seconds",
    "preview": "show what would be done, with its digest in Cede-Plan, and change nothing",
    "plan": "the digest of the plan that was shown: nothing else than that is done",
    "scheduled": "as the timer and the daemon do",
    "restart": "also restart domains that wait for it, where the policy permits that when asked",
    "force": "with `restart`: force off a domain that does not shut down by itself",
    "prune": "also take out what was given for that policy before and is no device of it any more",
}
_ACTED = ("report", "status", "doctor", "pause", "error")  # what an operation may have printed
_SUMMARIES = {
    ("GET", "/v1/devices/{address}"): "One device",
    ("GET", "/v1/host"): "The agent and its host",
    ("GET", "/v1/names"): "What devices and domains are called",
    ("GET", "/v1/operations"): "The operations that are known",
    ("GET", "/v1/operations/{id}"): "One operation, with what the journal has of it",
    ("DELETE", "/v1/operations/{id}"): "End an operation after its present action",
    ("GET", "/v1/operations/{id}/events"): "Its events, as lines of JSON, until its end",
    ("GET", "/v1/operations/{id}/output"): "What it printed",
    ("GET", "/v1/events"): "What changes on the host, as lines of JSON, without an end",
}


def openapi_document() -> str:
    """Return the text of schemas/agent.openapi.yaml."""
    definitions = Definitions(_PLACE)
    paths: dict[str, Any] = {}
    for command in COMMANDS.values():
        paths[f"/v1/{command.name}"] = _command(command, definitions)
    for (method, path), summary in _SUMMARIES.items():
        operation = _resource(method, path, definitions)
        paths.setdefault(path, {})[method.lower()] = {"summary": summary, **operation}
    whole = {
        "openapi": "3.1.0",
        "info": {
            "title": "The agent of cede",
            "version": "1",
            "summary": "Gives PCI devices to Xen guests, and takes them back",
            "description": "HTTP/1.1 on unix sockets: /run/cede/cede.sock for everything,"
            " /run/cede/cede-ro.sock for what anybody may see (GET host, devices, status and names, with public"
            " values). See contrib/docs/agent.md.",
            "license": {"name": "GPL-2.0-or-later", "identifier": "GPL-2.0-or-later"},
        },
        "servers": [{"url": "http://cede"}],
        "paths": paths,
        "components": {
            "parameters": _PARAMETERS,
            "responses": {"problem": _PROBLEM_RESPONSE},
            "schemas": dict(sorted(_schemas(definitions).items())),
        },
    }
    return str(yaml.dump(whole, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120))


class _Dumper(yaml.SafeDumper):
    """Writes what is there twice twice, instead of an alias."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - yaml's signature
        return True


def _command(command: Command, definitions: Definitions) -> Schema:
    kind = command.request
    summary = (kind.__doc__ or "").split(";")[0].split(".")[0]
    name = command.name.replace("/", "_")
    served = [field for field in fields(kind) if field.name not in command.here]
    shape = {
        "type": "object",
        "additionalProperties": False,
        "required": [field.name for field in served if field.default is MISSING],
        "properties": {field.name: _field(kind, field.name, field.default) for field in served},
    }
    definitions.schemas[f"{name}_request"] = {"description": summary, **shape}
    body: Schema = {JSON: {"schema": {"$ref": f"{_PLACE}{name}_request"}}}
    output = {"$ref": "#/components/parameters/output"}
    if command.kind is Kind.ACT:
        return {"post": {
            "summary": summary,
            "parameters": [output],
            "requestBody": {"content": body},
            "responses": {
                "200": _printed(
                    definitions.schema_of(outputs.PreviewOutput), "With `preview`: what would be done"
                ),
                "202": {
                    "description": "An operation has begun",
                    "headers": {"Location": _header("the path of the operation")},
                    "content": {JSON: {"schema": definitions.schema_of(outputs.OperationOutput)}},
                },
                **_REFUSED,
            },
        }}  # fmt: skip
    answered = {
        "200": _printed(
            _or_public(f"/v1/{name}", definitions.schema_of(OUTPUTS[name][1]), definitions),
            f"What `cede {name} --json` prints",
        ),
        **_REFUSED,
    }  # fmt: skip
    parameters = [
        {
            "name": field.name,
            "in": "query",
            "required": field.default is MISSING,
            "schema": _field(kind, field.name, field.default),
        }
        for field in served
    ]
    if name == "plan":
        body |= {each: {"schema": {"type": "string"}} for each in POLICY_TYPES}
    return {
        "get": {"summary": summary, "parameters": [*parameters, output], "responses": answered},
        "post": {
            "summary": f"{summary}; for fields that are too long for a query",
            "parameters": [output],
            "requestBody": {"content": body},
            "responses": answered,
        },
    }


def _field(kind: type, name: str, default: object) -> Schema:
    schema = dict(_TYPES[get_type_hints(kind)[name]])
    description = _SHARED.get(name) or described(kind, name)
    schema = {"description": description, **schema} if description else schema
    if default is MISSING:
        return schema
    return {**schema, "default": list(default) if isinstance(default, tuple) else default}


def _resource(method: str, path: str, definitions: Definitions) -> Schema:
    parameters = []
    if "{id}" in path:
        parameters.append({"$ref": "#/components/parameters/id"})
    if path == "/v1/operations/{id}/events":
        parameters.append({"$ref": "#/components/parameters/number"})
    if path == "/v1/events":
        parameters.append({"$ref": "#/components/parameters/token"})
    if path == "/v1/devices/{address}":
        parameters += [
            {"$ref": "#/components/parameters/address"},
            {"$ref": "#/components/parameters/output"},
        ]
    return {
        **({"parameters": parameters} if parameters else {}),
        "responses": {**_answer(method, path, definitions), **_REFUSED},
    }


# by path, what the read-only socket answers instead
_PUBLIC = {
    "/v1/host": outputs.PublicHost,
    "/v1/devices": outputs.PublicDevices,
    "/v1/devices/{address}": outputs.PublicDevices,
    "/v1/names": outputs.PublicNames,
    "/v1/status": outputs.PublicStatus,
}


def _or_public(path: str, schema: Schema, definitions: Definitions) -> Schema:
    """Return the schema, or that of what the read-only socket answers."""
    if path not in _PUBLIC:
        return schema
    public = definitions.schema_of(_PUBLIC[path])
    return {"description": "the second by the read-only socket", "anyOf": [schema, public]}


def _answer(method: str, path: str, definitions: Definitions) -> Schema:
    def ref(kind: type) -> Schema:
        return _or_public(path, definitions.schema_of(kind), definitions)

    match path:
        case "/v1/devices/{address}":
            return {"200": _printed(ref(OUTPUTS["devices"][1]), "The device")}
        case "/v1/host":
            return {"200": _content(ref(outputs.HostOutput), "The agent")}
        case "/v1/names":
            return {"200": _content(ref(outputs.NamesOutput), "The names")}
        case "/v1/operations":
            return {"200": _content(ref(outputs.OperationsOutput), "The newest is first")}
        case "/v1/operations/{id}":
            status = "202" if method == "DELETE" else "200"
            return {status: _content(ref(outputs.OperationOutput), "The operation")}
        case "/v1/operations/{id}/events":
            return {"200": _lines("operation_event", "A line for each event")}
        case "/v1/operations/{id}/output":
            printed = {"anyOf": [ref(OUTPUTS[name][1]) for name in _ACTED]}
            content = {JSON: {"schema": printed}, TEXT: {"schema": {"type": "string"}}}
            return {"200": {"description": "As it was asked for", "content": content}}
        case _:
            return {
                "200": _lines("watch_event", "A line for each change; the first has a token alone")
            }


def _printed(schema: Schema, description: str) -> Schema:
    return {
        "description": description,
        "headers": {
            "Cede-Exit": _header("the exit status of the command"),
            "Cede-Plan": _header("the digest of the plan, where one is shown"),
        },
        "content": {
            JSON: {"schema": schema},
            TEXT: {"schema": {"type": "string"}},
            LINES: {"schema": {"$ref": f"{_PLACE}operation_event"}},
        },
    }


def _content(schema: Schema, description: str) -> Schema:
    return {"description": description, "content": {JSON: {"schema": schema}}}


def _lines(name: str, description: str) -> Schema:
    return {"description": description, "content": {LINES: {"schema": {"$ref": _PLACE + name}}}}


def _header(description: str) -> Schema:
    return {"description": description, "schema": {"type": "string"}}


_REFUSED = {"default": {"$ref": "#/components/responses/problem"}}
_PROBLEM_RESPONSE = {
    "description": "It is refused, or failed",
    "content": {PROBLEM: {"schema": {"$ref": f"{_PLACE}problem"}}},
}
_PARAMETERS: Schema = {
    "address": {
        "name": "address", "in": "path", "required": True, "description": "the device's address, in any spelling",
        "schema": {"type": "string"},
    },
    "id": {
        "name": "id", "in": "path", "required": True, "description": "the operation's id", "schema": {"type": "string"},
    },
    "number": {
        "name": "after", "in": "query", "description": "only events after this number",
        "schema": {"type": "integer", "minimum": 0, "default": 0},
    },
    "output": {
        "name": "output", "in": "query", "description": "what the command prints: as with --json, or as without",
        "schema": {"enum": ["json", "text"]},
    },
    "token": {
        "name": "after", "in": "query", "description": "only changes after the one with this token",
        "schema": {"type": "string"},
    },
}  # fmt: skip


def _object(description: str, properties: Schema, optional: tuple[str, ...] = ()) -> Schema:
    return {
        "description": description,
        "type": "object",
        "additionalProperties": False,
        "required": [name for name in properties if name not in optional],
        "properties": properties,
    }


def _schemas(definitions: Definitions) -> dict[str, Schema]:
    """Return the schemas of what is no value of a type: problems, events, changes."""
    text, number = {"type": "string"}, {"type": "integer", "minimum": 1}
    error = {"anyOf": [definitions.schema_of(CedeError), {"type": "null"}]}
    exits = [int(each) for each in Exit]
    ended = {"enum": exits}
    some = {"type": ["string", "null"]}
    condition = definitions.schema_of(Condition)
    diagnostics = {"type": "array", "items": {"$ref": f"{_PLACE}diagnostic"}}
    definitions.schema_of(OUTPUTS["error"][1])
    own = {
        "problem": _object("A problem (RFC 9457)", {
            "type": {"const": "about:blank"}, "title": text, "status": {"type": "integer", "minimum": 400},
            "detail": text, "name": {"type": "string", "pattern": "^[a-z][a-z0-9-]*$"},
            "kind": {"enum": [kind.value for kind in FailureKind]},
            "reason": text, "remedy": text, "exit": {"enum": exits[1:]}, "diagnostics": diagnostics,
        }),
        "operation_event": {
            "description": "One event of an operation, told apart by `kind`",
            "oneOf": [
                _object("What the command prints", {"n": number, "kind": {"enum": ["out", "err"]}, "text": text}),
                _object("The begin or the end of an action", {
                    "n": number, "kind": {"const": "progress"}, "subject": text, "action": text,
                    "state": {"enum": ["begun", "ended"]}, "seconds": {"type": ["number", "null"]}, "error": error,
                }),
                _object("The end of the operation", {
                    "n": number, "kind": {"const": "end"}, "exit": ended, "digest": text, "error": error,
                }),
            ],
        },
        "watch_event": {
            "description": "One change on the host, told apart by `kind`",
            "oneOf": [
                _object("Where the watch begins", {"token": text, "kind": {"const": "now"}}),
                _object("A device that came, went, or has another driver or guest", {
                    "token": text, "kind": {"const": "device"}, "address": text, "present": {"type": "boolean"},
                    "driver": some, "domain": some,
                }),
                _object("A condition that changed", {
                    "token": text, "kind": {"const": "condition"}, "condition": condition,
                }),
                _object("An operation that began or ended", {
                    "token": text, "kind": {"const": "operation"}, "id": text, "command": text,
                    "state": definitions.schema_of(outputs.OperationState), "exit": {"enum": [*exits, None]},
                }),
            ],
        },
    }  # fmt: skip
    if own.keys() & definitions.schemas.keys():
        raise ValueError(f"two schemas have a name of {sorted(own)}")
    return own | definitions.schemas
