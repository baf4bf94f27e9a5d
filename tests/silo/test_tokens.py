"""Tokens: one word that is read as it was written, or not at all."""

from __future__ import annotations

import base64
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.silo import tokens
from atoll.silo.errors import SiloError, TokenMistyped
from atoll.silo.keys import Key
from atoll.silo.tokens import PREFIX, Token, hashed, make_secret, read, write

TOKEN = Token("https://silo.example:8443", "clinic-a", "node", bytes(range(20)), "ab" * 32, bytes(32), 2e9)


def test_one_word_there_and_back() -> None:
    word = write(TOKEN)
    assert word.startswith(PREFIX)
    assert set(word.removeprefix(PREFIX)) <= set("abcdefghijklmnopqrstuvwxyz234567")
    assert len(word) < 250
    assert read(word) == TOKEN
    assert read(write(TOKEN._replace(certificate=None, expires=1.5))) == TOKEN._replace(certificate=None, expires=2.0)


@given(
    st.text(min_size=1, max_size=100), st.sampled_from(["admin", "researcher", "node", "viewer"]),
    st.binary(min_size=20, max_size=20), st.binary(min_size=32, max_size=32) | st.none(), st.integers(0, 2**40),
)  # fmt: skip
def test_any_token_comes_back(name: str, role: tokens.Role, secret: bytes, pin: bytes | None, expires: int) -> None:
    name = name.encode("utf-8", "replace").decode()
    token = Token("https://h:1", name, role, secret, pin.hex() if pin else None, Key.make().public, float(expires))
    assert read(write(token)) == token


def test_what_mails_and_terminals_do_to_it_does_no_harm() -> None:
    word = write(TOKEN)
    lines = "\n ".join(word[i : i + 60] for i in range(0, len(word), 60))
    assert read(f"  {lines}\r\n") == TOKEN
    assert read(word.upper()) == TOKEN


@pytest.mark.parametrize("at", range(0, 220, 11))
def test_a_mistyped_letter_is_told(at: int) -> None:
    word = write(TOKEN)
    place = len(PREFIX) + at
    for letter in ("a", "7", "1", "ä", "-"):
        if word[place] != letter:
            with pytest.raises(TokenMistyped, match="mistyped or cut off"):
                read(word[:place] + letter + word[place + 1 :])
    with pytest.raises(TokenMistyped, match="mistyped or cut off"):
        read(word[:place] + word[place + 1 :])
    with pytest.raises(TokenMistyped, match="mistyped or cut off"):
        read(word[:place] + "b" + word[place:])


@pytest.mark.parametrize("end", range(0, 230, 17))
def test_a_token_that_is_cut_off_is_told(end: int) -> None:
    word = write(TOKEN)
    assert end < len(word)
    with pytest.raises(TokenMistyped):
        read(word[:end])


def test_two_letters_that_changed_places_are_told() -> None:
    word = write(TOKEN)
    for i in range(len(PREFIX), len(word) - 1):
        if word[i] != word[i + 1]:
            with pytest.raises(TokenMistyped):
                read(word[:i] + word[i + 1] + word[i] + word[i + 2 :])


def encoded(body: bytes) -> str:
    data = body + tokens._checksum(body)
    return PREFIX + base64.b32encode(data).decode().rstrip("=").lower()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x00",
        b"\xc1",
        b"\x98\x01",
        b"\xdf\xff\xff\xff\xff",
        b"\x90",
        b"\xff" * 30,
        b"\xc6\xff\xff\xff\xff",
        b"\x98\x01\xa1\x80",
    ],
    ids=bytes.hex,
)
def test_a_sound_checksum_over_something_else(body: bytes) -> None:
    with pytest.raises(TokenMistyped):
        read(encoded(body))


@pytest.mark.parametrize(
    "changes",
    [{"secret": b"short"}, {"signing_key": b"short"}, {"certificate": "abcd"}, {"role": "king"}, {"name": ""},
     {"name": "n" * 101}, {"url": ""}, {"url": "u" * 501}],
    ids=lambda c: next(iter(c)) + str(len(next(iter(c.values())))),
)  # fmt: skip
def test_what_no_token_can_hold_is_not_written(changes: dict[str, object]) -> None:
    with pytest.raises(TokenMistyped):
        write(TOKEN._replace(**changes))


@pytest.mark.parametrize(
    "text", ["", "atoll_", "token", "x" * 100_000, "atoll_" + "a" * 3000, "\x00", "atoll_=", "atoll_ä"]
)
def test_what_is_no_token(text: str) -> None:
    with pytest.raises(TokenMistyped):
        read(text)


@given(st.text(max_size=400) | st.text("abcdefghijklmnopqrstuvwxyz234567", max_size=400).map(PREFIX.__add__))
def test_any_text_is_a_token_or_mistyped(text: str) -> None:
    with pytest.raises(TokenMistyped):
        read(text)


@given(st.binary(max_size=200))
def test_any_bytes_with_a_sound_checksum_are_a_token_or_mistyped(body: bytes) -> None:
    try:
        token = read(encoded(body))
    except SiloError:
        return
    assert write(token)


def test_expiry_is_by_the_clock_that_is_given() -> None:
    assert not TOKEN.expired(TOKEN.expires - 1)
    assert TOKEN.expired(TOKEN.expires)
    assert not TOKEN._replace(expires=4e9).expired()


def test_the_coordinator_keeps_a_hash_and_nobody_shows_the_secret(caplog: pytest.LogCaptureFixture) -> None:
    secret = make_secret()
    assert len(secret) == 20
    assert secret != make_secret()
    assert hashed(secret) != hashed(secret[::-1])
    assert len(hashed(secret)) == 64
    token = TOKEN._replace(secret=secret)
    logging.getLogger("atoll").warning("%r %s", token, token)
    for text in (repr(token), str(token), f"{token}", caplog.text):
        assert secret.hex() not in text
        assert repr(secret) not in text
