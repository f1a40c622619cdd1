"""Tensors that several processes share, in a folder of safetensors: each process writes its own part.

No process holds a whole model. The layout is that of PyTorch's distributed checkpoints for safetensors: the
header of each file says where its parts belong, so any number of processes reads what another number wrote,
and nothing is unpickled.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

TYPES = {
    torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.int64: "I64",
    torch.bool: "BOOL",
}  # fmt: skip
"""Names of types in a safetensors header."""
ALIGNED = 8
"""Bytes that offsets in a safetensors file are multiples of."""


def save_shards(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write this process's parts of tensors; all processes of the run call it together."""
    save(dict(tensors), storage_writer=HuggingFaceStorageWriter(str(folder), save_distributed=True))


def load_shards(folder: Path, into: Mapping[str, Tensor]) -> None:
    """Fill tensors, sharded ones with this process's parts; all processes of the run call it together."""
    load(dict(into), storage_reader=HuggingFaceStorageReader(str(folder)))


def shapes_in(folder: Path) -> dict[str, tuple[torch.Size, torch.dtype]]:
    """Return shape and type of each whole tensor of a folder."""
    found = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    return {name: (entry.size, entry.properties.dtype) for name, entry in found.items()}  # type: ignore[union-attr]


def read_shards(folder: Path) -> dict[str, Tensor]:
    """Return the whole tensors of a folder, in this process alone."""
    into = {name: torch.empty(shape, dtype=dtype) for name, (shape, dtype) in shapes_in(folder).items()}
    _fill(folder, into)
    return into


def join_shards(folder: Path, file: Path) -> None:
    """Write the whole tensors of a folder into one safetensors file, in this process alone.

    The file is mapped and filled in place: the system may write its pages to the disk at any time, so a
    model larger than the memory can be joined.
    """
    # Large types first keep every offset a multiple of its type's size.
    found = sorted(shapes_in(folder).items(), key=lambda entry: (-entry[1][1].itemsize, entry[0]))
    header: dict[str, object] = {}
    end = 0
    for name, (shape, dtype) in found:
        start, end = end, end + shape.numel() * dtype.itemsize
        kind = TYPES[dtype]
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % ALIGNED)
    with file.open("wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        out.truncate(8 + len(text) + end)
    with file.open("r+b") as whole, mmap.mmap(whole.fileno(), 0) as mapped:
        into, at = {}, 8 + len(text)
        for name, (shape, dtype) in found:
            if shape.numel():
                numbers = torch.frombuffer(mapped, dtype=dtype, count=shape.numel(), offset=at)
                into[name] = numbers.view(shape)
            at += shape.numel() * dtype.itemsize
        _fill(folder, into)
        # A mapping that tensors point into cannot be closed.
        del numbers
        into.clear()
        mapped.flush()


def _fill(folder: Path, into: dict[str, Tensor]) -> None:
    load(into, storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=True)
