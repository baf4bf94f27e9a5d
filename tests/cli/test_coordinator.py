"""``atoll coordinator``: what a person types, what is printed, and that it works beside a running one and without."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from atoll.silo import api, tokens
from atoll.silo.home import Profile
from silo.serving import Caller, admin, join, joined, open_run, running

SCRIPT = Path(sys.executable).parent / "atoll"
Atoll = Callable[..., Any]


@contextmanager
def started(*words: str, **settings: Any) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """The command, running; and what it printed up to the line that says what to type next, or all of its JSON."""
    process = subprocess.Popen(
        [str(SCRIPT), "coordinator", "start", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        **settings,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        lines: list[str] = []
        for line in process.stdout:
            lines.append(line.rstrip("\n"))
            if line.startswith("next:") or line == "}\n":
                break
        yield process, lines
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def test_from_nothing_to_a_member_who_is_revoked(atoll: Atoll, tmp_path: Path) -> None:
    with started("here", "-p", "0", cwd=tmp_path) as (process, lines):
        told = dict(line.split(":", 1) for line in lines if line)
        url = told["coordinator"].strip()
        assert url == (tmp_path / "here" / "address").read_text().strip()
        assert told["federation"].strip().startswith("ed25519:")
        assert len(told["certificate"].strip()) == 64
        assert f"{url}/login/" in told["dashboard"]
        assert told["next"].strip() == "atoll coordinator invite NAME --folder here"
        said = atoll("coordinator", "invite", "clinic-a", "--folder", "here")
        assert said.status == 0, said.err
        assert "clinic-a (node)" in said.err
        words = said.out.split()
        assert words[:4] == ["atoll", "node", "join", url]
        assert tokens.read(words[4]).name == "clinic-a"
        by = Caller(url, Profile(tmp_path / "here" / "admin").key)
        assert join(by, words[4]).read(api.Joined).name == "clinic-a"
        by.close()
        members = atoll("coordinator", "members", "--folder", "here", "--json").data()["members"]
        assert {m["name"]: m["role"] for m in members} == {"admin": "admin", "clinic-a": "node"}
        assert "clinic-a" in atoll("coordinator", "members", "--folder", "here").out
        assert atoll("coordinator", "revoke", "clinic-a", "--folder", "here").status == 0
        assert atoll("coordinator", "login", "--folder", "here").out.startswith(f"{url}/login/")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert process.stderr is not None
        assert process.stderr.read() == "the coordinator has ended\n"


def test_the_folder_of_one_that_is_not_running_is_enough(atoll: Atoll, tmp_path: Path) -> None:
    with running(tmp_path / "coordinator") as coordinator:
        pass
    said = atoll("coordinator", "invite", "ann", "--role", "researcher", "--hours", "2", "--json")
    assert said.status == 0, said.err
    token = tokens.read(said.data()["token"])
    assert (token.name, token.role, token.url) == ("ann", "researcher", coordinator.url)
    assert token.certificate == coordinator.folder.fingerprint
    line = atoll("coordinator", "invite", "bob", "--role", "viewer").out
    assert line.startswith(f"atoll login {coordinator.url} atoll_")
    with running(tmp_path / "coordinator", port=None) as again:
        by = Caller(again.local_url, Profile(tmp_path / "coordinator" / "admin").key)
        assert join(by, said.data()["token"]).read(api.Joined).role == "researcher"
    assert atoll("coordinator", "revoke", "ann", "--json").data()["revoked"] is not None
    assert atoll("coordinator", "revoke", "nobody").status == 2
    refused = atoll("coordinator", "login")
    assert refused.status == 2
    assert "not running" in refused.err


def test_runs_of_long_ago_are_forgotten(atoll: Atoll, tmp_path: Path) -> None:
    folder = tmp_path / "coordinator"
    with running(folder) as coordinator:
        by = admin(coordinator)
        joined(by, "bay").close()
        for name in ("july", "august", "open"):
            open_run(by, ("bay",), name).read(api.Opened)
        for name in ("july", "august"):
            by.ask("POST", f"/v1/runs/{name}/end", api.Ending(state="done"))
        said = atoll("coordinator", "forget")
        assert (said.status, "--older-than 90" in said.err) == (2, True)
        assert atoll("coordinator", "forget", "--older-than", "1").out.startswith("0 runs are deleted")
        found = atoll("coordinator", "forget", "--older-than", "0", "--json").data()["forgotten"]
        assert found == [{"name": "august", "owner": "admin"}, {"name": "july", "owner": "admin"}]
        by.ask("POST", "/v1/runs/open/end", api.Ending(state="failed"))
        by.close()
    assert atoll("coordinator", "forget", "--older-than", "0").out.startswith("1 run is deleted")
    assert atoll("coordinator", "forget", "--older-than", "0").out.startswith("0 runs")


def test_json_and_a_proxy(tmp_path: Path) -> None:
    words = ("c", "-p", "0", "--behind-proxy", "--forwarded", "--failures", "0")
    words += ("--url", "https://silos.example.org", "--json")
    with started(*words, cwd=tmp_path) as (process, lines):
        data = json.loads("\n".join(lines))
        assert (data["url"], data["certificate"]) == ("https://silos.example.org", None)
        assert data["login"].startswith("https://silos.example.org/login/")
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(30) == 0


def test_a_second_one_in_the_same_folder_is_refused(atoll: Atoll, tmp_path: Path) -> None:
    with running(tmp_path / "c"):
        said = atoll("coordinator", "start", "c", "--port", "0")
    assert said.status == 1
    assert "runs in this folder" in said.err


@pytest.mark.parametrize("verb", [("invite", "a"), ("members",), ("revoke", "a"), ("login",)], ids=lambda v: v[0])
def test_a_folder_without_a_coordinator_is_named(atoll: Atoll, tmp_path: Path, verb: tuple[str, ...]) -> None:
    said = atoll("coordinator", *verb, "--folder", "nowhere")
    assert (said.status, said.out) == (2, "")
    assert "there is no coordinator in this folder" in said.err
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_taken_and_one_that_is_none(atoll: Atoll, tmp_path: Path) -> None:
    with running(tmp_path / "coordinator"):
        assert "admin" in atoll("coordinator", "invite", "admin").err
        assert atoll("coordinator", "invite", "not a name").status == 1


def test_the_browser_is_opened(atoll: Atoll, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda url: bool(opened.append(url)))
    with running(tmp_path / "coordinator") as coordinator:
        said = atoll("coordinator", "login", "--open")
    assert opened == [said.out.strip()]
    assert opened[0].startswith(f"{coordinator.url}/login/")
    assert "no browser could be opened" in said.err
