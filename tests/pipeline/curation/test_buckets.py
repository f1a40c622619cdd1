"""The whole job with INPUT, OUTPUT and memo in buckets: the same tables, and nothing twice."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest

from benchmarks.bucket_server import Proxy, upload
from examples.media import Truth
from models.errors import StoreError, UsageError
from pipeline.cli.main import main
from pipeline.curation.bucket_output import BucketOutput
from pipeline.curation.config import Config
from pipeline.curation.files import CHANGED, VideoFiles
from pipeline.curation.ingest import InputError, Source, identify, input_root, sources_of
from pipeline.curation.job import Outcome, curate
from pipeline.dataset.bucket_copy import local_copy
from pipeline.dataset.check import check_dataset
from pipeline.dataset.manifest import MANIFEST
from pipeline.dataset.reading import open_dataset
from pipeline.dataset.schema import TABLES
from pipeline.dataset.stream import DecodeClip, RowStream, StreamLoader
from pipeline.platform import lease
from pipeline.platform.config import ConfigError, load
from pipeline.platform.lease import LEASE
from pipeline.platform.memo import Memo
from pipeline.platform.storage import Store
from pipeline.report.status import read_run
from stages.base import BadInputError
from stages.reasons import Reason
from tests.support.buckets import SECRET, bucket, s3_server

__all__ = ["bucket", "s3_server"]
SILENT = ("transcribe.require_speech=false", "match.required=false", "narrate.min_steps=1")


@pytest.fixture(autouse=True)
def node(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A node of its own for each test."""
    monkeypatch.setenv("VIDEOAUTEUR_CACHE", str(tmp_path / "node"))
    return tmp_path / "node"


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory, wordless: tuple[Path, Truth]) -> Path:
    """A silent film and its copy, and two files that are no films."""
    folder = tmp_path_factory.mktemp("given")
    (folder / "sub dir").mkdir()
    shutil.copy(wordless[0], folder / "sub dir" / "film #1 ä.mp4")
    shutil.copy(wordless[0], folder / "copy.mov")
    (folder / "zero.mp4").touch()
    (folder / "text.mp4").write_text("not a film\n" * 50)
    return folder


def run(given: str, output: Path | str, memo: str | None = None) -> Outcome:
    settings = ["run.runner=local", *SILENT]
    return curate(given, output, load(None, settings, Config), memo=memo)


def tables(place: Path | str) -> dict[str, bytes]:
    dataset = open_dataset(place)
    return {f"{name}/{path.name}": path.read_bytes() for name in TABLES for path in dataset.files(name)}


def test_tables_from_buckets_are_those_from_folders(
    given: Path, tmp_path: Path, bucket: str, s3_server: str, node: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(str(given), tmp_path / "local")
    size = upload(bucket, given, "in")
    with Proxy(s3_server) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        silent = [word for setting in SILENT for word in ("--set", setting)]
        assert main(["curate", f"{bucket}/in", f"{bucket}/out", "--runner", "local", *silent]) == 0
        fetched = sum(count for path, count in proxy.read.items() if "/in/" in path)
        assert fetched == size, "every video is read once"
        shutil.rmtree(node)
        # The report alone reads videos, for pictures whose packed frames are gone.
        again = run(f"{bucket}/in", f"{bucket}/again", memo=f"{bucket}/out/_memo")
        assert not any(stage.get("measured") for stage in again.summary["stages"].values())
        assert tables(f"{bucket}/out") == tables(f"{bucket}/again") == tables(tmp_path / "local")
        assert check_dataset(f"{bucket}/out").problems == []
        manifest = open_dataset(f"{bucket}/out").manifest
        assert manifest is not None and manifest.input_root == f"{bucket}/in/"
        there = {found.key.partition("/")[0] for found in Store(f"{bucket}/out").list()}
        assert there == {
            *TABLES, MANIFEST, "_versions", "_memo", "_run", "README.md", "report.html", "run.json"
        }  # fmt: skip
        for found in Store(bucket).list():
            assert SECRET.encode() not in Store(bucket).get(found.key), found.key
        assert main(["status", f"{bucket}/out"]) == 0
        with local_copy(f"{bucket}/out") as copy:
            assert read_run(copy)["status"] == "done"


def test_clips_of_videos_in_a_bucket_are_decoded_in_workers(
    given: Path, bucket: str, tmp_path: Path
) -> None:
    upload(bucket, given, "in")
    run(f"{bucket}/in", f"{bucket}/out")
    url = f"{bucket}/out"
    decode = DecodeClip(url, count=2, height_px=24, width_px=32)
    streams = [RowStream(url, "clips", transform=decode) for _ in range(2)]
    here, there = (
        [row for rows in StreamLoader(stream, batch_size=1, workers=workers) for row in rows]
        for stream, workers in zip(streams, (0, 1), strict=True)
    )
    assert [row["clip_id"] for row in here] == [row["clip_id"] for row in there] != []
    assert here[0]["frames"].shape == (2, 24, 32, 3)
    assert (here[0]["frames"] == there[0]["frames"]).all()
    assert main(["export", "media", url]) == 0
    assert [found.key for found in Store(url).list("media") if found.key.endswith(".mp4")] == sorted(
        f"media/{row['clip_id']}.mp4" for row in here
    )


def test_objects_are_sources_with_the_store_s_identity(bucket: str, tmp_path: Path) -> None:
    store = Store(bucket)
    for name, content in (("in/b ä.mp4", b"one"), ("in/a.mp4", b"one"), ("in/c.mp4", b"other")):
        store.put(name, content)
    store.put("in/out/manifest.json", b"{}")
    found = sources_of(f"{bucket}/in", leave_out=f"{bucket}/in/out")
    assert [source.uri for source in found] == [
        f"{bucket}/in/{name}" for name in ("a.mp4", "b%20%C3%A4.mp4", "c.mp4")
    ]
    assert input_root(f"{bucket}/in") == input_root(f"{bucket}/in/") == f"{bucket}/in/"
    assert input_root(f"{bucket}/in/a.mp4") == f"{bucket}/in/"
    assert sources_of(f"{bucket}/in/a.mp4") == [found[0]]
    memo = Memo(tmp_path / "memo")
    known = identify(found, memo)
    assert [bool(source.content_id) for source in known] == [True, True, False], "a size of its own"
    assert known[0].content_id == known[1].content_id
    memo.close()


def test_lists_here_and_there_hold_urls(bucket: str, tmp_path: Path) -> None:
    Store(bucket).put("in/a b.mp4", b"one")
    Store(bucket).put("in/films.txt", b"# comment\na b.mp4\n" + f"{bucket}/in/gone.mp4\n".encode())
    a, gone = sources_of(f"{bucket}/in/films.txt")
    assert (a.uri, a.problem) == (f"{bucket}/in/a%20b.mp4", None)
    assert gone == Source(uri=f"{bucket}/in/gone.mp4", problem="no such object in the bucket")
    (tmp_path / "here.mp4").write_bytes(b"x")
    (tmp_path / "films.txt").write_text(f"here.mp4\n{bucket}/in/a b.mp4\n")
    assert [source.uri for source in sources_of(str(tmp_path / "films.txt"))] == [
        (tmp_path / "here.mp4").as_uri(), a.uri,
    ]  # fmt: skip


def test_an_empty_or_missing_input_is_a_sentence(bucket: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing in it"):
        sources_of(f"{bucket}/in")
    with pytest.raises(InputError, match=r"^INPUT s3://no-such-bucket: .*404"):
        sources_of("s3://no-such-bucket")
    Store(bucket).put("a.mp4", b"x")
    loaded = load(None, ["transcribe.subtitles=prefer"], Config)
    with pytest.raises(ConfigError, match="subtitles"):
        curate(bucket, tmp_path / "out", loaded, memo=None)


def test_an_object_that_is_written_during_the_run_is_rejected(bucket: str) -> None:
    Store(bucket).put("a.mp4", b"one")
    (source,) = sources_of(bucket)
    files, video = VideoFiles(), source.video()
    files.check_unchanged(video)
    Store(bucket).put("a.mp4", b"two")
    for deed in (files.check_unchanged, files.content_id):
        with pytest.raises(BadInputError) as caught:
            deed(video)
        assert (caught.value.reason, caught.value.detail) == (Reason.CHANGED, CHANGED)
    Store(bucket).delete(["a.mp4"])
    with pytest.raises(BadInputError, match="removed"):
        files.check_unchanged(video)


def test_an_output_in_a_bucket_has_one_run_at_a_time(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "BEAT_S", 0.05)
    with BucketOutput(bucket), pytest.raises(UsageError, match="another run is at work in it"):
        BucketOutput(bucket).__enter__()
    assert Store(bucket).head(LEASE) is None


def test_a_bucket_with_other_things_is_refused(bucket: str) -> None:
    Store(bucket).put("holiday.jpg", b"x")
    with pytest.raises(UsageError, match="not empty, and not written by videoauteur"):
        BucketOutput(bucket).__enter__()


def test_a_run_that_lost_its_lease_does_not_publish_over_another(
    given: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(bucket, given, "in")
    real = BucketOutput.publish

    def late(self: BucketOutput) -> None:
        Store(f"{bucket}/out").put(MANIFEST, b"of another run")
        real(self)

    monkeypatch.setattr(BucketOutput, "publish", late)
    with pytest.raises(StoreError, match="another run published"):
        run(f"{bucket}/in", f"{bucket}/out")
    assert Store(f"{bucket}/out").get(MANIFEST) == b"of another run"
    assert threading.active_count() < 50
