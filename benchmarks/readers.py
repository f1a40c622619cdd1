"""Row counts of a dataset by the tools of its readers, from a folder and from a bucket.

    python -m benchmarks.readers DATASET

Every reader takes the line that the README shows. The bucket is a real S3 server on this machine; polars,
Lance and webdataset are read if they are installed (``pip install 'videoauteur[readers]'``).
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path

import obstore
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from obstore.store import S3Store

from benchmarks.bucket_server import make_bucket, server
from benchmarks.commands import parser_of
from benchmarks.machine import machine, markdown
from models.media.cutter import CutSettings
from pipeline.dataset.layouts import export_webdataset
from pipeline.dataset.push import push
from pipeline.dataset.reading import open_dataset
from pipeline.dataset.schema import TABLES
from pipeline.platform.cluster import connected

BUCKET = "readers"
Count = Callable[[str, str], int]


def with_pandas(place: str, table: str) -> int:
    """Count with pandas, which reads a bucket through pyarrow."""
    import pandas as pd

    return len(pd.read_parquet(f"{place}/{table}"))


def with_polars(place: str, table: str) -> int:
    """Count with polars."""
    import polars as pl

    return int(pl.scan_parquet(f"{place}/{table}/*.parquet").select(pl.len()).collect().item())


def with_duckdb(place: str, table: str) -> int:
    """Count with DuckDB; a bucket is read through pyarrow, since its own extension is a download."""
    import duckdb

    rows = ds.dataset(f"{place}/{table}")
    found = duckdb.sql("SELECT count(*) FROM rows")
    assert rows is not None and found is not None
    return int(found.fetchall()[0][0])


def with_datasets(place: str, table: str) -> int:
    """Count with ``datasets``, which reads a bucket through fsspec."""
    import datasets
    from obstore.fsspec import register

    # Our own processes ask no hub; a bucket counts as one here.
    datasets.config.HF_HUB_OFFLINE = False
    register("s3")
    files = {"data_files": f"{place}/{table}/*.parquet", "split": "train"}
    with tempfile.TemporaryDirectory() as cache:
        if "://" in place:
            return len(datasets.load_dataset("parquet", cache_dir=cache, **files))
        return len(datasets.load_dataset(place, table, split="train", cache_dir=cache))


def with_ray_data(place: str, table: str) -> int:
    """Count with Ray Data."""
    import ray

    return int(ray.data.read_parquet(f"{place}/{table}").count())


def with_lance(place: str, table: str) -> int:
    """Count with Lance, after a copy into its own format beside the tables."""
    import lance

    copy = f"{place}/{table}.lance"
    lance.write_dataset(ds.dataset(f"{place}/{table}").to_table(), copy, mode="overwrite")
    return int(lance.dataset(copy).count_rows())


READERS: Mapping[str, tuple[str, Count]] = {
    "pandas": ("pandas", with_pandas),
    "polars": ("polars", with_polars),
    "DuckDB": ("duckdb", with_duckdb),
    "datasets": ("datasets", with_datasets),
    "Ray Data": ("ray", with_ray_data),
    "Lance": ("lance", with_lance),
}


def clips_of_shards(addresses: list[str]) -> int:
    """Count the clips of tar shards with webdataset."""
    import webdataset

    return sum(1 for _ in webdataset.WebDataset(addresses, shardshuffle=False, empty_check=False))


def main() -> None:
    """Count, print a table, then one JSON object."""
    parser = parser_of("readers", __doc__)
    parser.add_argument("dataset", type=Path, help="an OUTPUT of `curate`")
    arguments = parser.parse_args()
    dataset = open_dataset(arguments.dataset)
    true = {
        table: sum(pq.ParquetFile(path).metadata.num_rows for path in dataset.files(table))
        for table in TABLES
    }
    print(f"{machine()}\n")
    with tempfile.TemporaryDirectory() as folder, bucket() as url, connected():
        local = str(arguments.dataset.resolve())
        push(arguments.dataset, url)
        found = {
            (name, where): {table: count(place, table) for table in TABLES}
            for name, (package, count) in READERS.items()
            if find_spec(package)
            for where, place in (("folder", local), ("bucket", url))
        }
        if find_spec("webdataset"):
            shards = Path(folder) / "shards"
            export_webdataset(arguments.dataset, shards, CutSettings(), shard_bytes=10**9)
            paths = sorted(shards.glob("*.tar"))
            found["webdataset", "folder"] = {"clips": clips_of_shards([str(path) for path in paths])}
            served = [upload(path) for path in paths]
            found["webdataset", "bucket"] = {"clips": clips_of_shards(served)}
    same = all(rows[table] == true[table] for rows in found.values() for table in rows)
    lines = [["rows in the files", "", *(true[table] for table in TABLES)]]
    lines += [[*key, *(rows.get(table, "") for table in TABLES)] for key, rows in found.items()]
    print(markdown(["reader", "place", *TABLES], lines))
    print(json.dumps({"readers": len(found), "same_counts": same}))


@contextmanager
def bucket() -> Iterator[str]:
    """Run an S3 server; yield the URL for the dataset."""
    with server("moto") as address:
        make_bucket(address, BUCKET)
        os.environ |= {
            "AWS_ENDPOINT_URL": address, "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1",
            "NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost",
            "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret",
        }  # fmt: skip
        yield f"s3://{BUCKET}/dataset"


def upload(path: Path) -> str:
    """Put a shard into the bucket; return an address that may read it for an hour."""
    store = S3Store(BUCKET)
    obstore.put(store, f"shards/{path.name}", path)
    return str(obstore.sign(store, "GET", f"shards/{path.name}", timedelta(hours=1)))


if __name__ == "__main__":
    main()
