"""A dataset of a bucket as files of this machine, in the node's cache: each object is fetched once."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pipeline.dataset.manifest import MANIFEST, DatasetError, File, parse_manifest
from pipeline.platform.cache import CACHE_BYTES, FileCache, cache_folder
from pipeline.platform.storage import Store, uri_of

FETCHED_AT_ONCE = 8


def dataset_state(url: str) -> str:
    """Return the state of a dataset in a bucket, which is another one for each version.

    Raises:
        DatasetError: there is no dataset.
        models.errors.ReportedError: the store refuses, or does not answer.
    """
    found = Store(url).head(MANIFEST)
    if found is None:
        raise DatasetError(f"{url}: has no {MANIFEST}; name what `videoauteur push` wrote")
    return found.identity


@contextmanager
def local_copy(url: str) -> Iterator[Path]:
    """Yield a folder that :func:`pipeline.dataset.reading.open_dataset` opens; its files stay till the end.

    Raises:
        DatasetError: there is no dataset, it is damaged, or an object is not the one in its manifest.
        models.errors.ReportedError: the store refuses, or does not answer.
    """
    store, cache = Store(url), FileCache(cache_folder(), CACHE_BYTES)
    try:
        text = store.get(MANIFEST)
    except FileNotFoundError:
        raise DatasetError(f"{url}: has no {MANIFEST}; name what `videoauteur push` wrote") from None
    manifest = parse_manifest(text, f"{url}/{MANIFEST}")
    with tempfile.TemporaryDirectory() as name, ExitStack() as held:
        folder = Path(name)

        def fetch(file: File) -> None:
            found = store.head(file.path)
            if found is None:
                raise DatasetError(f"{url}: {file.path} is missing; push the dataset again")
            local = held.enter_context(cache.opened(uri_of(url, file.path), found.identity))
            if local.sha256 != file.sha256:
                raise DatasetError(f"{url}: {file.path} is not the file in {MANIFEST}; push it again")
            link = folder / file.path
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(local.path)

        with ThreadPoolExecutor(FETCHED_AT_ONCE) as threads:
            list(threads.map(fetch, manifest.all_files()))
        # Not a link: what is behind it would be taken for the folder of the version.
        (folder / MANIFEST).write_bytes(text)
        yield folder
