"""Which tests notice a wrong sign or a lost term in the methods that `test_mutations.py` does not compare with a paper.

    python tests/training/mutations.py [MODULE or FUNCTION …]

Every operator in the functions of personal, masked, clustered, memorizing, asynchronous and serverless methods is
turned round, one at a time, as in `test_mutations.py`, and the tests of the method are run in this process until one
fails. Changes that no test notices are printed, and end the program with 1 unless they are known to change nothing
(`SAME`). Minutes.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import inspect
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import NamedTuple

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
os.environ["PYTHONDONTWRITEBYTECODE"] = "1"

import pytest  # noqa: E402

from training.test_mutations import Change, functions  # noqa: E402

TESTS = {
    "personal": ["test_personal.py"],
    "masks": ["test_personal.py"],
    "clusters": ["test_personal.py"],
    "memorizing": ["test_memorizing.py"],
    "asynchronous": ["test_unrounded.py"],
    "decentralized": ["test_decentralized.py"],
}
"""The tests of the methods in each module of `atoll.algorithms`."""

SAME: dict[str, str] = {}
"""What changes nothing that could be noticed, and why."""


class Mutant(NamedTuple):
    """One place in one function, changed."""

    module: ModuleType
    function: str
    what: str
    code: CodeType

    @property
    def name(self) -> str:
        """As it is printed, and stands in `SAME`."""
        return f"{self.module.__name__.rpartition('.')[2]}.{self.function}: {self.what}"


def mutants(module: ModuleType) -> Iterator[Mutant]:
    """Every change of a module."""
    for function in functions(module):
        counted = Change()
        for statement in function.body:
            counted.visit(statement)
        for index, what in enumerate(counted.found):
            yield Mutant(module, function.name, what, compiled(module, function.name, index))


def compiled(module: ModuleType, name: str, index: int) -> CodeType:
    """The code of a function with one place of it changed."""
    (function,) = [each for each in functions(module) if each.name == name]
    change = Change(index)
    function.body = [change.visit(statement) for statement in function.body]  # type: ignore[misc]
    function.decorator_list = []
    tree = ast.Module([ast.parse("from __future__ import annotations").body[0], function], [])
    whole = compile(ast.fix_missing_locations(tree), f"<{name}>", "exec")
    (code,) = [each for each in whole.co_consts if isinstance(each, CodeType) and each.co_name == name]
    return code


def noticed(mutant: Mutant) -> bool:
    """Whether a test fails while a function has other code, for all who hold it."""
    function = inspect.unwrap(vars(mutant.module)[mutant.function])
    assert isinstance(function, FunctionType)
    before, tests = function.__code__, TESTS[mutant.module.__name__.rpartition(".")[2]]
    function.__code__ = mutant.code
    try:
        return run(tests) != 0
    finally:
        function.__code__ = before


def run(tests: list[str]) -> int:
    """Run tests here until one fails, silently."""
    for name in [
        name for name in sys.modules if name.rpartition(".")[2] in {Path(t.split("::")[0]).stem for t in tests}
    ]:
        del sys.modules[name]  # what was made when it was imported would have the code of then
    options = ["-x", "-q", "-n", "0", "-p", "no:cacheprovider", "-m", "not thorough", "--no-header"]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return int(pytest.main([*options, *(str(HERE / test) for test in tests)]))


def survivors(name: str, wanted: list[str]) -> tuple[int, list[str]]:
    """How many changes a module was given, and those that nobody noticed."""
    module = importlib.import_module(f"atoll.algorithms.{name}")
    chosen = [m for m in mutants(module) if not wanted or name in wanted or m.function in wanted]
    if chosen and run(TESTS[name]):
        raise SystemExit(f"the tests of {name} fail without a change")
    return len(chosen), [mutant.name for mutant in chosen if not noticed(mutant)]


def main() -> None:
    total, left = 0, []
    for name in TESTS:
        n, unnoticed = survivors(name, sys.argv[1:])
        for each in unnoticed:
            print(f"not noticed: {each}{' (' + SAME[each] + ')' if each in SAME else ''}", flush=True)
        total, left = total + n, [*left, *unnoticed]
    print(f"{total} changes, {total - len(left)} noticed")
    raise SystemExit(int(any(name not in SAME for name in left)))


if __name__ == "__main__":
    main()
