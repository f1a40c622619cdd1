"""Feature tables of stories and clips whose tensors a test has made."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from torch import Tensor

from generation.data.files import write_clips
from generation.data.reading import FACTS, TRAIN


def write_features(
    models: Path,
    kind: str,
    rows: Sequence[Mapping[str, Any]],
    clips: Sequence[Sequence[Mapping[str, Tensor]]],
) -> None:
    """MODELS/features/KIND of rows, and of the tensors of each row's file, clip by clip."""
    folder, store = models / "features" / kind, models / "store" / kind
    (folder / TRAIN).mkdir(parents=True)
    found = []
    for number, (row, tensors) in enumerate(zip(rows, clips, strict=True)):
        write_clips(store / f"{number}.parquet", tensors)
        found.append({**row, "files": [f"{number}.parquet"]})
    pq.write_table(pa.Table.from_pylist(found), folder / TRAIN / "part-00000.parquet")
    (folder / FACTS).write_text(json.dumps({"made_from": "a test", "store": str(store)}))
