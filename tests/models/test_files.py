"""Files that appear whole, and digests."""

from pathlib import Path

import pytest

from models.files import json_digest, parquet_files, sha256_of, whole_file, whole_folder, write_whole


def test_file_takes_its_name_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "new" / "film.mp4"
    with whole_file(target) as part:
        part.write_bytes(b"pictures")
        assert part.suffix == ".mp4"
        assert not target.exists()
    assert target.read_bytes() == b"pictures"
    assert list(target.parent.iterdir()) == [target]


def test_error_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    target = tmp_path / "plan.json"
    write_whole(target, "before")
    with pytest.raises(RuntimeError), whole_file(target, durable=True) as part:
        part.write_text("half")
        raise RuntimeError
    assert target.read_text() == "before"
    assert list(tmp_path.iterdir()) == [target]


def test_folder_replaces_the_one_before(tmp_path: Path) -> None:
    target = tmp_path / "model"
    for content in ("a", "b"):
        with whole_folder(target) as part:
            (part / content).write_text(content)
    assert [path.name for path in target.iterdir()] == ["b"]


def test_error_leaves_the_folder_as_it_was(tmp_path: Path) -> None:
    target = tmp_path / "model"
    target.mkdir()
    (target / "weights").write_text("before")
    with pytest.raises(OSError, match="full"), whole_folder(target) as part:
        (part / "weights").write_text("half")
        raise OSError("full")
    assert (target / "weights").read_text() == "before"
    assert list(tmp_path.iterdir()) == [target]


def test_parquet_files_are_sorted_and_whole(tmp_path: Path) -> None:
    for name in ("b.parquet", "a.parquet", ".c.part.parquet", "d.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in parquet_files(tmp_path)] == ["a.parquet", "b.parquet"]


def test_digests(tmp_path: Path) -> None:
    write_whole(tmp_path / "abc", "abc")
    # FIPS 180-2, B.1.
    assert sha256_of(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert (
        json_digest({"a": 1, "b": [2]}) == json_digest({"b": [2], "a": 1}) != json_digest({"a": 1, "b": 2})
    )
