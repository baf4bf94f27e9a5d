"""The command as a whole: help, bad usage, exit statuses, and how it behaves among other programs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import atoll as package
from atoll.cli import demo, options
from atoll.errors import NodeFailed

SCRIPT = Path(sys.executable).parent / "atoll"


def command(*words: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(SCRIPT), *words], capture_output=True, text=True, timeout=100, **settings)


def test_help_begins_with_an_example(atoll: Callable[..., Any]) -> None:
    for words in (["--help"], ["-h"], ["help"]):
        said = atoll(*words)
        assert (said.status, said.err) == (0, "")
        assert said.out.startswith("Example:\n  atoll demo\n")
    assert all(name in said.out for name in ("demo", "run", "doctor"))


@pytest.mark.parametrize("name", options.COMMANDS)
def test_help_of_each_command_begins_with_an_example(atoll: Callable[..., Any], name: str) -> None:
    said = atoll(*name.split(), "--help")
    assert (said.status, said.err) == (0, "")
    assert said.out.startswith(f"Example:\n  atoll {name}")
    assert all(f"--{option.name}" in said.out for option in (*options.COMMANDS[name].options, *options.COMMON))


@pytest.mark.parametrize("name", options.COMMANDS)
def test_every_option_has_a_help_of_its_own(name: str) -> None:
    every = [*options.COMMANDS[name].options, *options.COMMON]
    assert len({option.key for option in every}) == len(every)
    assert all(len(option.help) > 10 for option in every)


def test_the_example_of_a_command_is_one_that_it_understands() -> None:
    import shlex

    for name, this in options.COMMANDS.items():
        words = shlex.split(this.example)
        assert words[0] == "atoll"
        found, rest = options.named(words[1:])
        assert found == name
        options.parser(name).parse(rest)


def test_version(atoll: Callable[..., Any]) -> None:
    assert atoll("--version") == (0, f"atoll {package.__version__}\n", "")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "usage: atoll COMMAND"),
        (["dmeo"], "did you mean 'demo'?"),
        (["--json", "demo"], "the command comes first"),
        (["demo", "--nods", "3"], "did you mean '--nodes'"),
        (["demo", "--nods=3"], "unknown option '--nods'"),
        (["demo", "iris"], "unexpected argument 'iris'"),
        (["demo", "--nodes"], "expected one argument"),
        (["demo", "--nodes", "0"], "expected a whole number of at least 1, got '0'"),
        (["demo", "--nodes", "four"], "expected a whole number of at least 1, got 'four'"),
        (["demo", "--nod", "3"], "did you mean '--nodes'"),
        (["demo", "--seed", "-1"], "expected a whole number of at least 0"),
        (["demo", "--data", ""], "expected something"),
        (["run"], "FILE is missing"),
        (["run", "x.csv", "--trust", "federatd"], "did you mean 'federated'?"),
        (["run", "x.csv", "--test-size", "1"], "expected a share between 0 and 1, got '1'"),
        (["run", "x.csv", "--quorum", "nan"], "expected a share above 0 and up to 1, got 'nan'"),
        (["run", "x.csv", "--deadline", "inf"], "expected seconds above 0, got 'inf'"),
        (["run", "x.csv", "--deadline", "soon"], "expected seconds above 0, got 'soon'"),
        (["doctor", "--nodes", "3"], "unknown option '--nodes'"),
        (["coordinator"], "usage: atoll coordinator COMMAND"),
        (["coordinator", "strat"], "did you mean 'coordinator start'"),
        (["coordinator", "start"], "DIR is missing"),
        (["coordinator", "invite", "a", "--role", "nod"], "did you mean 'node'?"),
        (["coordinator", "invite", "a", "--hours", "0"], "expected hours above 0, got '0'"),
    ],
)
def test_bad_usage(atoll: Callable[..., Any], words: list[str], told: str) -> None:
    said = atoll(*words)
    assert (said.status, said.out) == (2, "")
    assert told in said.err
    assert list(Path.cwd().iterdir()) == []


def failing(error: BaseException) -> Callable[[Any], int]:
    def execute(_: Any) -> int:
        raise error

    return execute


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (
            NodeFailed("2 of 3 nodes: an error\n  where:    round 1"),
            1,
            "error: 2 of 3 nodes: an error\n  where:    round 1",
        ),
        (ZeroDivisionError("division by zero"), 1, "ZeroDivisionError: division by zero"),
        (KeyboardInterrupt(), 130, "atoll demo: interrupted"),
    ],
)
def test_what_goes_wrong_becomes_a_message(
    atoll: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, error: BaseException, status: int, told: str
) -> None:
    monkeypatch.setattr(demo, "execute", failing(error))
    said = atoll("demo", "--json")
    assert (said.status, said.out) == (status, "")
    assert told in said.err
    assert "Traceback" not in said.err
    assert status == 130 or "Traceback" in atoll("demo", "--debug").err


def test_a_warning_becomes_one_note(atoll: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    import warnings

    def execute(_: Any) -> int:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            for _ in range(3):
                warnings.warn("mind the gap", stacklevel=1)
        return 0

    monkeypatch.setattr(demo, "execute", execute)
    assert atoll("demo").err == "note: mind the gap\n"


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    script = (
        "import sys; from atoll.cli import main; main(sys.argv[1:]); print(*{m.split('.')[0] for m in sys.modules})"
    )
    for words in (["--help"], ["demo", "--help"], ["run", "--help"]):
        done = subprocess.run(
            [sys.executable, "-c", script, *words], capture_output=True, text=True, cwd=tmp_path, timeout=60
        )
        imported = set(done.stdout.splitlines()[-1].split())
        assert "argparse" in imported
        assert not imported & {"sklearn", "numpy", "scipy", "rich", "pandas", "matplotlib", "msgspec"}, words


def test_the_installed_command_and_the_module_are_the_same(tmp_path: Path) -> None:
    module = subprocess.run(
        [sys.executable, "-m", "atoll", "--help"], capture_output=True, text=True, cwd=tmp_path, timeout=60
    )
    script = command("--help", cwd=tmp_path)
    assert (module.returncode, script.returncode) == (0, 0)
    assert module.stdout == script.stdout


def test_a_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [str(SCRIPT), "demo", "--report", "none"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(timeout=100) == 141


def test_letters_that_the_terminal_lacks_are_replaced(tmp_path: Path, diabetes: Path) -> None:
    environ = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = command(
        "run", str(diabetes), "--target", "progress", "--estimator", "KNeighborsRegressor", "--report", "none",
        cwd=tmp_path, env=environ,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "R?" in done.stdout


@pytest.mark.parametrize(
    ("given", "coloured"), [({"FORCE_COLOR": "1"}, True), ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False)]
)
def test_no_color_is_obeyed(tmp_path: Path, given: dict[str, str], coloured: bool) -> None:
    environ = {k: v for k, v in os.environ.items() if k not in ("FORCE_COLOR", "NO_COLOR")} | {"TERM": "xterm"} | given
    done = command("demo", "--report", "none", cwd=tmp_path, env=environ)
    assert done.returncode == 0, done.stderr
    assert ("\x1b[" in done.stdout) == coloured


def children(pid: int) -> list[int]:
    try:
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="looks for child processes in /proc")
def test_ctrl_c_in_the_middle_says_one_line_and_leaves_no_process(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(30_000, 17))
    header = ",".join([*(f"x{i}" for i in range(16)), "y"])
    np.savetxt(tmp_path / "big.csv", rows, delimiter=",", fmt="%.4f", header=header, comments="")
    words = [
        "run", "big.csv", "--target", "y", "--estimator", "KNeighborsRegressor", "--set", "algorithm=brute",
        "--test-size", "0.5", "--engine", "processes", "--workers", "2", "--journal", "journal", "--report", "none",
    ]  # fmt: skip
    process = subprocess.Popen(
        [str(SCRIPT), *words],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    answered = (
        tmp_path / "journal" / "run" / "00000000.atoll"
    )  # round 0: the workers are there, and all queries to come
    while not answered.exists() and process.poll() is None:
        time.sleep(0.01)
    workers = children(process.pid)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, ""), err
    assert err.strip() == "atoll run: interrupted; the same command goes on from its journal"
    assert len(workers) == 2
    give_up = time.monotonic() + 20
    while any(map(alive, workers)) and time.monotonic() < give_up:
        time.sleep(0.05)
    assert not any(map(alive, workers))


@pytest.mark.parametrize(
    "words",
    [
        ["login", "https://nowhere.example", "atoll_x"],
        ["runs", "list"],
        ["coordinator", "start", "folder"],
        ["silo", "demo"],
        ["node", "join", "https://nowhere.example", "atoll_x", "--data", "d=rows.csv:y"],
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_a_missing_extra_is_named(words, tmp_path):
    """Every command for silos, where what they need is not installed."""
    script = (
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in ('cryptography', 'uvicorn'):\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        "from atoll.cli import main\n"
        f"raise SystemExit(main({words!r}))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "pip install 'atoll[silo]'" in done.stderr
    assert "Traceback" not in done.stderr
