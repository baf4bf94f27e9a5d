"""Writes the generated pages: what is supported and at what cost, how far from the pooled fit it was measured, methods.

    python docs/tables.py supported exactness methods

Two of them are no pages: `words` says what operations disclose, and `asked` which of them estimators ask.

What is measured are the examples of `tests/examples`, over their data sets, partitions and numbers of nodes.
"""

from __future__ import annotations

import importlib
import json
import sys
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import sklearn

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

import asked  # noqa: E402
from methods import methods  # noqa: E402

from atoll import Federated, Federation  # noqa: E402
from atoll.catalogue import catalogue, public_name  # noqa: E402
from atoll.operations import operations  # noqa: E402
from atoll.run import human_bytes  # noqa: E402
from cases import PARTITIONS  # noqa: E402
from examples_base import Example  # noqa: E402
from laws import EXAMPLES, apart, fitted_numbers, forms, pooled_fit, settled_answers  # noqa: E402

PLACES = [("iid", 1), *((partition, 5) for partition in PARTITIONS)]
ORDERS = 20
NINE_DIGITS = 1e-9
FORMS = ["weights", "sparse", "missing"]
FORMED = [("label", 5), ("dirichlet", 5)]
EXPECTED = sorted((HERE.parent / "tests" / "sklearn_suite" / "expected").glob("[a-z]*.py"))
WORDS = HERE.parent / "src" / "atoll" / "silo" / "dashboard" / "operations.json"
GENERATED = "<!-- written by docs/tables.py; `make tables` writes it again -->"

SUPPORTED = f"""{GENERATED}

# What can be fitted

Every row is one estimator of scikit-learn and one way to fit it over nodes; the first way is the default, others are
asked for with `method=`. *Exact* gives the numbers of the pooled fit, *iterative* does so to the estimator's own
tolerance in rounds until it converges, *trained* goes through rounds of local training (over one node they are
scikit-learn's own, over several another model than that of the pooled rows), *generic* gives another model than the
pooled rows would. Rounds and bytes are measured: a fit with default parameters over 4 nodes of generated rows with
{{d}} columns and {{C}} classes, round 0 included; they do not depend on the number of rows, except where what is
trained stops early. `atoll models --features D --classes C` measures them for other sizes.

Any other classifier or regressor can be fitted with `method="vote"`: each node fits it on its own rows, and their
predictions are averaged.

| module | estimator | method | how | rounds | a node sends |
|---|---|---|---|---:|---:|
{{rows}}

## What leaves a node

Besides what every fit tells in round 0 (how many rows, the names and types of the columns, which classes occur).

{{leaves}}
"""

EXACTNESS = f"""{GENERATED}

# How exact it is

The largest difference between a fit over nodes and scikit-learn {sklearn.__version__} on the pooled rows: of all fitted
numbers of the estimator, and of its answers to 40 queries (values, probabilities, transformed rows), each relative to
the largest number of its array; and how many labels it predicts differently, ties apart. What is within 1e-12, as the
mean of centred columns is of zero, counts as equal; a duality gap is held against the objective, of two of which it is
the difference.

The {{fits}} fits are those of `tests/examples`: bundled data sets at one node, and at 5 nodes in four partitions (iid,
sorted by label, Dirichlet, a node with a single row); `make test-thorough` holds them to the same at 2 and 10 nodes.
The columns *weights*, *sparse* and *missing* are for the same estimators where rows have weights, some of them zero;
where half of the numbers are zero and rows sparse; and where a tenth of the values is missing: whatever of that
scikit-learn takes. Every engine, number of workers and topology gives the same bits as these.

| estimator | fits | fitted numbers | answers | weights | sparse | missing | labels that differ |
|---|---:|---:|---:|---:|---:|---:|---:|
{{rows}}

## Where nine digits are not reached

scikit-learn is then as far from itself: *reordered* is the largest difference between its fits to the same pooled rows
in {ORDERS} other orders.

| estimator | data | over nodes | reordered | why |
|---|---|---:|---:|---|
{{apart}}
"""


FAILURES = f"""{GENERATED}

# Tests of scikit-learn that are expected to fail

scikit-learn's own test modules run unmodified over classes that fit through `Distributed` (`tests/sklearn_suite`).
Those that cannot pass over nodes stand here, with the reason. Each is run all the same, in all its forms, and must
fail, so the list stays true.

{{parts}}
"""


def supported(d: int = 10, C: int = 2) -> str:
    """The page of what can be fitted."""
    rows, leaves, module = [], [], ""
    for e in catalogue(d, C):
        shown = "" if e.module == module else e.module
        module = e.module
        rounds = "–" if e.rounds is None else f"{e.rounds}{' + 1 a call' if e.asks else ''}"
        sent = "–" if e.bytes_up is None else human_bytes(e.bytes_up)
        rows.append(f"| {shown} | {e.estimator} | {e.method} | {e.kind} | {rounds} | {sent} |")
        if e.leaves:
            leaves.append(f"- **{e.estimator}** ({e.method}): {'; '.join(e.leaves)}.")
    return SUPPORTED.format(d=d, C=C, rows="\n".join(rows), leaves="\n".join(leaves))


class Measured(NamedTuple):
    """How far one fit over nodes is from the pooled one: fitted numbers, answers to queries, and labels among them."""

    fitted: float
    answered: float
    differ: int
    labels: int
    example: Example
    name: str
    form: str

    @property
    def worst(self) -> float:
        """The larger of both differences."""
        return max(self.fitted, self.answered)


def measured(example: Example, name: str, partition: str, n_nodes: int, form: str = "plain") -> Measured:
    """A fit over nodes against the pooled fit."""
    pooled, rows = pooled_fit(example, name, form), forms(example, name)[form]
    model = Federated(rows.estimator).fit(Federation(rows.shards(name, n_nodes, partition), verbose=0))
    fitted = apart(fitted_numbers(example, name, model._model), fitted_numbers(example, name, pooled))
    got, expected = (settled_answers(example, name, m, form) for m in (model, pooled))
    labels = expected.pop("predict", np.zeros(0)) if hasattr(pooled, "classes_") else np.zeros(0)
    differ = int((got["predict"] != labels).sum()) if len(labels) else 0
    return Measured(fitted, apart(got, expected), differ, len(labels), example, name, form)


def reordered(example: Example, name: str, form: str) -> float:
    """How far scikit-learn's fits to the pooled rows are from each other when only the order of the rows differs."""
    rows, pooled, worst = forms(example, name)[form], pooled_fit(example, name, form), 0.0
    for seed in range(ORDERS):
        again = rows.pooled(np.random.default_rng(seed).permutation(len(rows.y)))
        worst = max(worst, apart(fitted_numbers(example, name, again), fitted_numbers(example, name, pooled)))
        got, expected = (settled_answers(example, name, m, form) for m in (again, pooled))
        worst = max(worst, apart(got, expected))
    return worst


def of_kind(kind: type) -> list[Measured]:
    """All examples of an estimator, over all data, partitions, numbers of nodes and forms of rows."""
    found = []
    for example, name in [(each, name) for each in EXAMPLES[kind] for name in each.names]:
        found += [measured(example, name, *where) for where in PLACES]
        taken = [form for form in forms(example, name) if form != "plain" and pooled_fit(example, name, form)]
        found += [measured(example, name, *where, form) for form in taken for where in FORMED]
    return found


def exactness() -> str:
    """The page of measured differences.

    Raises
    ------
    ValueError
        If an example falls short of nine digits and does not say why.
    """
    rows, far, total = [], [], 0
    for kind in sorted(EXAMPLES, key=lambda k: k.__name__):
        found = of_kind(kind)
        plain = [m for m in found if m.form == "plain"]
        cells: list[float | None] = [max(m.fitted for m in plain), max(m.answered for m in plain)]
        cells += [max((m.worst for m in found if m.form == form), default=None) for form in FORMS]
        differ, labels = sum(m.differ for m in found), sum(m.labels for m in found)
        told = " | ".join([public_name(kind), str(len(found)), *map(written, cells)])
        rows.append(f"| {told} | {f'{differ} of {labels}' if labels else '–'} |")
        total += len(found)
        worst = max(found, key=lambda m: m.worst)
        if worst.worst > NINE_DIGITS:
            far.append(explained(kind, worst))
    return EXACTNESS.format(fits=f"{total:,}", rows="\n".join(rows), apart="\n".join(far))


def explained(kind: type, worst: Measured) -> str:
    """The row of an estimator that falls short of nine digits."""
    if not worst.example.why:
        where = f"{worst.name}, {worst.form}"
        raise ValueError(f"{public_name(kind)} is {worst.worst:.0e} from the pooled fit ({where}), and says no `why`")
    own = written(reordered(worst.example, worst.name, worst.form))
    data = worst.name if worst.form == "plain" else f"{worst.name}, {worst.form}"
    return f"| {public_name(kind)} | {data} | {written(worst.worst)} | {own} | {worst.example.why} |"


def written(number: float | None) -> str:
    """A difference, with one digit."""
    return "–" if number is None else f"{number:.0e}" if number else "0"


def failures() -> str:
    """The page of scikit-learn's tests that cannot pass over nodes."""
    parts = []
    for file in EXPECTED:
        found = importlib.import_module(f"sklearn_suite.expected.{file.stem}").EXPECTED
        if found:
            parts.append(
                f"## {file.stem.replace('_', ' ')}\n\n" + "\n".join(f"- `{t}`: {why}." for t, why in found.items())
            )
    return FAILURES.format(parts="\n\n".join(parts))


PAGES: dict[str, Any] = {
    "supported": supported,
    "exactness": exactness,
    "expected-failures": failures,
    "methods": methods,
}


def words() -> str:
    """What each operation discloses, for the coordinator's pages, which do without the operations themselves."""
    return json.dumps({name: operations[name].discloses for name in sorted(operations)}, indent=1, ensure_ascii=False)


def main() -> None:
    """Write the pages that are asked for."""
    warnings.simplefilter("ignore")
    data = {"words": (WORDS, lambda: words() + "\n"), "asked": (asked.TABLE, asked.written)}
    for name in sys.argv[1:] or [*PAGES, *data]:
        if name in data:
            path, write = data[name]
            path.write_text(write(), encoding="utf-8")
            print(f"wrote {path}")
            continue
        (HERE / f"{name}.md").write_text(PAGES[name](), encoding="utf-8")
        print(f"wrote docs/{name}.md")


if __name__ == "__main__":
    main()
