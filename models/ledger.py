"""Account of the requests by model and stage, of their cost, and of the budget that bounds it.

An append-only account in a folder that all processes of a run share, one file for each writer. A
request is written down before it is sent, with the most it may cost, and again when it has ended. What
was sent and never ended, because its process was killed, stays in the account as unfinished.
"""

from __future__ import annotations

import fcntl
import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from models.budget import Budget, Cost, Usage
from models.errors import BudgetError
from models.files import is_locked

SPENT = "spent"
"""File that marks the budget as spent for all workers; it holds the message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """Requests of one stage to one model, added up.

    Attributes:
        requests: sent: ``answered``, ``failed`` and ``unfinished`` together.
        unfinished: sent by a process that was killed before they ended; their outcome is unknown.
        unknown: requests of unknown cost: unfinished, broken off, or without a usage.
        remembered: answers that were taken from the store and cost nothing.
        input_tokens: as the servers counted them, where they did; so are ``output_tokens``.
        usd: what these came to.
        at_most_usd: the same, with the most that the unknown may have cost.
    """

    stage: str
    model: str
    requests: int = 0
    answered: int = 0
    failed: int = 0
    unfinished: int = 0
    unknown: int = 0
    remembered: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    usd: float = 0.0
    at_most_usd: float = 0.0


class Ledger:
    """Account of all requests of a run: writes this process's entries and reads all.

    Args:
        folder: shared by all writers; made on the first writing.
        budget: kept by all writers together, over restarts too. It rests on locks of files in the
            folder, which a network file system must support.
    """

    def __init__(self, folder: Path, budget: Budget | None = None) -> None:
        self._folder = folder
        self._spent = folder / SPENT
        self._budget = None if budget == Budget() else budget
        self._file: BinaryIO | None = None
        self._count = 0
        self._account = _Account(folder)
        self._own_open: dict[int, Cost] = {}
        self.here = Cost()
        """Cost of this process's finished requests; unknown costs count at their upper bound."""

    def sent(self, stage: str, model: str, most: Cost) -> int | None:
        """Record a request that is about to be sent.

        Args:
            most: what it may cost at most.

        Returns:
            a number to end it by; None if the budget has room for it only if those on their way come to
            less than they may: try again later.

        Raises:
            BudgetError: the budget has no room for it, whatever those on their way come to.
        """
        record = {"stage": stage, "model": model, "tokens": most.tokens, "usd": most.usd}
        if self._budget is None:
            return self._open(record, most)
        with self._locked():
            self._account.read()
            spent, held = self._account.spent(self._name)
            if over := self._budget.exceeded(spent + most):
                message = f"another request would go over {over}"
                self._spent.write_text(message)
                raise BudgetError(message)
            if self._budget.exceeded(spent + held + most):
                return None
            return self._open(record, most)

    def ended(self, number: int, outcome: str, usage: Usage | None, *, status: int | None = None) -> None:
        """Record how a request ended.

        Args:
            outcome: ``answered``, or why not.
            usage: None if it cannot be known.
            status: of HTTP, where there was one.
        """
        self._write(
            {"ended": number, "outcome": outcome, "status": status, **(asdict(usage) if usage else {})}
        )
        most = self._own_open.pop(number)
        if usage is not None:
            most = Cost(tokens=usage.input_tokens + usage.output_tokens, usd=usage.usd)
        self.here += replace(most, requests=1)

    def remembered(self, stage: str, model: str, count: int) -> None:
        """Record answers that were taken from the store."""
        self._write({"remembered": count, "stage": stage, "model": model})

    def stopped(self) -> str | None:
        """Return why no request can be sent any more, once the budget is spent."""
        # Asked for each video and stage; a file that is not there is cheaper to look for than to open.
        if not self._spent.exists():
            return None
        try:
            return self._spent.read_text()
        except FileNotFoundError:
            return None

    def resume(self) -> None:
        """Allow requests again, for a run that may have a larger budget."""
        self._spent.unlink(missing_ok=True)

    def totals(self) -> list[Total]:
        """Add up all entries, by stage and model."""
        self._account.read()
        return self._account.totals()

    def close(self) -> None:
        """Close the file; requests in flight then count as unfinished."""
        if self._file is not None:
            self._file.close()
            self._file = None

    @property
    def _name(self) -> str:
        return Path(self._file.name).name if self._file else ""

    def _open(self, record: Mapping[str, Any], most: Cost) -> int:
        self._count += 1
        self._write({"sent": self._count, **record})
        self._own_open[self._count] = most
        return self._count

    def _write(self, record: Mapping[str, Any]) -> None:
        if self._file is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            # Unbuffered: a record is with the system when this returns, and no kill can take it back.
            self._file = (self._folder / f"{uuid.uuid4().hex}.jsonl").open("xb", buffering=0)
            # Held for as long as this process lives: others tell by it what is still on its way.
            fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            self._file.write(json.dumps(record).encode() + b"\n")
        except OSError as error:
            raise OSError(error.errno, error.strerror, self._file.name) from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


class _Account:
    """All files of a folder, read as far as they are written."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read_to: dict[str, int] = {}
        self._open: dict[str, dict[int, dict[str, Any]]] = {}
        self._totals: dict[tuple[str, str], Total] = {}
        self._closed = Cost()

    def read(self) -> None:
        """Read the entries written since the last call."""
        for path in sorted(self._folder.glob("*.jsonl")):
            offset = self._read_to.get(path.name, 0)
            if path.stat().st_size == offset:
                continue
            with path.open("rb") as file:
                file.seek(offset)
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    offset += len(line)
                    # A full disk leaves half a record in the middle.
                    with suppress(json.JSONDecodeError):
                        self._note(path.name, json.loads(line))
            self._read_to[path.name] = offset

    def spent(self, own: str) -> tuple[Cost, Cost]:
        """Return the cost of ended requests, and the upper bound of those in flight.

        Args:
            own: the file of the one who asks.
        """
        dead, held = Cost(), Cost()
        for name in [name for name, records in self._open.items() if records]:
            if name == own or is_locked(self._folder / name):
                held += _most(self._open[name])
            else:
                # It may have ended its last requests just before it went.
                self.read()
                dead += _most(self._open[name])
        return self._closed + dead, held

    def totals(self) -> list[Total]:
        found = dict(self._totals)
        for records in self._open.values():
            for record in records.values():
                key = (record["stage"], record["model"])
                total = found[key]
                found[key] = replace(
                    total,
                    unfinished=total.unfinished + 1,
                    unknown=total.unknown + 1,
                    at_most_usd=total.at_most_usd + record["usd"],
                )
        return [found[key] for key in sorted(found)]

    def _note(self, name: str, record: dict[str, Any]) -> None:
        if "sent" in record:
            self._open.setdefault(name, {})[record["sent"]] = record
            self._add(record, requests=1)
        elif "remembered" in record:
            self._add(record, remembered=record["remembered"])
        else:
            begun = self._open.get(name, {}).pop(record["ended"], None)
            if begun is None:
                return
            answered = record["outcome"] == "answered"
            known = "usd" in record
            self._add(
                begun,
                answered=int(answered),
                failed=int(not answered),
                unknown=int(not known),
                input_tokens=record.get("input_tokens", 0),
                output_tokens=record.get("output_tokens", 0),
                usd=record.get("usd", 0.0),
                at_most_usd=record["usd"] if known else begun["usd"],
            )
            tokens = record["input_tokens"] + record["output_tokens"] if known else begun["tokens"]
            self._closed += Cost(requests=1, tokens=tokens, usd=record["usd"] if known else begun["usd"])

    def _add(self, of: Mapping[str, Any], **more: float) -> None:
        key = (of["stage"], of["model"])
        total = self._totals.get(key, Total(stage=key[0], model=key[1]))
        self._totals[key] = replace(
            total, **{name: getattr(total, name) + value for name, value in more.items()}
        )


def _most(records: Mapping[int, Mapping[str, Any]]) -> Cost:
    return Cost(
        requests=len(records),
        tokens=sum(record["tokens"] for record in records.values()),
        usd=sum(record["usd"] for record in records.values()),
    )
