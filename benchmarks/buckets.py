"""Curate from and into buckets of real S3 servers on this machine: undisturbed, killed, and disturbed.

For each server: a run with INPUT, OUTPUT and memo in buckets behind a proxy that counts the bytes; one that
is killed twice, and continued the second time by a node with an empty cache; one of which a fifth of all
requests fails, is late, is cut off, or gets no answer. All must write the tables of a run over a folder. At
the end everything that was written is searched for the secret.

    python -m benchmarks.buckets
    python -m benchmarks.buckets --videos FOLDER --server moto --server node_modules/s3rver/bin/s3rver.js

Keys of the last line: ``identical``, ``continued_identical``, ``faulty_identical`` (of all servers),
``bytes_read_ratio`` (bytes read of INPUT by the undisturbed run, by its size; the largest), and
``secret_found`` (number of places).
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from benchmarks.bucket_server import Proxy, client, environment, make_bucket, server, upload
from benchmarks.commands import parser_of
from benchmarks.machine import machine, markdown
from benchmarks.run_process import Run
from examples.make_videos import make_demo
from pipeline.dataset.check import check_dataset
from pipeline.dataset.reading import open_dataset
from pipeline.dataset.schema import TABLES
from pipeline.platform.storage import Store

SHARE = 0.2
"""Of the requests, in the disturbed run."""
BUCKET = "s3://films"
KILLS = ("probe-", "transcribe-")
"""Records in the memo after which the run is killed."""
HEAD = ("server", "run", "seconds", "requests", "disturbed", "same tables", "check")


@dataclass(kw_only=True)
class Bench:
    """One server, and what was found with it.

    Attributes:
        same: whether the tables are those of the local run, by run.
        ratio: bytes read of INPUT by its size.
        found: places that hold the secret.
    """

    name: str
    videos: Path
    folder: Path
    options: Sequence[str]
    key: str
    secret: str
    same: dict[str, bool] = field(default_factory=dict)
    rows: list[list[object]] = field(default_factory=list)
    ratio: float = 0.0
    found: list[str] = field(default_factory=list)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = parser_of("buckets", __doc__)
    parser.add_argument("--videos", type=Path, metavar="FOLDER", help="default: the films of the demo")
    parser.add_argument(
        "--server", action="append", metavar="NAME",
        help="moto, or the path of s3rver.js; may be repeated; default: moto",
    )  # fmt: skip
    parser.add_argument("--runner", choices=("local", "ray"), default="local", help="default: %(default)s")
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="a.b=value")
    parser.add_argument("--quick", action="store_true", help="one film of the demo; two on Ray")
    parsed = parser.parse_args(arguments)
    options = ["--runner", parsed.runner]
    for setting in parsed.settings:
        options += ["--set", setting]
    benches = []
    with tempfile.TemporaryDirectory() as name:
        videos = parsed.videos or Path(name) / "videos"
        if parsed.videos is None:
            make_demo(videos)
            films = sorted(videos.glob("*.mp4"), key=lambda path: path.stat().st_size)
            # One video alone needs no cluster.
            kept = 2 if parsed.runner == "ray" else 1
            for path in films[:-kept] if parsed.quick else ():
                path.unlink()
        reference = _local(videos, Path(name) / "local", options)
        for number, kind in enumerate(parsed.server or ["moto"]):
            # Only one of them can be given a key of one's own.
            key, secret = (
                ("AKIAPLANTED0001", "planted/S3cret+of/the+bucket") if kind == "moto" else ("S3RVER",) * 2
            )
            bench = Bench(
                name=Path(kind).stem, videos=videos, folder=Path(name) / f"{number}",
                options=options, key=key, secret=secret,
            )  # fmt: skip
            with server(kind) as upstream:
                _run_all(bench, upstream, reference)
            benches.append(bench)
    print(machine())
    print(markdown(HEAD, [row for bench in benches for row in bench.rows]))
    for bench in benches:
        for place in bench.found:
            print(f"{bench.name}: the secret stands in {place}")
    runs = {run: all(bench.same[run] for bench in benches) for run in ("plain", "continued", "faulty")}
    print(
        json.dumps(
            {
                "identical": runs["plain"],
                "continued_identical": runs["continued"],
                "faulty_identical": runs["faulty"],
                "bytes_read_ratio": round(max(bench.ratio for bench in benches), 4),
                "secret_found": sum(len(bench.found) for bench in benches),
            }
        )
    )
    return 0


def _local(videos: Path, output: Path, options: Sequence[str]) -> dict[str, bytes]:
    code, log = _curate(str(videos), str(output), options, {}).end()
    if code not in (0, 3):
        raise RuntimeError(f"the local run ended with {code}:\n{log}")
    return _tables(output)


def _run_all(bench: Bench, upstream: str, reference: Mapping[str, bytes]) -> None:
    make_bucket(upstream, BUCKET.removeprefix("s3://"))
    logs: list[str] = []
    with client(environment(upstream, bench.key, bench.secret)):
        size = upload(BUCKET, bench.videos, "in")
        for run, share in (("plain", 0.0), ("continued", 0.0), ("faulty", SHARE)):
            with Proxy(upstream, share=share) as proxy:
                started = time.perf_counter()
                logs += _killed(bench, proxy) if run == "continued" else []
                node = "other" if run == "continued" else run
                code, log = _bucket_run(bench, run, node, proxy).end()
                logs.append(log)
                seconds = time.perf_counter() - started
            if run == "plain":
                prefix = quote("/films/in/")
                bench.ratio = sum(n for path, n in proxy.read.items() if path.startswith(prefix)) / size
            url = f"{BUCKET}/{run}"
            bench.same[run] = code in (0, 3) and _tables(url) == reference
            problems = check_dataset(url).problems if code in (0, 3) else log.strip().splitlines()[-1:]
            bench.rows.append(
                [bench.name, run, seconds, proxy.requests.total(), proxy.faults.total(), bench.same[run],
                 "; ".join(problems) or "sound"]
            )  # fmt: skip
        refused = _curate(
            f"{BUCKET}-none/in", f"{BUCKET}/none", [], {"VIDEOAUTEUR_CACHE": str(bench.folder)}
        )
        logs.append(refused.end()[1])
        bench.found = list(_places(bench, logs))


def _killed(bench: Bench, proxy: Proxy) -> list[str]:
    """Kill a run as soon as its memo holds a record, twice; return what the runs printed."""
    logs = []
    memo = bench.folder / "continued" / "memos"
    for beginning in KILLS:
        run = _bucket_run(bench, "continued", "continued", proxy)
        while run.process.poll() is None and not _holds(memo, beginning):
            time.sleep(0.02)
        run.kill()
        logs.append(run.end()[1])
    return logs


def _holds(folder: Path, beginning: str) -> bool:
    """Return whether a record whose key begins so stands in a memo of this node."""
    return any(
        line.startswith(beginning.encode())
        for path in folder.rglob("*.seg")
        for line in path.read_bytes().splitlines()
    )


def _bucket_run(bench: Bench, output: str, node: str, proxy: Proxy) -> Run:
    variables = environment(proxy.endpoint, bench.key, bench.secret)
    variables["VIDEOAUTEUR_CACHE"] = str(bench.folder / node)
    return _curate(f"{BUCKET}/in", f"{BUCKET}/{output}", bench.options, variables)


def _curate(given: str, output: str, options: Sequence[str], variables: Mapping[str, str]) -> Run:
    return Run([sys.executable, "-m", "pipeline", "curate", given, output, *options], variables)


def _tables(place: Path | str) -> dict[str, bytes]:
    dataset = open_dataset(place)
    return {f"{name}/{path.name}": path.read_bytes() for name in TABLES for path in dataset.files(name)}


def _places(bench: Bench, logs: Sequence[str]) -> Iterator[str]:
    """Yield the names of all that holds the secret or the key: logs, files of the nodes, objects."""
    needles = {bench.key.encode(), bench.secret.encode(), quote(bench.secret, safe="").encode()}
    for number, log in enumerate(logs):
        if any(needle in log.encode() for needle in needles):
            yield f"what run {number} printed"
    for path in bench.folder.rglob("*"):
        if path.is_file() and any(needle in path.read_bytes() for needle in needles):
            yield str(path.relative_to(bench.folder))
    store = Store(BUCKET)
    for found in store.list():
        if any(needle in store.get(found.key) for needle in needles):
            yield found.key


if __name__ == "__main__":
    sys.exit(main())
