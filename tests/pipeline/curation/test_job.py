"""The whole job on real stages: INPUT to OUTPUT, again, after an interruption, and on Ray."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

from examples.drawing import moving_blobs
from examples.media import Scene, Truth, write_video
from models.media import frames, open_media
from pipeline.cli.main import main
from pipeline.curation.job import OutputError, claimed
from pipeline.dataset.reading import open_dataset
from pipeline.dataset.schema import SCHEMA_VERSION, TABLES
from stages.frames import packed_frames, remove_frames
from stages.records import Interval
from stages.view import path_of
from tests.support.curating import UNUSED, local, outcomes, run_file, table, tables

ROOT = Path(__file__).parents[3]
SILENT = (
    "transcribe.require_speech=false", "match.required=false", "narrate.min_steps=1",
)  # fmt: skip
INTERRUPTED = """
import signal, sys
from pipeline.cli.main import main
from stages.caption.stage import WriteCaptions
real, seen = WriteCaptions.measure, []
def measure(self, video):
    seen.append(video)
    if len(seen) == 2:
        print("in the middle", flush=True)
        signal.pause()
    return real(self, video)
WriteCaptions.measure = measure
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def given(
    tmp_path_factory: pytest.TempPathFactory, narrated: tuple[Path, Truth], wordless: tuple[Path, Truth]
) -> Path:
    """A narrated film and its copy, a silent one, and two files that are no films."""
    folder = tmp_path_factory.mktemp("given")
    shutil.copy(narrated[0], folder / "Bread Soup.mp4")
    (folder / "later").mkdir()
    shutil.copy(narrated[0], folder / "later" / "copy of soup.mov")
    shutil.copy(wordless[0], folder / "wordless.mp4")
    (folder / "zero.mp4").touch()
    (folder / "text.mp4").write_text("not a film\n" * 50)
    return folder


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory, given: Path) -> Path:
    """OUTPUT of that folder with the default configuration and the sequential runner."""
    output = tmp_path_factory.mktemp("job") / "curated"
    assert not local(given, output).over_budget
    return output


@pytest.fixture
def mine(tmp_path: Path, curated: Path) -> Path:
    """A copy of it to work on."""
    return Path(shutil.copytree(curated, tmp_path / "curated"))


def test_every_file_has_the_outcome_that_it_deserves(curated: Path, given: Path) -> None:
    status = {unquote(row["uri"]): row["status"] for row in table(curated, "videos")}
    assert status == {
        "Bread Soup.mp4": "kept",
        "later/copy of soup.mov": "duplicate",
        "text.mp4": "rejected",
        "wordless.mp4": "rejected",
        "zero.mp4": "rejected",
    }
    rejects = {row["uri"]: (row["kind"], row["stage"], row["reason"]) for row in table(curated, "rejects")}
    assert rejects == {
        "text.mp4": ("file", "probe", "not_a_video"),
        "wordless.mp4": ("file", "probe", "no_audio"),
        "zero.mp4": ("file", "probe", "empty_file"),
    }
    (copy,) = [row for row in table(curated, "videos") if row["status"] == "duplicate"]
    assert unquote(copy["duplicate_of"]) == "Bread Soup.mp4"
    assert Path(path_of(open_dataset(curated).uri(copy["uri"]))) == given / "later" / "copy of soup.mov"


def test_packed_frames_of_finished_videos_go_and_those_of_others_stay(
    curated: Path, tmp_path: Path
) -> None:
    assert list((curated / "_work").rglob("*.zip")) == []
    for video_id in ("aa00", "bb00"):
        path = packed_frames(tmp_path, video_id)
        path.parent.mkdir(parents=True)
        path.touch()
    remove_frames(tmp_path, kept={"bb00"})
    assert list(tmp_path.rglob("*.zip")) == [packed_frames(tmp_path, "bb00")]


def test_clips_are_exported_as_files_once(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert main(["export", "media", str(mine), "--height", "120"]) == 0
    assert [line.partition(": ")[2] for line in capsys.readouterr().out.splitlines()] == [
        "3 encoded", "3 there"
    ]  # fmt: skip
    # Clips of two sizes in one folder would be mixed without a word.
    assert main(["export", "media", str(mine)]) != 0
    assert "another size or frame rate" in capsys.readouterr().err
    for row in table(mine, "clips"):
        with open_media(mine / "media" / f"{row['clip_id']}.mp4") as container:
            last = [frame.time_s + frame.duration_s for frame in frames(container)][-1]
        assert last == pytest.approx(row["end_s"] - row["start_s"], abs=0.1)


def test_what_was_said_and_shown_is_found(curated: Path, narrated: tuple[Path, Truth]) -> None:
    truth = narrated[1]
    clips, actions = table(curated, "clips"), table(curated, "actions")
    assert [(row["start_s"], row["end_s"]) for row in clips] == [
        (pytest.approx(start, abs=0.1), pytest.approx(start + 6.0, abs=0.1)) for start in (0.0, 6.0, 12.0)
    ]
    assert all(row["caption"] and row["caption_model"] for row in clips)
    for row, spoken, word in zip(actions, truth.spoken, ("onion", "soup", "bread"), strict=True):
        found = Interval(start_s=row["start_s"], end_s=row["end_s"])
        assert found.iou(Interval(start_s=spoken.start_s, end_s=spoken.end_s)) > 0.3
        assert word in row["text"].lower()
        assert row["matched"]
    pairs = [(row["clip_id"], row["action_id"]) for row in table(curated, "matches")]
    assert pairs == [(c["clip_id"], a["action_id"]) for c, a in zip(clips, actions, strict=True)]
    (narrative,) = table(curated, "narratives")
    assert narrative["title"] == "How to make bread soup?"
    assert [(step["step_index"], step["clip_id"], step["action_id"]) for step in narrative["steps"]] == [
        (at, *pair) for at, pair in enumerate(pairs)
    ]
    assert [step["action"] for step in narrative["steps"]] == [row["text"] for row in actions]
    assert [step["caption"] for step in narrative["steps"]] == [row["caption"] for row in clips]


def test_the_summary_adds_up_to_the_tables(curated: Path, given: Path) -> None:
    told = run_file(curated)
    assert (told["status"], told["input"]) == ("done", str(given))
    assert told["schema_version"] == SCHEMA_VERSION
    assert told["config"]["clip"]["min_s"] == 5.0
    assert told["config_origins"] == {"run.runner": "--set"}
    assert told["rows"] == {name: len(table(curated, name)) for name in TABLES}
    videos, rejects = table(curated, "videos"), table(curated, "rejects")
    assert told["videos"] == Counter(row["status"] for row in videos)
    assert told["rejects"] == {"file": Counter(row["reason"] for row in rejects)}
    assert told["actions_by_source"] == Counter(row["source"] for row in table(curated, "actions"))
    length = sum(row["end_s"] - row["start_s"] for row in table(curated, "clips"))
    assert told["duration_s"]["kept_in_clips"] == pytest.approx(length, abs=0.001)
    kept = [row["duration_s"] for row in videos if row["status"] == "kept"]
    assert told["duration_s"]["in"] == sum(kept) == 18
    assert outcomes(curated) == {
        "probe": {"measured": 1, "rejected": 3},
        **{name: {"measured": 1} for name in list(told["stages"])[1:]},
    }


def test_the_card_has_a_configuration_for_each_table(curated: Path) -> None:
    card = (curated / "README.md").read_text()
    head = yaml.safe_load(card.split("---\n")[1])
    assert {config["config_name"]: config["data_files"] for config in head["configs"]} == {
        name: f"{name}/*.parquet" for name in TABLES
    }
    assert [config["config_name"] for config in head["configs"] if config.get("default")] == ["narratives"]
    for name, schema in TABLES.items():
        assert f"## {name} ({len(table(curated, name))} rows)" in card
        assert all(f"| {column} |" in card for column in schema.names)
    assert (curated / "report.html").is_file()


def test_with_nothing_to_do_nothing_is_written(
    mine: Path, given: Path, curated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert local(given, mine).unchanged, "a copy of OUTPUT is as good as the first one"

    def times() -> dict[Path, int]:
        files = (path for path in mine.rglob("*") if path.is_file() and path.name != "lock")
        return {path: path.stat().st_mtime_ns for path in files}

    before = times()
    assert main(["curate", str(given), str(mine), "--runner", "local"]) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert times() == before


@pytest.mark.parametrize("change", ["settings", "a file", "a table"])
def test_what_changed_is_made_again(tmp_path: Path, given: Path, curated: Path, change: str) -> None:
    mine, files = tmp_path / "out", tmp_path / "in"
    shutil.copytree(given, files)
    local(files, mine, memo=curated / "_memo")
    assert local(files, mine, memo=curated / "_memo").unchanged
    settings = ["narrate.min_steps=4"] if change == "settings" else []
    if change == "a file":
        (files / "text.mp4").touch()
    if change == "a table":
        next((mine / "clips").iterdir()).unlink()
    assert not local(files, mine, *settings, memo=curated / "_memo").unchanged
    if change == "a table":
        assert tables(mine) == tables(curated)


@pytest.mark.parametrize("deleted", [(), ("_work",), ("_work", *TABLES, "README.md", "report.html")])
def test_a_second_run_remembers_all_and_writes_the_same_bytes(
    mine: Path, given: Path, curated: Path, deleted: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    for name in deleted:
        path = mine / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    # Without it the version could not be told to be the one that the command would make.
    for path in mine.rglob("run.json"):
        path.unlink()
    assert main(["curate", str(given), str(mine), "--runner", "local"]) == 0
    assert tables(mine) == tables(curated)
    assert outcomes(mine) == {
        "probe": {"rejected": 3, "remembered": 1},
        **{name: {"remembered": 1} for name in list(run_file(mine)["stages"])[1:]},
    }
    out = capsys.readouterr().out
    assert "videos      4 in: 2 rejected, 1 duplicate, 1 kept, 1 files that are no videos" in out
    assert "dropped files: 1 empty_file, 1 no_audio, 1 not_a_video" in out


def test_a_changed_threshold_costs_no_measuring(mine: Path, given: Path, curated: Path) -> None:
    local(given, mine, "narrate.min_steps=4")
    told = outcomes(mine)
    assert told.pop("probe") == {"rejected": 3, "remembered": 1}
    assert told.pop("narrate") == {"rejected": 1}
    assert all(told[name] == {"remembered": 1} for name in told)
    assert all(table(mine, name) == [] for name in ("clips", "actions", "matches", "narratives"))
    rejects = table(mine, "rejects")
    film = [row for row in rejects if row["uri"] == "Bread%20Soup.mp4"]
    assert [(row["kind"], row["reason"]) for row in film if row["kind"] == "file"] == [
        ("file", "too_few_steps")
    ]
    ids = {row["clip_id"] for row in film} | {row["action_id"] for row in film}
    kept = {row["clip_id"] for row in table(curated, "clips")}
    kept |= {row["action_id"] for row in table(curated, "actions")}
    assert ids - {None} == kept
    assert [row["reason"] for row in film].count("video_rejected") == len(kept)


def test_an_endpoint_that_is_down_fails_the_video_and_the_next_run_goes_on(
    mine: Path, given: Path, curated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    down = [*UNUSED, "language.max_retries=0", "run.transient_retries=0"]
    settings = [argument for setting in down for argument in ("--set", setting)]
    assert main(["curate", str(given), str(mine), "--runner", "local", *settings]) == 3
    assert "run.error_budget" in capsys.readouterr().err
    (failed,) = [row for row in table(mine, "videos") if row["status"] == "failed"]
    (reject,) = [row for row in table(mine, "rejects") if row["reason"] == "retries_exhausted"]
    assert (reject["uri"], reject["stage"]) == (failed["uri"], "refine")
    assert "http://127.0.0.1:9/v1" in reject["detail"]
    local(given, mine)
    assert tables(mine) == tables(curated)


@pytest.fixture(scope="module")
def silent(tmp_path_factory: pytest.TempPathFactory, wordless: tuple[Path, Truth]) -> Path:
    """Two films without sound."""
    folder = tmp_path_factory.mktemp("silent")
    shutil.copy(wordless[0], folder / "a.mp4")
    scene = Scene(duration_s=6.0, picture=moving_blobs(9, (120, 120, 220)))
    write_video(folder / "b.mp4", [scene], width_px=320, height_px=240, fps=15, audio=False)
    return folder


@pytest.fixture(scope="module")
def silently(tmp_path_factory: pytest.TempPathFactory, silent: Path) -> Path:
    """OUTPUT of them, with neither speech nor matches demanded."""
    output = tmp_path_factory.mktemp("job") / "silently"
    local(silent, output, *SILENT)
    return output


def test_without_speech_there_are_clips_and_narratives_with_empty_actions(
    silently: Path, silent: Path
) -> None:
    assert [row["status"] for row in table(silently, "videos")] == ["kept", "kept"]
    assert [table(silently, name) for name in ("actions", "matches", "rejects")] == [[], [], []]
    names = {row["video_id"]: row["uri"] for row in table(silently, "videos")}
    clips = Counter(names[row["video_id"]] for row in table(silently, "clips"))
    assert clips == {"a.mp4": 2, "b.mp4": 1}
    assert all(row["caption"] for row in table(silently, "clips"))
    for row in table(silently, "narratives"):
        assert len(row["steps"]) == clips[names[row["video_id"]]]
        assert all((step["action_id"], step["action"]) == (None, "") for step in row["steps"])


@pytest.mark.slow
def test_an_interrupted_run_says_so_and_the_same_command_finishes_it(
    tmp_path: Path, silent: Path, silently: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    command = ["curate", str(silent), str(output), "--runner", "local"]
    command += [argument for setting in SILENT for argument in ("--set", setting)]
    run = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, *command],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert run.stdout is not None
    assert run.stdout.readline() == "in the middle\n"
    assert run_file(output)["status"] == "running"
    with pytest.raises(OutputError, match="another run is at work in it"), claimed(output):
        pass
    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=60)
    assert run.returncode == 1
    assert err.endswith(
        "videoauteur: interrupted. Finished work is kept; run the same command again to continue.\n"
    )
    assert "Traceback" not in err
    told = run_file(output)
    assert (told["status"], told["videos_done"], told["videos_planned"]) == ("interrupted", 1, 2)

    assert main(command) == 0
    assert "videos      2 in: 2 kept" in capsys.readouterr().out
    assert tables(output) == tables(silently)
    assert outcomes(output)["scan"] == {"remembered": 2}
    assert outcomes(output)["caption"] == {"measured": 1, "remembered": 1}


@pytest.fixture
def _own_cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    yield
    import ray

    assert not ray.is_initialized()


@pytest.mark.slow
@pytest.mark.usefixtures("_own_cluster")
def test_ray_writes_the_same_bytes_from_a_memo_of_its_own(
    tmp_path: Path, given: Path, curated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, memo = tmp_path / "out", tmp_path / "memo"
    command = ["curate", str(given), str(output), "--runner", "ray", "--memo", str(memo)]
    assert main(command) == 0
    assert tables(output) == tables(curated)
    assert list(memo.glob("*.seg"))
    assert not (output / "_memo").exists()
    assert outcomes(output) == outcomes(curated)
    assert (
        "videos      4 in: 2 rejected, 1 duplicate, 1 kept, 1 files that are no videos"
        in capsys.readouterr().out
    )
