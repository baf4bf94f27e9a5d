"""Files that are whole, files that are private, and profiles."""

from __future__ import annotations

import errno
import json
import logging
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from atoll.silo import files
from atoll.silo.errors import Conflict, DiskFull, Malformed, NotFound, UnsafeFile
from atoll.silo.files import private_folder, read_secret, secret_file, write_whole
from atoll.silo.home import Profile, home
from atoll.silo.keys import Key, fingerprint

SIGNING = Key.make().public


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def profile(folder: Path, **changes: Any) -> Profile:
    parts: dict[str, Any] = {
        "url": "https://silo.example:8443/", "name": "ada", "role": "researcher", "federation": fingerprint(SIGNING),
        "signing_key": SIGNING, "certificate": "ab" * 32, "key": Key.make(), "since": 5.0,
    }  # fmt: skip
    return Profile.create(folder, **(parts | changes))


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "state"
    write_whole(path, b"old")
    write_whole(path, memoryview(b"new"))
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["state"]


def test_the_usual_mask_applies_and_secrets_are_private_from_the_start(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "shown", b"x")
        secret_file(tmp_path / "secret", b"x")
    finally:
        os.umask(before)
    assert mode(tmp_path / "shown") == 0o640
    assert mode(tmp_path / "secret") == 0o600


@pytest.mark.parametrize("where", ["write", "sync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    write_whole(tmp_path / "state", b"old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if where == "write":
        monkeypatch.setattr(files.os, "fdopen", _closing(full))
    else:
        monkeypatch.setattr(files.os, "fsync" if where == "sync" else "replace", full)
    with pytest.raises(DiskFull, match="no room"):
        write_whole(tmp_path / "state", b"new")
    assert (tmp_path / "state").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["state"]


def _closing(fail: Any) -> Any:
    def opened(descriptor: int, _: str) -> None:
        os.close(descriptor)
        fail()

    return opened


def test_other_failures_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_whole(tmp_path / "no" / "state", b"x")


@pytest.mark.parametrize("wrong", [0o640, 0o604, 0o620, 0o777], ids=oct)
def test_a_secret_that_others_may_read_is_refused_with_the_line_that_fixes_it(tmp_path: Path, wrong: int) -> None:
    path = tmp_path / "key"
    secret_file(path, b"secret")
    path.chmod(wrong)
    with pytest.raises(UnsafeFile, match=f"chmod 600 {path}"):
        read_secret(path)
    path.chmod(0o600)
    assert read_secret(path) == b"secret"


def test_a_secret_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret_file(tmp_path / "key", b"secret")
    monkeypatch.setattr(files.os, "geteuid", lambda: 4242)
    with pytest.raises(UnsafeFile, match="sudo chown 4242"):
        read_secret(tmp_path / "key")


def test_a_secret_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="not there"):
        read_secret(tmp_path / "key")


def test_a_private_folder(tmp_path: Path) -> None:
    path = private_folder(tmp_path / "a" / "b")
    assert mode(path) == 0o700
    assert private_folder(path) == path
    (tmp_path / "empty").mkdir(mode=0o755)
    assert mode(private_folder(tmp_path / "empty")) == 0o700
    (path / "x").touch()
    path.chmod(0o750)
    with pytest.raises(UnsafeFile, match=f"chmod 700 {path}"):
        private_folder(path)
    (tmp_path / "file").touch()
    with pytest.raises(Conflict, match="a folder is needed"):
        private_folder(tmp_path / "file")


def test_home_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ATOLL_HOME", str(tmp_path))
    assert home() == tmp_path
    monkeypatch.delenv("ATOLL_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert home() == tmp_path / ".config" / "atoll"


def test_a_profile_comes_back(tmp_path: Path) -> None:
    key = Key.make()
    made = profile(tmp_path / "p", key=key)
    again = Profile(tmp_path / "p")
    for p in (made, again):
        assert (p.url, p.name, p.role) == ("https://silo.example:8443", "ada", "researcher")
        assert (p.federation, p.signing_key, p.certificate) == (fingerprint(SIGNING), SIGNING, "ab" * 32)
        assert p.key.public == key.public


def test_a_profile_shows_no_secret(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    key = Key.make()
    made = profile(tmp_path / "p", key=key)
    secret = (tmp_path / "p" / "key").read_bytes()
    assert b"PRIVATE" in secret
    letters = secret.splitlines()[1].decode()
    raw = key._secret.private_bytes_raw()
    logging.getLogger("atoll").warning("%r %s %r %s", made, made, made.key, vars(made))
    told = [repr(made), str(made.key), (tmp_path / "p" / "profile.json").read_text(), caplog.text]
    for text in told:
        assert letters not in text
        assert letters[20:40] not in text
        assert raw.hex() not in text
        assert repr(raw) not in text
    assert mode(tmp_path / "p" / "key") == 0o600
    assert mode(tmp_path / "p") == 0o700


def test_a_profile_whose_key_others_may_read_is_refused(tmp_path: Path) -> None:
    profile(tmp_path / "p")
    (tmp_path / "p" / "key").chmod(0o644)
    with pytest.raises(UnsafeFile, match="chmod 600"):
        Profile(tmp_path / "p")


def test_the_key_may_be_there_before_the_profile_but_no_other(tmp_path: Path) -> None:
    key = Key.make()
    key.save(private_folder(tmp_path / "p") / "key")
    with pytest.raises(NotFound, match="no profile here"):
        Profile(tmp_path / "p")
    with pytest.raises(Conflict, match="another key"):
        profile(tmp_path / "p")
    assert profile(tmp_path / "p", key=key).key.public == key.public
    assert profile(tmp_path / "p", key=key, name="eve").name == "eve"


@pytest.mark.parametrize("wrong", [b"", b"{}", b"[1]", b'{"url": 3}', b"\xff\xff", b"null", b'{"url": "\xff"}'])
def test_a_profile_that_cannot_be_read(tmp_path: Path, wrong: bytes) -> None:
    profile(tmp_path / "p")
    (tmp_path / "p" / "profile.json").write_bytes(wrong)
    with pytest.raises(Malformed, match=r"profile\.json"):
        Profile(tmp_path / "p")


def test_a_profile_with_more_than_it_should_have_is_refused(tmp_path: Path) -> None:
    profile(tmp_path / "p")
    path = tmp_path / "p" / "profile.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"key": "x"}))
    with pytest.raises(Malformed, match="unknown field"):
        Profile(tmp_path / "p")


def test_the_last_login_is_found(tmp_path: Path) -> None:
    one, two = "https://one.example", "https://two.example:8443"
    for url, name, since in ((one, "ada", 1.0), (one, "eve", 3.0), (two, "ada", 2.0)):
        profile(Profile.place(url, name, tmp_path), url=url, name=name, since=since)
    assert [(p.url, p.name) for p in Profile.all(tmp_path)] == [(one, "eve"), (two, "ada"), (one, "ada")]
    assert Profile.find(home=tmp_path).name == "eve"
    assert Profile.find("HTTPS://ONE.example/".replace("HTTPS", "https"), tmp_path).name == "eve"
    assert Profile.find(one, tmp_path, name="ada").since == 1.0
    assert Profile.find(two, tmp_path).name == "ada"
    with pytest.raises(NotFound, match="ada at https://two"):
        Profile.find("https://three.example", tmp_path)
    with pytest.raises(NotFound, match="atoll login"):
        Profile.find(two, tmp_path, name="eve")


def test_no_login_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATOLL_HOME", str(tmp_path))
    with pytest.raises(NotFound, match="no profile at all"):
        Profile.find()


@pytest.mark.parametrize(
    "url", ["", "silo.example", "ftp://x", "https://", "https://a b", "https://u@h", "https://h?q"]
)
def test_what_is_no_url(tmp_path: Path, url: str) -> None:
    with pytest.raises(Malformed, match="no URL"):
        Profile.find(url, tmp_path)


def test_places_are_distinct_and_stay_inside(tmp_path: Path) -> None:
    names = ["a", "A", "a.b", "..", ".", "a/b", "a_2f_b", "ä", "a:b", "-"]
    urls = ["https://h", "https://h:1", "https://h/1", "https://[::1]:1"]
    places = {Profile.place(u, n, tmp_path) for u in urls for n in names}
    assert len(places) == len(urls) * len(names)
    assert all(p.resolve().parents[1] == (tmp_path / "profiles").resolve() for p in places)
