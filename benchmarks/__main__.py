"""All benchmarks: instruction counts, the suites of the parts, the comparison. Options go to the comparison."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main() -> int:
    """Exit code: that of the first part that fails; the parts after it run all the same."""
    python = sys.executable
    parts = (
        [python, "-m", "benchmarks.instructions"],
        [python, "-m", "pytest", str(HERE), "-q", "--benchmark-columns=min,median,iqr,rounds", "--benchmark-sort=name"],
        [python, "-m", "benchmarks.beside", *sys.argv[1:]],
    )
    codes = [subprocess.run(part, cwd=HERE.parent, check=False).returncode for part in parts]
    return next((code for code in codes if code), 0)


if __name__ == "__main__":
    sys.exit(main())
