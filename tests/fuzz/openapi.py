"""Ask a real coordinator everything that its own description allows, and what it forbids: it answers as described.

    python tests/fuzz/openapi.py --cases 100000 --seed 0 --only "POST /v1/join,GET /v1/work"

Needs `pip install -e '.[fuzz]'`. A coordinator runs in a process of its own; schemathesis draws requests from its
/openapi.json, sound ones and spoiled ones, half of their parts naming things that exist. Each is sent by several
callers: an admin, a researcher, a node and a viewer, who sign; a browser that is logged in; a stranger who signs;
somebody whose signature was made for another request; and nobody. Every answer must have a status, a content type and a
body that the description names for it, a refusal must be a problem with a known code, nobody may do what the role does
not allow, and what the description forbids must be refused. The process must live to the end, and its memory may not
grow with the number of requests.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import resource
import runpy
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import msgspec
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import HypothesisWarning, Unsatisfiable
from requests.auth import AuthBase
from schemathesis import GenerationMode, Response
from schemathesis.specs.openapi import checks

from atoll.silo import api, errors
from atoll.silo.home import Profile
from atoll.silo.keys import Key
from atoll.silo.server.routes import ROUTES, Route
from atoll.silo.signing import Signer

SERVING = runpy.run_path(str(Path(__file__).parents[1] / "silo" / "serving.py"))
CHECKS = [
    checks.status_code_conformance, checks.content_type_conformance, checks.response_schema_conformance,
    checks.response_headers_conformance, checks.negative_data_rejection,
]  # fmt: skip
ROOM = 96 << 20
"""Bytes by which the coordinator's memory may grow after the first thousand requests."""
EACH = 3
"""Callers by whom each request is sent, the first one of those who may."""
SLEEP = 0.02
"""Seconds that a long poll is held, and a stream is read."""
PEOPLE = ("admin", "researcher", "node", "viewer")
CALLERS = (*PEOPLE, "browser", "stranger", "forger", "nobody")


class Report(NamedTuple):
    """What a run of the fuzzer saw."""

    cases: int
    statuses: Counter[str]
    codes: Counter[str]
    seconds: float
    grown: float


class Signed(AuthBase):
    """Signs a request as it is about to be sent; a forger signs another path."""

    def __init__(self, signer: Signer, *, forged: bool = False) -> None:
        self.signer, self.forged = signer, forged

    def __call__(self, asked: Any) -> Any:
        body = asked.body.encode() if isinstance(asked.body, str) else asked.body
        digest = hashlib.sha256(body).digest() if body else None
        target = asked.path_url + ("/" if self.forged else "")
        try:
            asked.headers.update(self.signer.headers(asked.method, target, digest))
        except errors.Malformed:  # a path that no signer would sign
            asked.headers.pop("Signature", None)
        return asked


class Scene(NamedTuple):
    """A coordinator, those who ask it, and names of what is there."""

    process: subprocess.Popen[bytes]
    url: str
    certificate: str
    signers: dict[str, Signer]
    cookie: str
    names: dict[str, tuple[str, ...]]
    fields: dict[str, Any]

    @property
    def memory(self) -> int:
        """Resident bytes of the coordinator."""
        with open(f"/proc/{self.process.pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * resource.getpagesize()


@contextmanager
def started(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, Any]]]:
    """A coordinator in a process of its own, and what it said."""
    words = ("coordinator", "start", str(folder), "-p", "0", "--failures", "0", "--json")
    with open(folder.with_suffix(".log"), "wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "atoll", *words], stdout=subprocess.PIPE, stderr=log)
    assert process.stdout is not None
    try:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.rstrip() == b"}":
                break
        yield process, json.loads(b"".join(lines))
    finally:
        process.terminate()
        assert process.wait(30) == 0
        process.stdout.close()


@contextmanager
def scene(folder: Path) -> Iterator[Scene]:
    """Members of every role, runs, an open question, a blob, and somebody who may be revoked."""
    with started(folder) as (process, told):
        joined, submission = SERVING["joined"], SERVING["submission"]
        by = SERVING["Caller"](told["url"], Profile(folder / "admin").key, "admin")
        people = {"admin": by, **{role: joined(by, role, role) for role in PEOPLE[1:]}}
        victim, asker = joined(by, "victim"), people["researcher"]
        runs = ("run", "ended", "gone")
        for name in runs:
            assert SERVING["open_run"](asker, ("node",), name).status == 200
            assert (
                SERVING["submit"](asker, submission(asker, told["federation"], ("node",), name=name), name).status
                == 200
            )
        uid = people["node"].ask("GET", "/v1/work").read(api.Work).tasks[0].exchange
        blob = SERVING["upload"](asker, b"some bytes" * 50)
        login = by.ask("POST", "/v1/login").read(api.Login)
        page = by.ask("GET", "/login/" + login.url.rpartition("/")[2], signed={})
        cookie = page.headers["set-cookie"].partition(";")[0].partition("=")[2]
        names = {
            "name": ("run", "node", "atoll.css", "live.js"), "owner": ("researcher",), "number": ("0",),
            "exchange": (uid,), "position": ("0",), "digest": (blob.digest,), "secret": ("00" * 20,),
        }  # fmt: skip
        stranger = Key.make()
        invitation = by.ask("POST", "/v1/invites", api.Invite(name="guest", role="viewer")).read(api.Invitation)
        assert SERVING["join"](by, invitation.token).status == 200  # so that the token is used
        fields = {
            "blob": blob._asdict(), "task": blob._asdict(), "digest": blob.digest, "size": blob.size, "number": 0,
            "nodes": ["node"], "data": "d", "token": invitation.token, "protocol": api.PROTOCOL,
            "key": _base64(stranger.public), "nonce": _base64(bytes(16)), "signature": _base64(bytes(64)),
        }  # fmt: skip
        signers = {role: caller.signer for role, caller in people.items()} | {"stranger": Signer(stranger)}
        for caller in (*people.values(), victim):
            caller.close()
        yield Scene(process, told["url"], str(folder / "tls.crt"), signers, cookie, names, fields)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


DESTROYS = {
    "DELETE /v1/members/{name}": "victim",
    "POST /v1/runs/{name}/end": "ended",
    "DELETE /v1/runs/{name}": "gone",
}


class Fuzzer:
    """Sends what is drawn, and looks at what comes back."""

    def __init__(self, there: Scene, number: int) -> None:
        self.there, self.random = there, Random(number)
        self.session = requests.Session()
        self.session.verify = there.certificate
        self.session.trust_env = False
        self.document = self.session.get(f"{there.url}/openapi.json", timeout=10).json()
        schema = schemathesis.openapi.from_dict(_unsigned(self.document))
        schema.config.checks.negative_data_rejection.expected_statuses = ["4XX", "503", "507"]
        self.operations = {found.ok().label: found.ok() for found in schema.get_all_operations()}
        self.routes = {f"{route.method} {route.path}": route for route in ROUTES}
        self.statuses, self.codes = Counter[str](), Counter[str]()
        self.cases = self.base = 0

    def all_of(self, label: str, mode: GenerationMode, count: int, number: int) -> None:
        """Draw so many requests to one path, and send each."""
        operation, route = self.operations[label], self.routes[label]

        @seed(number)
        @settings(
            max_examples=count, database=None, deadline=None, phases=[Phase.generate], report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(case=operation.as_strategy(generation_mode=mode))
        def send(case: Any) -> None:
            self.about_what_is_there(route, case)
            if mode is GenerationMode.POSITIVE and isinstance(case.body, dict):
                known = self.there.fields
                case.body = {
                    k: known[k] if k in known and self.random.random() < 0.5 else v for k, v in case.body.items()
                }
            may = ("browser",) if route.access == "cookie" else route.roles or CALLERS
            first = self.random.choice(may)
            for caller in (first, *self.random.sample([one for one in CALLERS if one != first], EACH - 1)):
                self.one(route, case, caller)

        try:
            send()
        except Unsatisfiable:  # nothing about this path can be spoiled
            return

    def about_what_is_there(self, route: Route, case: Any) -> None:
        """Have half of the parts of a path name something that exists, and long polls end soon."""
        label = f"{route.method} {route.path}"
        for part in list(case.path_parameters or {}):
            known = (DESTROYS[label],) if part == "name" and label in DESTROYS else self.there.names[part]
            if self.random.random() < 0.5:
                case.path_parameters[part] = self.random.choice(known)
        wait = (case.query or {}).get("wait")
        if isinstance(wait, int | float) and wait > SLEEP:
            case.query["wait"] = SLEEP

    def one(self, route: Route, case: Any, caller: str) -> None:
        """Send a request as somebody, and hold the answer against the description."""
        self.cases += 1
        try:
            answer = self.asked(route, case, caller)
        except requests.exceptions.ConnectionError as error:
            raise AssertionError(f"no answer, exit {self.there.process.poll()}: {error}") from error
        self.statuses[str(answer.status_code)] += 1
        self.look(route, caller, answer)
        case.validate_response(answer, checks=CHECKS)
        if self.cases == 1000 or (not self.cases % 1000 and self.base):
            self.base = self.base or self.there.memory
            grown = self.there.memory - self.base
            assert grown < ROOM, f"the coordinator's memory grew by {grown >> 20} MiB in {self.cases} requests"

    def asked(self, route: Route, case: Any, caller: str) -> Response:
        """The answer; of a stream, what came at once."""
        told = case.as_transport_kwargs(base_url=self.there.url)
        told["headers"] = {k: v for k, v in told["headers"].items() if k.lower() not in ("signature", "cookie")}
        told["cookies"] = {"__Host-atoll": self.there.cookie} if caller == "browser" else {}
        if caller == "nobody" and self.random.random() < 0.3:
            told["headers"]["Signature"] = "atoll=:x:"
        if caller in ("browser", "nobody"):
            auth = None
        else:
            auth = Signed(self.there.signers.get(caller, self.there.signers["admin"]), forged=caller == "forger")
        stream = route.gives == "text/event-stream"
        with self.session.request(**told, auth=auth, stream=stream, timeout=20) as found:
            if stream and found.headers["content-type"] == route.gives:
                content = found.raw.read1(100) or b""
                assert content.startswith(b"retry: "), content
                headers = {name: [value] for name, value in found.headers.items()}
                return Response(found.status_code, headers, content, found.request, 0.0, True, stream_cut_short=True)
            return Response.from_requests(found, verify=True)

    def look(self, route: Route, caller: str, answer: Response) -> None:
        """What no schema says."""
        status, kind = answer.status_code, answer.headers["content-type"][0]
        assert status < 500 or status in (503, 507), f"{caller}: {status} {answer.content[:500]!r}"
        if status >= 400 and kind == "application/problem+json":
            problem = msgspec.json.decode(answer.content)
            assert errors.codes[problem["code"]].status == problem["status"] == status, problem
            self.codes[problem["code"]] += 1
        elif status >= 400:
            assert route.access == "cookie", f"{caller}: {status} {kind}"
        if status < 400 and route.access != "open":
            seen = "admin" if caller == "browser" else caller
            assert seen in route.roles, f"{caller} was not refused: {status}"
            assert (route.access != "cookie") or caller == "browser", f"{caller} is no browser"
            assert (route.access != "signature") or caller != "browser", "a browser does not sign"


def _unsigned(document: dict[str, Any]) -> dict[str, Any]:
    """The description without who may ask, which is for callers to know."""
    told: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(document))
    for methods in told["paths"].values():
        for operation in methods.values():
            operation.pop("security")
    return told


def fuzz(cases: int, number: int, only: tuple[str, ...] = ()) -> Report:
    """Send so many requests; an AssertionError names the path and the seed."""
    with tempfile.TemporaryDirectory() as folder, scene(Path(folder) / "coordinator") as there:
        fuzzer, start, turn = Fuzzer(there, number), time.perf_counter(), 0
        labels = only or tuple(fuzzer.operations)
        each = max(2, min(200, cases // (len(labels) * 2 * EACH)))
        wrong: dict[str, str] = {}
        while fuzzer.cases < cases and not wrong:
            before = fuzzer.cases
            for label in labels:
                for mode in GenerationMode:
                    turn += 1
                    try:
                        fuzzer.all_of(label, mode, each, number * 1_000_003 + turn)
                    except (Exception, BaseExceptionGroup) as error:
                        wrong[label] = f"seed {number}, turn {turn}, case {fuzzer.cases}, {label}: {error}"
            assert fuzzer.cases > before, "nothing can be drawn for these paths"
        log = Path(folder, "coordinator.log").read_text("utf-8", "replace")[-3000:]
        assert not wrong, "\n\n".join((*wrong.values(), log))
        assert there.process.poll() is None, f"the coordinator has ended: {there.process.returncode}"
        fuzzer.session.close()
        grown = (there.memory - (fuzzer.base or there.memory)) / (1 << 20)
        return Report(fuzzer.cases, fuzzer.statuses, fuzzer.codes, time.perf_counter() - start, grown)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Ask a coordinator what its description allows and forbids.")
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="methods and paths, by commas")
    options = parser.parse_args()
    warnings.simplefilter("ignore", HypothesisWarning)
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    report = fuzz(options.cases, options.seed, tuple(filter(None, options.only.split(","))))
    print(f"seed {options.seed}: {report.cases} cases in {report.seconds:.1f} s, ", end="")
    print(f"{report.cases / report.seconds:,.0f} a second")
    for title, counts in (("HTTP", report.statuses), ("code", report.codes)):
        for name, count in sorted(counts.items()):
            print(f"  {count:8d} {title} {name}")
    print(f"  the coordinator's memory grew by {report.grown:.1f} MB after the first thousand")


if __name__ == "__main__":
    main()
