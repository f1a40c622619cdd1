"""``report.html``: what a run made of its input, for people to look at.

One file that needs no network and runs no script. Its size is bounded: figures are counted over all
videos, batch by batch, while pictures and time lines are drawn for a few.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from models.files import whole_file
from pipeline.dataset.reading import Dataset
from pipeline.report.insights import alternatives, bottleneck, costs
from pipeline.report.samples import Details, Pictures, Row, extremes, name_of, of_videos, samples_of, spread
from pipeline.report.scores import histograms
from stages.reasons import FAILURES

MAX_SAMPLES = 24
MAX_TIME_LINES = 50
MAX_DUPLICATES = 50
MAX_MARKS = 12_000
"""Clips, actions and pairs drawn in all time lines together."""
AXIS_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200)
AXIS_TICKS = 8
SCALE = 1000
"""Width of a time line in its own units."""
# Names and speech come from strangers; HTML has no place for control characters, escaped or not.
CONTROLS = dict.fromkeys([*range(32), *range(127, 160)], "\ufffd") | dict.fromkeys(b"\t\n\r", " ")


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectGroup:
    """Everything of one kind that one stage dropped for one reason.

    Attributes:
        example: the detail of the first of them.
        ours: the reason speaks of us, not of the input.
    """

    stage: str
    reason: str
    count: int
    example: str
    ours: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A clip or an action on a time line; ``x`` and ``width`` are in units of ``SCALE``.

    Attributes:
        look: ``solid`` (kept, matched), ``hollow`` (unmatched), or the reason why it was dropped.
        label: shown while the pointer is over it.
    """

    look: str
    x: float
    width: float
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Videos that are shown, and figures of all.

    Attributes:
        lined: the first originals, for time lines.
        sampled: originals with clips, evenly spaced.
        copies: the first copies.
        originals: number of videos that are no copies.
        kept_s: length of the kept videos in seconds.
    """

    lined: list[Row]
    sampled: list[Row]
    copies: list[Row]
    originals: int
    kept_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeLine:
    """A video against its time.

    Attributes:
        reject: why the whole file was dropped, or None.
        extent_s: time at the right edge.
        shots: where shots start, in units of ``SCALE``.
        pairs: middles of the clip and of the action of each match, in units of ``SCALE``.
        ticks_s: times of the axis.
        about: the same in words.
        drawn: False for a dropped file, and where there is no room left for so many marks.
    """

    name: str
    video: Row
    reject: Row | None
    extent_s: float
    shots: list[int]
    clips: list[Mark]
    actions: list[Mark]
    pairs: list[tuple[float, float]]
    ticks_s: list[float]
    about: str
    drawn: bool


def write_report(
    output: Path, summary: Mapping[str, Any], *, pictures: Pictures, run: Mapping[str, Any]
) -> Path:
    """Write ``report.html``, whole or not at all.

    Args:
        output: OUTPUT, with its tables.
        summary: figures of the run; see :func:`pipeline.report.summary.summarise`.
        pictures: for the thumbnails.
        run: program, machine and configuration, as in ``run.json``.

    Returns:
        the file.
    """
    tables = Dataset(folder=output, manifest=None)
    chosen = _chosen(tables)
    lined, sampled = chosen.lined, chosen.sampled
    details = _details(tables, [row["video_id"] for row in (*lined, *sampled)])
    lines = _time_lines(lined, details)
    marks = [mark for line in lines if line.drawn for mark in (*line.clips, *line.actions)]
    kept_s = _kept_s(tables)
    scores = histograms(tables, run["config"])
    context = {
        "summary": summary,
        "run": run,
        "config": yaml.safe_dump(run["config"], sort_keys=False, allow_unicode=True),
        "bottleneck": bottleneck(summary["stages"]),
        "costs": costs(summary, kept_s),
        "scores": [(each, alternatives(each)) for each in scores],
        "duration_s": chosen.kept_s,
        "kept_s": kept_s,
        "matched": sum(_total(batch["matched"]) for batch in tables.batches("actions", ["matched"])),
        "rejects": _reject_groups(tables),
        "samples": samples_of(sampled, details, pictures, most=MAX_SAMPLES),
        "extremes": extremes(tables, pictures),
        "lines": lines,
        "looks": sorted({mark.look for mark in marks} - {"solid", "hollow"}),
        "num_originals": chosen.originals,
        "duplicates": [
            (name_of(row["uri"], parts=2), name_of(row["duplicate_of"], parts=2)) for row in chosen.copies
        ],
    }
    with whole_file(output / "report.html") as part:
        _template().stream(context).dump(str(part), encoding="utf-8")
    return output / "report.html"


def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        # Every value is escaped; jinja's choice by file extension does not know ".j2".
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: value.translate(CONTROLS) if isinstance(value, str) else value,
    )
    environment.filters |= {"clock": clock, "share": share, "cut": cut, "number": "{:,}".format}
    environment.globals["SCALE"] = SCALE
    return environment.get_template("report.html.j2")


def clock(time_s: float, *, tenths: bool = True) -> str:
    """A time as ``m:ss.t`` or ``h:mm:ss.t``."""
    count = round(time_s * 10)
    minutes, seconds = divmod(count // 10, 60)
    text = f"{minutes // 60}:{minutes % 60:02d}" if minutes >= 60 else str(minutes)
    return f"{text}:{seconds:02d}" + (f".{count % 10}" if tenths else "")


def share(part: float, whole: float) -> float:
    """Percent, from 0 to 100; 0 of nothing is 0."""
    return round(100 * part / whole, 1) if whole else 0.0


def cut(text: str | None, length: int) -> str:
    """The text, at most ``length`` characters of it."""
    text = text or ""
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def _chosen(tables: Dataset) -> Chosen:
    """Choose the videos that are shown; of all videos only counts are held."""
    columns = ["uri", "video_id", "status", "duplicate_of", "duration_s", "num_clips", "title"]
    lined: list[Row] = []
    copies: list[Row] = []
    sampled: list[Row] = []
    originals = fruitful = seen = 0
    kept_s = 0.0
    for batch in tables.batches("videos", columns):
        is_copy = pc.equal(batch["status"], "duplicate")
        new = batch.filter(pc.invert(is_copy))
        lined += new.slice(0, MAX_TIME_LINES - len(lined)).to_pylist()
        copies += batch.filter(is_copy).slice(0, MAX_DUPLICATES - len(copies)).to_pylist()
        originals += len(new)
        fruitful += _total(pc.greater(new["num_clips"], 0))
        kept_s += _total(batch["duration_s"].filter(pc.equal(batch["status"], "kept")))
    places = spread(range(fruitful), MAX_SAMPLES)
    for batch in tables.batches("videos", columns):
        new = batch.filter(pc.not_equal(batch["status"], "duplicate"))
        with_clips = new.filter(pc.greater(new["num_clips"], 0))
        inside = [place - seen for place in places if seen <= place < seen + len(with_clips)]
        sampled += with_clips.take(pa.array(inside, pa.int64())).to_pylist()
        seen += len(with_clips)
    return Chosen(lined=lined, sampled=sampled, copies=copies, originals=originals, kept_s=kept_s)


def _total(values: pa.Array) -> Any:
    """Return the sum of a column, null counting as 0; of truth values, how many are true."""
    return pc.sum(values).as_py() or 0


def _kept_s(tables: Dataset) -> float:
    batches = tables.batches("clips", ["start_s", "end_s"])
    return float(sum(_total(pc.subtract(batch["end_s"], batch["start_s"])) for batch in batches))


def _reject_groups(tables: Dataset) -> dict[str, list[RejectGroup]]:
    """Return the drops by kind; the most frequent reason first."""
    keys = ["kind", "stage", "reason"]
    counts: Counter[tuple[str, str, str]] = Counter()
    examples: dict[tuple[str, str, str], str] = {}
    for batch in tables.batches("rejects", [*keys, "detail"]):
        # One thread, or the first detail would not be the first.
        groups = pa.Table.from_batches([batch]).group_by(keys, use_threads=False)
        for row in groups.aggregate([([], "count_all"), ("detail", "first")]).to_pylist():
            key = (row["kind"], row["stage"], row["reason"])
            counts[key] += row["count_all"]
            examples.setdefault(key, row["detail_first"])
    found: dict[str, list[RejectGroup]] = {"file": [], "clip": [], "action": []}
    for key, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        kind, stage, reason = key
        group = RejectGroup(
            stage=stage, reason=reason, count=count, example=examples[key], ours=reason in FAILURES
        )
        found[kind].append(group)
    return found


def _details(tables: Dataset, video_ids: list[str]) -> Details:
    """Rows of the chosen videos: by table, then by video."""
    wanted = {
        "videos": ["shot_starts_s"],
        "clips": ["clip_id", "start_s", "end_s", "caption", "caption_model",
                  "watermark_score", "sharpness", "exposure", "motion"],
        "actions": ["action_id", "start_s", "end_s", "text", "matched"],
        "matches": ["clip_id", "action_id"],
        "rejects": ["kind", "stage", "reason", "detail", "start_s", "end_s"],
    }  # fmt: skip
    details: Details = {name: defaultdict(list) for name in wanted}
    for name, columns in wanted.items():
        for row in of_videos(tables, name, columns, video_ids):
            details[name][row["video_id"]].append(row)
    return details


def _time_lines(videos: list[Row], details: Details) -> list[TimeLine]:
    """Time lines in order of the files' names, as many of them drawn as there is room for."""
    lines: list[TimeLine] = []
    room = MAX_MARKS
    for video in sorted(videos, key=lambda row: row["uri"]):
        found = {name: rows[video["video_id"]] for name, rows in details.items()}
        reject = next((row for row in found["rejects"] if row["kind"] == "file"), None)
        num_marks = sum(len(found[name]) for name in ("clips", "actions", "matches", "rejects"))
        drawn = reject is None and num_marks <= room
        room -= num_marks if drawn else 0
        lines.append(_time_line(video, found, reject, drawn))
    return lines


def _time_line(video: Row, found: dict[str, list[Row]], reject: Row | None, drawn: bool) -> TimeLine:
    clips, actions = found["clips"], found["actions"]
    placed = [row for row in found["rejects"] if row["start_s"] is not None]
    dropped = {kind: [row for row in placed if row["kind"] == kind] for kind in ("clip", "action")}
    # Speech may run past the last picture, and the length may be unknown.
    ends_s = [row["end_s"] for row in (*clips, *actions, *placed)]
    extent_s = max([video["duration_s"] or 0.0, *ends_s]) or 1.0
    steps_s = (step_s for step_s in AXIS_STEPS_S if extent_s / step_s <= AXIS_TICKS)
    step_s = next(steps_s, extent_s / AXIS_TICKS)
    shots_s = found["videos"][0]["shot_starts_s"] or []

    def x(time_s: float) -> float:
        return round(SCALE * min(max(time_s, 0.0), extent_s) / extent_s, 1)

    def middle(row: Row) -> float:
        return x((row["start_s"] + row["end_s"]) / 2)

    def mark(row: Row, look: str, text: str | None) -> Mark:
        left = x(row["start_s"])
        label = f"{clock(row['start_s'])} to {clock(row['end_s'])}: {text or ''}"
        width = max(2.0, round(x(row["end_s"]) - left, 1))
        return Mark(look=look, x=left, width=width, label=cut(label, 120))

    def lost(row: Row) -> Mark:
        text = f"dropped by {row['stage']}, {row['reason']}: {row['detail']}"
        return mark(row, row["reason"], text)

    kept = [mark(row, "solid", row["caption"]) for row in clips]
    spoken = [mark(row, "solid" if row["matched"] else "hollow", row["text"]) for row in actions]
    clip_at = {row["clip_id"]: middle(row) for row in clips}
    action_at = {row["action_id"]: middle(row) for row in actions}
    return TimeLine(
        name=name_of(video["uri"]),
        video=video,
        reject=reject,
        extent_s=extent_s,
        shots=sorted({round(x(start_s)) for start_s in shots_s}),
        # What was kept is drawn last, on top.
        clips=[*map(lost, dropped["clip"]), *kept],
        actions=[*map(lost, dropped["action"]), *spoken],
        pairs=[(clip_at[pair["clip_id"]], action_at[pair["action_id"]]) for pair in found["matches"]],
        ticks_s=[float(index * step_s) for index in range(int(extent_s / step_s) + 1)],
        about=f"{len(shots_s)} shots; {len(clips)} clips kept, {len(dropped['clip'])} dropped; "
        f"{sum(row['matched'] for row in actions)} of {len(actions)} actions matched, "
        f"{len(dropped['action'])} dropped",
        drawn=drawn,
    )
