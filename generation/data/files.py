"""Tensors of a video's clips in one file: written whole, read clip by clip.

A file is Parquet with a row and a row group for each clip. Numbers are bfloat16, and their high and low
bytes are stored apart, since only the high ones compress: a file takes about 0.7 times the size of its
numbers (latents and text tokens; ``python -m benchmarks.feature_size``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import load, save
from torch import Tensor

from models.files import whole_file

PLANES = "|bfloat16"
"""Ends the name of a tensor whose bytes are stored by plane."""
SCHEMA = pa.schema({"tensors": pa.binary()})


def write_clips(path: Path, clips: Sequence[Mapping[str, Tensor]]) -> None:
    """Write the tensors of clips; the file appears whole."""
    with (
        whole_file(path, shared=True) as part,
        pq.ParquetWriter(part, SCHEMA, compression="zstd", use_dictionary=False) as writer,
    ):
        for clip in clips:
            writer.write_table(pa.Table.from_pylist([{"tensors": pack(clip)}], schema=SCHEMA))


def read_clip(path: Path, index: int) -> dict[str, Tensor]:
    """Read the tensors of one clip."""
    with pq.ParquetFile(path) as file:
        return unpack(file.read_row_group(index, use_threads=False)["tensors"][0].as_py())


def read_clips(path: Path) -> list[dict[str, Tensor]]:
    """Read the tensors of all clips."""
    return [unpack(packed) for packed in pq.read_table(path)["tensors"].to_pylist()]


def pack(tensors: Mapping[str, Tensor]) -> bytes:
    """Return tensors as bytes; floating-point numbers as bfloat16, by byte plane."""
    stored = {}
    for name, tensor in tensors.items():
        if tensor.is_floating_point():
            pairs = tensor.to(torch.bfloat16).contiguous().reshape(-1, 1).view(torch.uint8)
            stored[name + PLANES] = pairs.T.reshape(2, *tensor.shape).contiguous()
        else:
            stored[name] = tensor.contiguous()
    return save(stored)


def unpack(data: bytes) -> dict[str, Tensor]:
    """Return what :func:`pack` was given, rounded to bfloat16."""
    tensors = {}
    for name, tensor in load(data).items():
        if name.endswith(PLANES):
            pairs = tensor.reshape(2, -1).T.flatten()
            tensors[name.removesuffix(PLANES)] = pairs.view(torch.bfloat16).reshape(tensor.shape[1:])
        else:
            tensors[name] = tensor
    return tensors
