"""The document as a page to read: plain HTML without a script or a foreign host.

Must escape whatever it shows, although all of it is our own.
"""

from __future__ import annotations

import json
from html import escape
from importlib.resources import files
from typing import Any

from certctl.api.document.schemas import REFERENCE
from certctl.client.models.problem import MEDIA_TYPE

STYLE_PATH = "/api/v1/docs/style.css"
# only our own style sheet, nothing else
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

Node = dict[str, Any]


def style() -> bytes:
    """The page's style sheet."""
    return files(__package__).joinpath("style.css").read_bytes()


def render(document: Node) -> str:
    """The whole page."""
    by_tag: dict[str, list[tuple[str, str, Node]]] = {}
    for path, item in document["paths"].items():
        for method, operation in item.items():
            by_tag.setdefault(operation["tags"][0], []).append((path, method, operation))
    tags = sorted(by_tag)
    info = document["info"]
    schemas = document["components"]["schemas"]
    count = sum(len(operations) for operations in by_tag.values())
    return "".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<title>{escape(info["title"])} API</title><link rel="stylesheet" href="{STYLE_PATH}"></head><body>',
            f'<nav aria-label="Sections"><p class="brand">{escape(info["title"])}',
            f" <span>{escape(info['version'])}</span></p><ul>",
            *(f'<li><a href="#{_slug(tag)}">{escape(tag)}</a> <span>{len(by_tag[tag])}</span></li>' for tag in tags),
            '<li class="apart"><a href="#refusals">refusals</a></li><li><a href="#schemas">schemas</a>',
            f" <span>{len(schemas)}</span></li></ul></nav><main>",
            f"<h1>{count} calls, one key</h1><p class=lead>{escape(info['description'])} ",
            "Send <code>Authorization: Bearer &lt;key&gt;</code>. The same as ",
            '<a href="/api/v1/openapi.json">OpenAPI 3.1</a>, or <code>certctl-server openapi</code>.</p>',
            *(_section(tag, by_tag[tag], document) for tag in tags),
            _refusals(document),
            '<section id="schemas"><h2>schemas</h2>',
            *(_schema_section(name, schema) for name, schema in schemas.items()),
            "</section></main></body></html>",
        ]
    )


def _slug(text: str) -> str:
    return "tag-" + "".join(char if char.isalnum() else "-" for char in text)


def _section(tag: str, operations: list[tuple[str, str, Node]], document: Node) -> str:
    parts = [_operation(path, method, operation, document) for path, method, operation in operations]
    return f'<section id="{_slug(tag)}"><h2>{escape(tag)}</h2>{"".join(parts)}</section>'


def _operation(path: str, method: str, operation: Node, document: Node) -> str:
    shown_path = "".join(f"<i>{escape(part)}</i>" if part.startswith("{") else escape(part) for part in _parts(path))
    parts = [
        f'<details id="{escape(operation["operationId"])}"><summary><b class="m {method}">{method.upper()}</b>',
        f'<code>{shown_path}</code><span class="what">{escape(operation["summary"])}</span>',
        f'<span class="needs">{escape(operation["x-permission"])}</span></summary><div class="body">',
        f"<p>{_prose(operation.get('description', ''))}</p>" if operation.get("description") else "",
        _parameters(operation.get("parameters", [])),
    ]
    if "requestBody" in operation:
        needed = "" if operation["requestBody"].get("required") else " <em>may be left out</em>"
        parts += [f"<h3>Body{needed}</h3>", _content(operation["requestBody"]["content"])]
    refused = []
    for status, answer in operation["responses"].items():
        if "$ref" in answer:
            name = answer["$ref"].rpartition("/")[2]
            title = document["components"]["responses"][name]["description"]
            refused.append(f'<a href="#refusals" title="{escape(title)}">{status}</a>')
        else:
            parts += [
                f"<h3>{status} <em>{escape(answer['description'])}</em></h3>",
                _content(answer.get("content", {})),
            ]
    parts.append(f'<p class="refused">Refusals: {" ".join(refused)}</p>' if refused else "")
    return "".join(parts) + "</div></details>"


def _parts(path: str) -> list[str]:
    parts: list[str] = []
    for part in path.split("/")[1:]:
        parts += ["/", part]
    return parts


def _prose(text: str) -> str:
    """Our docstrings: paragraphs and `code`."""
    pieces = escape(text).split("`")
    return "".join(f"<code>{piece}</code>" if at % 2 else piece for at, piece in enumerate(pieces)).replace(
        "\n\n", "</p><p>"
    )


def _parameters(parameters: list[Node]) -> str:
    if not parameters:
        return ""
    rows = [
        f"<tr><th><code>{escape(each['name'])}</code></th><td>{escape(each['in'])}</td><td>{_kind(each['schema'])}</td>"
        f"<td>{_prose(each['description'])}{_default(each['schema'])}</td></tr>"
        for each in parameters
    ]
    return f"<h3>Parameters</h3><table>{''.join(rows)}</table>"


def _default(schema: Node) -> str:
    value = schema.get("default")
    return f"<em>, {escape(json.dumps(value))} when absent</em>" if value not in {None, ""} else ""


def _content(content: Node) -> str:
    return "".join(
        f'<p class="media">{escape(media_type)} {_kind(told["schema"])}</p>' + _example(told.get("example"))
        for media_type, told in content.items()
    )


def _example(value: Any) -> str:
    return "" if value is None else f"<pre>{escape(json.dumps(value, indent=2))}</pre>"


def _kind(schema: Node) -> str:
    """A schema in a few words, structs linked."""
    if "$ref" in schema:
        name = escape(schema["$ref"].removeprefix(REFERENCE))
        return f'<a href="#schema-{name}">{name}</a>'
    if "anyOf" in schema or "oneOf" in schema:
        return " or ".join(_kind(each) for each in schema.get("anyOf") or schema["oneOf"])
    if "enum" in schema:
        return " or ".join(f"<code>{escape(str(each))}</code>" for each in schema["enum"])
    kind = str(schema.get("type", "any"))
    if kind == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    bounds = [
        f"{word} {schema[name]}"
        for name, word in (("minimum", "from"), ("maximum", "to"), ("maxLength", "at most"))
        if name in schema
    ]
    return escape(" ".join([kind, schema.get("format", ""), *bounds]).strip())


def _refusals(document: Node) -> str:
    parts = [
        f"<details><summary><b class='m status'>{answer['content'][MEDIA_TYPE]['example']['status']}</b>"
        f"<code>{escape(name)}</code><span class='what'>{escape(answer['description'])}</span></summary>"
        f"<div class='body'>{_content(answer['content'])}</div></details>"
        for name, answer in document["components"]["responses"].items()
    ]
    return f'<section id="refusals"><h2>refusals</h2><p>Problem documents, RFC 9457.</p>{"".join(parts)}</section>'


def _schema_section(name: str, schema: Node) -> str:
    needed = set(schema.get("required", []))
    rows = [
        f"<tr><th><code>{escape(field)}</code></th><td>{'' if told.get('readOnly') else _kind(told)}</td>"
        f"<td>{'always' if field in needed else ''}{escape(told.get('description', ''))}</td></tr>"
        for field, told in schema.get("properties", {}).items()
    ]
    example = _example(next(iter(schema.get("examples", [])), None))
    return (
        f'<details id="schema-{escape(name)}"><summary><code>{escape(name)}</code><span class="what">'
        f"{_prose(schema.get('description', '').partition(chr(10))[0])}</span></summary>"
        f'<div class="body"><table>{"".join(rows)}</table>{example}</div></details>'
    )
