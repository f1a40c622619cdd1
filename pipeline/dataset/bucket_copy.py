"""A dataset of a bucket as files of this machine, in the node's cache: each object is fetched once."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from pipeline.dataset.manifest import MANIFEST, DatasetError, File
from pipeline.dataset.reading import open_dataset
from pipeline.platform.storage import Store

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
    dataset = open_dataset(url)
    assert dataset.manifest is not None, "a dataset of a bucket is one by its manifest"
    others = {file.path for file in dataset.manifest.files}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def fetch(file: File) -> None:
            try:
                path = dataset.path(file)
            except FileNotFoundError as error:
                raise DatasetError(f"{url}: {file.path} is missing; push the dataset again") from error
            # Card, report and run file stand in a folder of their version there, and here above the tables.
            for place in {file.path, path.name if file.path in others else file.path}:
                link = folder / place
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(path)

        with ThreadPoolExecutor(FETCHED_AT_ONCE) as threads:
            list(threads.map(fetch, dataset.manifest.all_files()))
        # Not a link: what is behind it would be taken for the folder of the version.
        (folder / MANIFEST).write_bytes(dataset.manifest.dump())
        yield folder
