"""What `import atoll` adds to the time of importing scikit-learn. Claim: less than 0.1 s."""

from __future__ import annotations

import statistics
import subprocess
import sys

from _turns import report, take_turns

SKLEARN = "import sklearn.neighbors, sklearn.model_selection"
LIBRARY = SKLEARN + "; import atoll; atoll.Distributed, atoll.Federated, atoll.Federation"


def main() -> None:
    def run(code: str) -> None:
        subprocess.run([sys.executable, "-c", code], check=True)

    seconds = take_turns({"scikit-learn": lambda: run(SKLEARN), "scikit-learn and atoll": lambda: run(LIBRARY)}, 11)
    report("imports", seconds, "scikit-learn")
    pairs = zip(seconds["scikit-learn and atoll"], seconds["scikit-learn"], strict=True)
    added = statistics.median(b - a for b, a in pairs)
    print(f"  {'atoll adds, median of the pairs':<44} {added * 1e3:16.1f} ms")


if __name__ == "__main__":
    main()
