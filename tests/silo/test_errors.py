"""Every code: what it says, that it comes out as it went in, and that nothing else comes out of a foreign answer."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.errors import AtollError, InvalidData, JournalMismatch, Refused, RoundFailed, UnknownName, WireError
from atoll.silo import errors
from atoll.silo.errors import SiloError, codes, from_problem, page, problem

PAGE = Path(__file__).parents[2] / "docs" / "silo-errors.md"
AGREED = {
    "unauthenticated": 401, "bad-signature": 401, "replayed": 401, "stale-epoch": 401, "clock": 401, "revoked": 403,
    "forbidden": 403, "not-approved": 403, "token-unknown": 403, "token-used": 403, "token-expired": 403,
    "token-name": 403, "version": 409, "other-question": 409, "not-found": 404, "too-large": 413, "truncated": 400,
    "digest": 422, "malformed": 400, "contract": 422, "wrong-run": 409, "wrong-round": 409, "data-changed": 409,
    "column-missing": 422, "disk-full": 507, "expired-task": 409, "conflict": 409, "rate": 429, "unavailable": 503,
}  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=40), inner, max_size=6),
    max_leaves=12,
)


def test_the_codes_that_programs_rely_on() -> None:
    assert {code: codes[code].status for code in AGREED} == AGREED


def test_every_class_is_a_code_of_its_own() -> None:
    classes = [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, SiloError)]
    assert sorted(codes) == sorted(k.code for k in classes)
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", code) for code in codes)
    assert {k.__name__ for k in classes} <= set(errors.__all__)
    assert len({k.title for k in classes}) == len(classes)


@pytest.mark.parametrize("code", sorted(codes))
def test_there_and_back(code: str) -> None:
    error = codes[code]("the thing\n  got:      7", more={"seconds": 2.5, "epoch": 2**62})
    body = json.loads(json.dumps(problem(error)))
    assert body["type"] == f"/errors#{code}"
    assert body["status"] == codes[code].status
    back = from_problem(body)
    assert type(back) is codes[code]
    assert isinstance(back, AtollError)
    assert str(back) == str(error)
    assert back.more == error.more
    assert back.hint == error.hint == codes[code].hint


@pytest.mark.parametrize("code", sorted(codes))
def test_without_a_detail_the_title_is_said(code: str) -> None:
    assert str(codes[code]()) == codes[code].title
    assert "more" not in problem(codes[code]())


@pytest.mark.parametrize(
    ("code", "kind"),
    [("other-question", JournalMismatch), ("not-approved", Refused), ("revoked", Refused), ("contract", WireError),
     ("too-large", WireError), ("data-changed", InvalidData), ("failed", RoundFailed), ("not-found", UnknownName)],
)  # fmt: skip
def test_programs_that_know_the_errors_of_the_library_catch_them(code: str, kind: type[AtollError]) -> None:
    with pytest.raises(kind, match="so it is"):
        raise from_problem({"code": code, "detail": "so it is"})


def test_a_code_of_a_later_version_is_told() -> None:
    error = from_problem({"code": "quantum", "detail": "entangled", "hint": "untangle", "status": 499})
    assert type(error) is SiloError
    assert "entangled" in str(error)
    assert "quantum" in str(error)
    assert error.hint == "untangle"


def test_what_a_foreign_server_says_is_cut_and_cleaned() -> None:
    error = from_problem({"code": "rate", "detail": "\x1b[2J" + "x" * 10_000, "more": {"a": [1], "b" * 99: 1, "c": 1}})
    assert str(error).startswith("[2Jxxx")
    assert len(str(error)) <= 4000
    assert error.more == {"c": 1}


@given(JSON | st.fixed_dictionaries({"code": st.sampled_from(sorted(codes)) | JSON, "detail": JSON, "more": JSON}))
def test_any_answer_is_some_error(body: object) -> None:
    error = from_problem(body)
    assert isinstance(error, SiloError)
    assert from_problem(problem(error)).more == pytest.approx(error.more, nan_ok=True)


def test_the_page_is_what_the_code_says() -> None:
    assert PAGE.read_text() == page(), "write docs/silo-errors.md again from atoll.silo.errors.page()"


@pytest.mark.parametrize("code", sorted(codes))
def test_the_page_says_what_happened_and_what_to_do(code: str) -> None:
    section = page().split(f"\n## {code}\n")[1].split("\n## ")[0]
    happened, do = re.findall(r"\*\*What (?:happened|to do)\.\*\* (.+)", section)
    assert len(happened) > 30
    assert len(do) > 20
    assert f"HTTP {codes[code].status}" in section
