"""What the scanner of personal data finds and what it leaves alone: `python -m benchmarks.recall [MB [SEED]]`, 20 MB.

Prints recall, precision and false matches per megabyte by kind, then what was missed and what was found falsely. Exit
code 1 where a goal is missed. The text and the counting are in tests/background.py and tests/scored.py.
"""

from __future__ import annotations

import sys
from collections import Counter

from lunaroute._fast.pii import KINDS, Scanner
from tests.background import background
from tests.planted import Values
from tests.scored import Score, mixed, planted, real

RECALL = dict.fromkeys((*KINDS, "named"), 0.99) | {"phone": 0.95, "named": 0.9}
PER_MEGABYTE = dict.fromkeys(KINDS, 0.1) | {"phone": 1.0, "ip": 1.0, "secret": 1.0}


def measure(megabytes: float, seed: int) -> Score:
    """One value is planted in each 800 bytes."""
    scanner, score = Scanner(KINDS), Score()
    texts = list(background(int(megabytes * 1e6), seed))
    real(scanner, texts, score)
    planted(scanner, mixed(texts, Values(seed), int(megabytes * 1250)), score)
    return score


def report(score: Score) -> bool:
    """Prints; whether every goal is reached."""
    reached = not score.torn
    print(f"{score.size / 1e6:.1f} MB of text, {score.planted.total()} values planted\n")
    print("| kind | planted | recall (goal) | precision (goal 98 %) | false per MB (goal) |\n|---|---|---|---|---|")
    for kind in (*KINDS, "named"):
        recall, goal = score.recall(kind), RECALL[kind]
        row = f"| {kind} | {score.planted[kind]} | {recall:.2%} ({goal:.0%}) |"
        reached &= recall >= goal
        if kind in KINDS:
            precision, false = score.precision(kind), score.per_megabyte(kind)
            row += f" {precision:.2%} | {false:.2f} ({PER_MEGABYTE[kind]}) |"
            reached &= precision >= 0.98 and false <= PER_MEGABYTE[kind]
        else:
            row += " as secret | |"
        print(row)
    print("\nMissed:", dict(Counter((plant.kind, plant.source) for plant, _ in score.missed).most_common()))
    for plant, text in score.missed[:60]:
        print(f"  {plant.kind}: {text!r}")
    print("\nA part found, more than a third left:", [text for _, text in score.torn])
    print("\nFalse:")
    for kind, text in score.falsely[:80]:
        print(f"  {kind}: {text!r}")
    return reached


def main() -> int:
    megabytes, seed = (sys.argv[1:] + ["20", "1"][len(sys.argv) - 1 :])[:2]
    return 0 if report(measure(float(megabytes), int(seed))) else 1


if __name__ == "__main__":
    sys.exit(main())
