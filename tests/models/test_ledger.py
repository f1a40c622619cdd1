"""The account of all requests: it adds up whatever happens to those who write it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from models.budget import IMAGE_TOKENS, Budget, Cost, Usage, most_tokens
from models.errors import BudgetError
from models.language import Endpoint, Question
from models.ledger import Ledger, Total

ROOT = Path(__file__).parents[2]
MOST = Cost(requests=1, tokens=10, usd=0.1)
SPENDER = """
import sys, time
from pathlib import Path
from models.budget import Budget, Cost, Usage
from models.errors import BudgetError
from models.ledger import Ledger
ledger = Ledger(Path(sys.argv[1]), Budget(max_tokens=200))
print("ready", flush=True)
sys.stdin.readline()
try:
    while True:
        number = ledger.sent("caption", "m", Cost(requests=1, tokens=10, usd=0.1))
        if number is None:
            time.sleep(0.001)
            continue
        ledger.ended(number, "answered", Usage(input_tokens=4, output_tokens=3, usd=0.07))
except BudgetError as error:
    print(error)
"""
KILLED = """
import signal, sys
from pathlib import Path
from models.budget import Cost
from models.ledger import Ledger
ledger = Ledger(Path(sys.argv[1]))
ledger.sent("caption", "m", Cost(requests=1, tokens=10, usd=0.1))
print("sent", flush=True)
signal.pause()
"""


def process(script: str, folder: Path) -> subprocess.Popen[str]:
    """A writer that has come to its first line."""
    started = subprocess.Popen(
        [sys.executable, "-c", script, str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    assert started.stdout is not None
    assert started.stdout.readline()
    return started


def spend(ledger: Ledger, tokens: int | None, outcome: str = "answered", stage: str = "caption") -> None:
    """One request that costs so many tokens, or nobody knows how many."""
    number = ledger.sent(stage, "m", MOST)
    assert number is not None
    usage = None if tokens is None else Usage(input_tokens=tokens, output_tokens=1, usd=0.01)
    ledger.ended(number, outcome, usage)


def test_everything_is_counted_by_stage_and_model(tmp_path: Path) -> None:
    one, two = Ledger(tmp_path / "ledger"), Ledger(tmp_path / "ledger")
    spend(one, 4)
    spend(two, 5)
    spend(two, 0, "busy")
    spend(one, None, "timeout")
    spend(one, 3, stage="refine")
    one.remembered("refine", "m", 6)
    captions, refined = Ledger(tmp_path / "ledger").totals()
    assert captions == Total(
        stage="caption", model="m", requests=4, answered=2, failed=2, unknown=1,
        input_tokens=9, output_tokens=3, usd=0.03, at_most_usd=pytest.approx(0.13),
    )  # fmt: skip
    assert refined == Total(
        stage="refine", model="m", requests=1, answered=1, remembered=6,
        input_tokens=3, output_tokens=1, usd=0.01, at_most_usd=0.01,
    )  # fmt: skip
    assert one.here == Cost(requests=3, tokens=5 + 10 + 4, usd=pytest.approx(0.12))
    assert Ledger(tmp_path / "nothing").totals() == []


def test_what_was_on_its_way_at_a_kill_is_unfinished(tmp_path: Path) -> None:
    writer = process(KILLED, tmp_path)
    ledger = Ledger(tmp_path, Budget(max_requests=2))
    writer.send_signal(signal.SIGKILL)
    writer.communicate()
    (total,) = ledger.totals()
    assert total == Total(
        stage="caption", model="m", requests=1, unfinished=1, unknown=1, usd=0.0, at_most_usd=0.1
    )
    spend(ledger, 1)
    with pytest.raises(BudgetError, match=r"budget\.max_requests, which is 2"):
        ledger.sent("caption", "m", MOST)


def test_half_a_record_is_passed_over(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    spend(ledger, 4)
    (file,) = tmp_path.glob("*.jsonl")
    with file.open("ab") as torn:
        torn.write(b'{"sent": 9, "sta\n{"ended": 9, "outcome": "answered"}\n{"sent": 10')
    (total,) = Ledger(tmp_path).totals()
    assert (total.requests, total.answered, total.unfinished) == (1, 1, 0)


def test_several_processes_keep_one_budget(tmp_path: Path) -> None:
    writers = [process(SPENDER, tmp_path) for _ in range(3)]
    said = [writer.communicate("go\n", timeout=60)[0] for writer in writers]
    assert said == ["another request would go over budget.max_tokens, which is 200\n"] * 3
    (total,) = Ledger(tmp_path).totals()
    # The last for which there is room is the one before which 27 x 7 are spent: it may take 10.
    assert total.requests == total.answered == 28
    assert total.input_tokens + total.output_tokens == 28 * 7


def test_the_budget_waits_for_those_on_their_way_and_not_for_the_dead(tmp_path: Path) -> None:
    budget = Budget(max_usd=0.25)
    living, asking = Ledger(tmp_path, budget), Ledger(tmp_path, budget)
    first, second = (living.sent("caption", "m", MOST) for _ in range(2))
    assert first is not None and second is not None
    assert asking.sent("caption", "m", MOST) is None, "they may cost less than they may at most"
    assert asking.stopped() is None
    living.ended(first, "answered", Usage(input_tokens=1, output_tokens=1, usd=0.02))
    third = asking.sent("caption", "m", MOST)
    assert third is not None
    asking.ended(third, "answered", Usage(input_tokens=1, output_tokens=1, usd=0.1))
    # 0.12 are spent, and the one that nobody will end may have cost 0.10.
    living.close()
    with pytest.raises(BudgetError, match=r"budget\.max_usd, which is 0\.25"):
        asking.sent("caption", "m", MOST)
    assert "budget.max_usd" in (Ledger(tmp_path).stopped() or ""), "all others are told"


def test_a_larger_budget_goes_on_with_what_was_spent(tmp_path: Path) -> None:
    spend(Ledger(tmp_path), 8)
    small, large = (Ledger(tmp_path, Budget(max_tokens=tokens)) for tokens in (18, 30))
    with pytest.raises(BudgetError):
        small.sent("caption", "m", MOST)
    large.resume()
    assert large.stopped() is None
    spend(large, 9)
    with pytest.raises(BudgetError):
        large.sent("caption", "m", Cost(requests=1, tokens=12))


def test_a_bound_on_the_tokens_of_a_request() -> None:
    asked = Question(
        instructions="Zähle.", material="drei", schema={"type": "object"}, images=[b"one", b"two"],
        follow_ups=[("uno", "In English.")], max_tokens=100,
    )  # fmt: skip
    request = Endpoint(base_url="http://127.0.0.1:9/v1", model="m").form(asked.messages(), {}, 100)
    texts = len("Zähle.".encode()) + len("drei" + "uno" + "In English.")
    bound = most_tokens(request)
    assert 2 * IMAGE_TOKENS + 100 + texts <= bound < 2 * IMAGE_TOKENS + 100 + texts + 250
