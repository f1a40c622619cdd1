"""Every file is listed once, named by its content, and lost never."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from models.files import sha256_of
from pipeline.curation import ingest
from pipeline.curation.ingest import (
    InputError,
    Source,
    identify,
    list_files,
    sources_of,
    survey,
    unique,
)
from pipeline.platform.memo import Memo
from stages.reasons import Kind, Reason
from stages.records import Drop
from stages.view import path_of

NOWHERE = Path("/nowhere")


@pytest.fixture
def memo(tmp_path: Path) -> Memo:
    return Memo(tmp_path / "memo")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "in"
    path.mkdir()
    return path


def fill(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode(errors="surrogateescape"))


def listed(given: Path, leave_out: Path = NOWHERE) -> list[str]:
    base = given if given.is_dir() else given.parent
    return [str(file.relative_to(base)) for file in list_files(str(given), leave_out=leave_out)]


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_folder_stands_for_all_files_in_it_sorted_by_name(folder: Path) -> None:
    fill(folder, "b.mp4", "a/z.mp4", "a/b/c.mkv", "a b.mp4", ".hidden", "notes.txt", "é.mp4", "Z")
    assert listed(folder) == [
        ".hidden", "Z", "a b.mp4", "a/b/c.mkv", "a/z.mp4", "b.mp4", "notes.txt", "é.mp4",
    ]  # fmt: skip


def test_the_output_inside_the_input_is_left_out(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(folder, "a.mp4", "sub/out/clips/part-all.parquet", "sub/outer.mp4", "out/b.mp4")
    expected = ["a.mp4", "out/b.mp4", "sub/outer.mp4"]
    assert listed(folder, folder / "sub" / "out") == expected
    (tmp_path / "link").symlink_to(folder / "sub" / "out")
    assert listed(folder, tmp_path / "link") == expected
    monkeypatch.chdir(folder)
    assert listed(folder, Path("sub/out")) == expected


def test_a_list_file_names_paths_relative_to_itself(folder: Path, memo: Memo) -> None:
    fill(folder, "b.mp4", "sub/a.mp4")
    given = folder / "videos.txt"
    given.write_bytes(
        b"# what to take\n\nsub/a.mp4\n  b.mp4  \r\nmissing \xff.mp4\n" + os.fsencode(folder / "b.mp4")
    )
    sources = identify(survey(list_files(str(given), leave_out=NOWHERE)), memo)
    assert [(path_of(source.uri).relative_to(folder), source.problem) for source in sources] == [
        (Path("sub/a.mp4"), None),
        (Path("b.mp4"), None),
        (Path(os.fsdecode(b"missing \xff.mp4")), "No such file or directory"),
    ]


def test_a_list_may_hold_the_uris_that_tables_hold(folder: Path) -> None:
    fill(folder, "50% off é.mp4")
    uri = (folder / "50% off é.mp4").as_uri()
    given = folder / "videos.txt"
    given.write_text(uri)
    assert [source.uri for source in survey(list_files(str(given), leave_out=NOWHERE))] == [uri]


def test_any_other_file_stands_for_itself(folder: Path) -> None:
    fill(folder, "a.mp4", "b.mp4")
    assert listed(folder / "b.mp4") == ["b.mp4"]


def test_an_input_may_be_written_as_a_uri(folder: Path) -> None:
    fill(folder, "50% off é.mp4")
    path = folder / "50% off é.mp4"
    assert list_files(path.as_uri(), leave_out=NOWHERE) == [path]


@pytest.mark.parametrize(
    ("make", "fact"),
    [
        (lambda path: None, "no such file or folder"),
        (lambda path: path.mkdir(), "nothing in it to curate"),
        (lambda path: (path / "deep" / "down").mkdir(parents=True), "nothing in it to curate"),
        (lambda path: path.symlink_to("missing"), "no such file or folder"),
    ],
)
def test_an_input_with_nothing_in_it_is_an_error(
    tmp_path: Path, make: Callable[[Path], None], fact: str
) -> None:
    given = tmp_path / "given"
    make(given)
    with pytest.raises(InputError) as caught:
        list_files(str(given), leave_out=NOWHERE)
    assert str(caught.value).startswith(f"INPUT {given}: ")
    assert fact in str(caught.value)


def test_a_list_of_comments_is_an_error(tmp_path: Path) -> None:
    given = tmp_path / "videos.list"
    given.write_text("# nothing\n\n")
    with pytest.raises(InputError, match="nothing in it"):
        list_files(str(given), leave_out=NOWHERE)


def test_a_url_that_is_no_store_is_reported_with_its_list(tmp_path: Path) -> None:
    given = tmp_path / "videos.list"
    given.write_text("film.mp4\nhttps://example.com/film.mp4\n")
    with pytest.raises(InputError, match=r"^INPUT .*videos.list: https://example.com: not a store"):
        sources_of(str(given))


def test_what_cannot_be_read_is_rejected_with_its_reason_and_nothing_hangs(
    folder: Path, memo: Memo
) -> None:
    fill(folder, "good.mp4")
    (folder / "dangling.mp4").symlink_to("gone.mp4")
    (folder / "itself.mp4").symlink_to("itself.mp4")
    (folder / "loop").symlink_to(".")
    os.mkfifo(folder / "pipe.mp4")
    sources = identify(survey(list_files(str(folder), leave_out=NOWHERE)), memo)
    problems = {path_of(source.uri).name: source.problem for source in sources}
    assert problems == {
        "dangling.mp4": "No such file or directory",
        "good.mp4": None,
        "itself.mp4": "Too many levels of symbolic links",
        "loop": "a link to a folder, which is not followed; name the folder itself as INPUT",
        "pipe.mp4": "not a regular file",
    }
    for source in sources:
        video = source.video()
        assert video.video_id == source.video_id
        if source.problem is None:
            assert video.drops == []
            assert video.content_id == sha(b"good.mp4")
        else:
            drop = Drop(kind=Kind.FILE, stage="ingest", reason=Reason.UNREADABLE, detail=source.problem)
            assert video.drops == [drop]
    assert len({source.video_id for source in sources}) == 5


def test_a_file_without_bytes_is_not_read(
    folder: Path, memo: Memo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the kernel block or never end: ``/proc/kmsg``."""
    (folder / "log.mp4").touch()
    monkeypatch.setattr(ingest, "sha256_of", pytest.fail)
    (source,) = identify(survey([folder / "log.mp4"]), memo)
    assert (source.problem, source.content_id) == (None, sha(b""))


def test_a_folder_that_cannot_be_read_is_rejected(
    folder: Path, memo: Memo, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(folder, "good.mp4", "locked/a.mp4")
    real = os.scandir

    def scandir(path: Path) -> object:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    problems = {
        path_of(one.uri).name: one.problem for one in identify(survey(list_files(str(folder))), memo)
    }
    assert problems == {"good.mp4": None, "locked": "a folder that cannot be read: Permission denied"}


def test_a_tree_of_any_depth_is_listed(folder: Path) -> None:
    here = os.open(folder, os.O_RDONLY)
    for _ in range(1100):
        os.mkdir("d", dir_fd=here)
        deeper = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(os.open("a.mp4", os.O_CREAT, dir_fd=here))
    os.close(here)
    (found,) = list_files(str(folder))
    assert found.name == "a.mp4" and len(found.relative_to(folder).parts) == 1101
    # pytest's own clean-up is recursive.
    subprocess.run(["rm", "-r", str(folder / "d")], check=True)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_a_list_may_be_of_windows(tmp_path: Path, encoding: str) -> None:
    given = tmp_path / "videos.txt"
    given.write_bytes("# mine\r\nCrème brûlée.mp4\r\nb.mp4\r\n".encode(encoding))
    if encoding == "utf-16-le":  # Without a byte order mark.
        with pytest.raises(InputError, match=r"holds zero bytes.*save it as UTF-8"):
            list_files(str(given))
        return
    assert [path.name for path in list_files(str(given))] == ["Crème brûlée.mp4", "b.mp4"]


@pytest.mark.parametrize(
    "name",
    [
        b"caf\xe9.mp4",
        b"x" * 246 + b".mp4",
        "ü".encode() * 125,
        b"50%25 #1? a&b;c=d.mp4",
        b"two\nlines\t.mp4",
        b" spaces .mp4 ",
        b"\xff\xfe\x01",
    ],
)
def test_any_name_comes_back_from_its_uri(folder: Path, memo: Memo, name: bytes) -> None:
    path = folder / os.fsdecode(name)
    path.write_bytes(b"content")
    (source,) = identify(survey(list_files(str(folder), leave_out=NOWHERE)), memo)
    assert source.uri.isascii()
    assert os.fsencode(path_of(source.uri).name) == name
    assert path_of(source.uri).read_bytes() == b"content"
    assert source.content_id == sha(b"content")
    assert source.video_id == sha(b"content")[:16]


def test_a_file_listed_twice_is_one_source(
    folder: Path, memo: Memo, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(folder, "a.mp4")
    monkeypatch.chdir(folder)
    sources = identify(survey([Path("a.mp4"), folder / "a.mp4", folder / "." / "a.mp4"]), memo)
    assert [source.uri for source in sources] == [(folder / "a.mp4").as_uri()]


def test_an_unchanged_file_is_not_read_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digested: list[str] = []

    def counted(path: Path) -> str:
        digested.append(path.name)
        return sha256_of(path)

    def run() -> list[Source]:
        digested.clear()
        memo = Memo(tmp_path / "memo")
        sources = identify(survey(list_files(str(folder), leave_out=NOWHERE)), memo)
        memo.close()
        return sources

    monkeypatch.setattr(ingest, "sha256_of", counted)
    fill(folder, "a", "b", "c", "d")
    first = run()
    assert sorted(digested) == ["a", "b", "c", "d"]
    assert run() == first
    assert digested == []
    (folder / "a").write_bytes(b"longer than before")
    (folder / "b").write_bytes(b"B")
    os.utime(folder / "b", ns=(1, 1))
    (folder / "c").rename(folder / "e")
    assert [source.content_id for source in run()] == [
        sha(data) for data in (b"longer than before", b"B", b"d", b"c")
    ]
    assert sorted(digested) == ["a", "b", "e"]


def test_of_copies_the_first_by_name_is_curated(folder: Path, memo: Memo) -> None:
    for name, data in {"c": b"same", "a": b"same", "b": b"other", "d/e": b"same", "f": b""}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    (folder / "gone1").symlink_to("nowhere")
    (folder / "gone2").symlink_to("nowhere")
    originals, copies = unique(identify(survey(list_files(str(folder), leave_out=NOWHERE)), memo))
    names = [path_of(source.uri).name for source in originals]
    assert names == ["a", "b", "f", "gone1", "gone2"], "what cannot be read is nobody's copy"
    uri = (folder / "a").as_uri()
    assert copies == {(folder / "c").as_uri(): uri, (folder / "d/e").as_uri(): uri}
