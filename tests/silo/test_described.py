"""The coordinator answers as it describes itself, also when schemathesis asks."""

from __future__ import annotations

import re
import runpy
import string
import warnings
from pathlib import Path

import pytest

from atoll.silo.errors import codes
from atoll.silo.server import openapi
from atoll.silo.server.details import BODIES, OWN, errors_of, parameter
from atoll.silo.server.routes import ROUTES

DOCUMENT = openapi.document()
SOME = (
    "POST /v1/join", "GET /v1/work", "POST /v1/answers/{exchange}/{position}", "PATCH /v1/uploads/{digest}",
    "GET /v1/blobs/{digest}", "POST /v1/runs/{name}/exchanges", "GET /v1/events", "GET /log",
)  # fmt: skip
LABELS = {f"{route.method} {route.path}": route for route in ROUTES}


def test_what_is_said_about_single_paths_is_about_paths_that_are_there() -> None:
    assert set(OWN) <= set(LABELS)
    assert set(BODIES) <= set(LABELS)
    assert {code for found in OWN.values() for code in found} <= set(codes)


@pytest.mark.parametrize("label", sorted(LABELS))
def test_every_status_has_its_codes_and_every_parameter_its_form(label: str) -> None:
    route = LABELS[label]
    described = DOCUMENT["paths"][route.path][route.method.lower()]
    assert {"400", "413", "415", "503"} <= set(described["responses"])
    assert "500" not in described["responses"]
    for status, found in errors_of(route).items():
        reference = described["responses"][status]["$ref"].rpartition("/")[2]
        told = DOCUMENT["components"]["responses"][reference]
        assert set(reference) <= {*string.ascii_letters, *string.digits, "-", "."}
        code = told["content"]["application/problem+json"]["schema"]["allOf"][1]["properties"]
        assert code == {"code": {"enum": found}, "status": {"const": int(status)}}
        assert all(codes[one].status == int(status) for one in found)
    assert [p["name"] for p in described["parameters"] if p["in"] == "path"] == re.findall(r"{(\w+)}", route.path)
    assert all(p["schema"] for p in described["parameters"])
    assert ("requestBody" in described) == (route.takes is not None)


def test_a_parameter_that_must_be_there_is_required() -> None:
    route = LABELS["PATCH /v1/uploads/{digest}"]
    assert parameter(route, "header", "Upload-Offset")["required"]
    assert parameter(route, "path", "digest")["required"]
    assert not parameter(LABELS["GET /v1/work"], "query", "wait")["required"]


def test_what_may_stand_for_bytes_is_described() -> None:
    answer = DOCUMENT["paths"]["/v1/answers/{exchange}/{position}"]["post"]["requestBody"]["content"]
    assert set(answer) == {"application/json", "application/octet-stream"}
    assert len(answer["application/json"]["schema"]["anyOf"]) == 2
    assert "206" in DOCUMENT["paths"]["/v1/blobs/{digest}"]["get"]["responses"]


def test_answers_are_as_described() -> None:
    pytest.importorskip("schemathesis", reason="pip install 'atoll[fuzz]'")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fuzzer = runpy.run_path(str(Path(__file__).parents[1] / "fuzz" / "openapi.py"))
        report = fuzzer["fuzz"](300, 7, SOME)
    assert report.cases >= 300
    assert report.statuses["200"] > 10
    assert {"malformed", "unauthenticated", "bad-signature", "forbidden", "not-found"} <= set(report.codes)
