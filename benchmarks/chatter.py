"""Precision and recall of the informativeness filter on labelled transcript lines.

    python -m benchmarks.chatter benchmarks/chatter_heldout.tsv [--out wrong.tsv]

A line is *kept* where the filter gives no reason against it; it should be where it is labelled ``action``.
The other labels are kinds of chatter: their recall is the share of such lines that is dropped, whatever the
reason, and ``named`` the share that is dropped for the reason of that name. The labels' rules stand at the
head of the list. What asks to subscribe, like or share is labelled ``sponsor`` there, and named GREETING by
the filter, so ``named`` is low for it. The rules were written with chatter.tsv at hand;
chatter_heldout.tsv is for measuring only.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.machine import machine, markdown
from stages.english.informative import why_not
from stages.reasons import Reason

LABELS = {
    "action": None,
    "greeting": Reason.GREETING,
    "sponsor": Reason.SPONSOR,
    "chatter": Reason.CHATTER,
    "bare_amount": Reason.BARE_AMOUNT,
}
REPEATS = 5


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("lines", type=Path, metavar="FILE", help="label, tab, text; # begins a comment")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where the misjudged lines go, too")
    parsed = parser.parse_args()
    lines = read_lines(parsed.lines)
    reasons = [why_not(text) for _, text in lines]
    seconds = min(_seconds([text for _, text in lines]) for _ in range(REPEATS))

    labels = [label for label, _ in lines]
    kept = [reason is None for reason in reasons]
    right = sum(keep and label == "action" for keep, label in zip(kept, labels, strict=True))
    precision, recall = _share(right, sum(kept)), _share(right, labels.count("action"))
    per_label = {}
    for label, reason in LABELS.items():
        own = [found for found, labelled in zip(reasons, labels, strict=True) if labelled == label]
        judged = sum((found is None) == (label == "action") for found in own)
        per_label[label] = {
            "lines": len(own),
            "recall": _share(judged, len(own)),
            "named": _share(own.count(reason), len(own)),
        }
    wrong = [
        f"{label}\t{reason or 'kept'}\t{text}"
        for (label, text), reason in zip(lines, reasons, strict=True)
        if (reason is None) != (label == "action")
    ]
    if parsed.out is not None:
        parsed.out.write_text("".join(f"{line}\n" for line in wrong), encoding="utf-8")

    print(f"{machine()}\n")
    print("\n".join(["label, judged, text", *wrong]), end="\n\n")
    rows = [[label, each["lines"], each["recall"], each["named"]] for label, each in per_label.items()]
    print(markdown(["label", "lines", "recall", "named"], rows))
    spoken = labels.count("action")
    print(f"\n{right} of {sum(kept)} kept lines are actions, {right} of {spoken} actions are kept")
    print(f"{seconds / len(lines) * 1e6:.0f} us a line\n")
    figures = {
        "lines": len(lines),
        "precision": precision,
        "recall": recall,
        "f1": _share(2 * right, sum(kept) + labels.count("action")),
        "per_label": per_label,
    }
    print(json.dumps(figures))


def read_lines(path: Path) -> list[tuple[str, str]]:
    """(label, text) of a list.

    Raises:
        SystemExit: a line is none, or has an unknown label.
    """
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if line and not line.startswith("#"):
            label, _, text = line.partition("\t")
            if label not in LABELS or not text:
                raise SystemExit(
                    f"{path}, line {number}: want one of {', '.join(LABELS)}, a tab and a text"
                )
            found.append((label, text))
    return found


def _seconds(texts: Sequence[str]) -> float:
    begin = time.perf_counter()
    for text in texts:
        why_not(text)
    return time.perf_counter() - begin


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


if __name__ == "__main__":
    main()
