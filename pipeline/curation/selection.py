"""A part of INPUT: a shard of it for one of several machines, a sample, or its first files.

The parts depend on the names of the files alone, so that every machine finds the same ones without
reading a byte. Runs over all shards with one memo leave nothing to measure: the same command without
``--shard`` then writes the tables of the whole, byte for byte those of a single run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.curation.ingest import InputError, Source
from pipeline.dataset.manifest import relative_uri


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Choice of the files of INPUT that a run curates; all of them by default.

    Attributes:
        shard: (number, of how many), the number from 1 on; applied first.
        sample: how many files, drawn by a hash of their names, so that a grown INPUT changes few of them.
        limit: how many files at most, the first by name; applied last.
    """

    shard: tuple[int, int] | None = None
    sample: int | None = None
    limit: int | None = None

    def of(self, sources: Sequence[Source], root: str) -> list[Source]:
        """Return the selected files, in their order.

        Args:
            root: URI of the folder that names start from, so that a moved INPUT has the same parts.

        Raises:
            InputError: none is left.
        """
        chosen = list(sources)
        if self.shard is not None:
            number, shards = self.shard
            chosen = [one for one in chosen if _draw(one, root) % shards == number - 1]
        if self.sample is not None:
            drawn = sorted(chosen, key=lambda one: _draw(one, root))[: self.sample]
            names = {one.uri for one in drawn}
            chosen = [one for one in chosen if one.uri in names]
        chosen = chosen[: self.limit]
        if not chosen:
            raise InputError("INPUT: no file of it is in this part; see --shard, --sample and --limit")
        return chosen

    @classmethod
    def of_facts(cls, facts: Mapping[str, Any]) -> Selection:
        """Return the selection of a run file; the inverse of :meth:`facts`."""
        shard = facts.get("shard")
        return cls(
            shard=(shard[0], shard[1]) if shard else None,
            sample=facts.get("sample"),
            limit=facts.get("limit"),
        )

    def facts(self) -> dict[str, Any]:
        """Return what is set, for the run file."""
        return {name: value for name, value in asdict(self).items() if value is not None}


EVERYTHING = Selection()


def _draw(source: Source, root: str) -> int:
    digest = hashlib.sha256(relative_uri(source.uri, root).encode()).digest()
    return int.from_bytes(digest[:8], "big")
