"""The routes of a server in words: for OpenAPI, and as a page that needs no other host."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, select_autoescape

from isthmus.serving.replies import ARROW, JSON
from isthmus.serving.routes import Route

CELL: dict[str, Any] = {"type": ["number", "string", "boolean", "null"]}
TABLE: dict[str, Any] = {
    "oneOf": [
        {
            "type": "object",
            "required": [name],
            "additionalProperties": False,
            "description": words,
            "properties": {name: form},
        }
        for name, words, form in (
            (
                "rows",
                "Rows of numbers, null for a missing cell, in the order of the model's columns.",
                {"type": "array", "minItems": 1, "items": {"type": "array", "items": {}}},
            ),
            (
                "columns",
                "The cells of each column, by its name.",
                {"type": "object", "additionalProperties": {"type": "array", "items": CELL}},
            ),
            (
                "records",
                "A record for each row; all have the same names.",
                {"type": "array", "minItems": 1, "items": {"type": "object", "additionalProperties": CELL}},
            ),
        )
    ]
}
ANSWER: dict[str, Any] = {
    "type": "object",
    "required": ["columns", "warnings"],
    "properties": {
        "columns": {
            "type": "object",
            "description": "A value for each row, in the order of the rows; NaN and infinite numbers are null.",
            "additionalProperties": {"type": "array", "items": {}},
        },
        "warnings": {"type": "array", "items": {"type": "string"}, "description": "Warnings of the library."},
    },
}
ERROR: dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "string", "description": "What is wrong, what is needed, what to do."}},
}
REFUSALS = {
    400: "The body is not JSON or not an Arrow stream, or an option is wrong.",
    406: "The format of the header Accept is unknown.",
    408: "The body came too slowly.",
    413: "The body or its number of rows is too large.",
    415: "The format of the body is unknown.",
    422: "The table cannot be used; the text is that of the library.",
    503: "Too many requests wait; try again after the seconds of Retry-After.",
    504: "The answer took too long.",
}


def documented(route: Route) -> dict[str, Any]:
    """What FastAPI puts into the OpenAPI description of a route."""
    parameters = [
        {"name": name, "in": "query", "description": words, "schema": {"type": "integer", "minimum": 1}}
        for name, words in route.options.items()
    ]
    arrow = {"schema": {"type": "string", "format": "binary"}}
    refusals = {
        str(status): {"description": words, "content": {JSON: {"schema": ERROR}}} for status, words in REFUSALS.items()
    }
    answer = {"description": route.summary, "content": {JSON: {"schema": ANSWER}, ARROW: arrow}}
    return {
        "summary": route.summary,
        "openapi_extra": {
            "parameters": parameters,
            "requestBody": {"required": True, "content": {JSON: {"schema": TABLE}, ARROW: arrow}},
            "responses": {"200": answer, **refusals},
        },
    }


PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{{ title }}</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
code, pre, textarea { font: 14px/1.4 ui-monospace, monospace; }
pre { background: #8881; padding: .7rem; overflow: auto; }
textarea { width: 100%; height: 6rem; box-sizing: border-box; }
h2 { border-top: 1px solid #8884; padding-top: 1rem; }
:root { color-scheme: light dark; }
</style>
<h1>{{ title }}</h1>
<p>{{ about }} The description for programs is <a href="{{ root }}/openapi.json">openapi.json</a>; the facts of the
model are at <a href="{{ root }}/">/</a>.</p>
{% for path, verb, facts in paths %}
<h2><code>{{ verb | upper }} {{ path }}</code></h2>
<p>{{ facts.summary }}</p>
{% for option in facts.parameters or [] %}<p>Option in the query: <code>{{ option.name }}</code>,
{{ option.description }}.</p>{% endfor %}
{% if facts.requestBody %}
<form data-path="{{ root }}{{ path }}"><textarea aria-label="Body">{{ example }}</textarea>
<button>Send</button></form><pre hidden></pre>
<details><summary>Form of body and answer</summary>
<pre>{{ facts.requestBody.content["application/json"].schema | pretty }}</pre>
{% for status, answer in facts.responses.items() %}<p><b>{{ status }}</b> {{ answer.description }}</p>{% endfor %}
</details>
{% endif %}
{% endfor %}
<script>
for (const form of document.forms) form.addEventListener("submit", async event => {
  event.preventDefault();
  const shown = form.nextElementSibling, body = form.querySelector("textarea").value;
  const reply = await fetch(form.dataset.path, {method: "POST", body, headers: {"Content-Type": "application/json"}});
  shown.textContent = reply.status + "\\n" + await reply.text();
  shown.hidden = false;
});
</script>
</html>
"""

_ENVIRONMENT = Environment(autoescape=select_autoescape(default=True))
_ENVIRONMENT.filters["pretty"] = lambda value: json.dumps(value, indent=1)


def page(description: Mapping[str, Any], root: str) -> str:
    """The OpenAPI description as a page, which loads nothing else."""
    paths = [(path, verb, facts) for path, verbs in description["paths"].items() for verb, facts in verbs.items()]
    return _ENVIRONMENT.from_string(PAGE).render(
        title=description["info"]["title"],
        about=description["info"]["description"],
        paths=paths,
        example='{"rows": [[…]]}',
        root=root,
    )
