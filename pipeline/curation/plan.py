"""Estimate of a run's requests to models, before anything is paid for.

The stages that ask are run dry: on records as far as the memo has them and as they are typical beyond
that, with a client that counts the questions in place of asking them. So a plan follows every setting,
and a new stage is in it without a line here.
"""

from __future__ import annotations

import io
import json
import math
import random
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from models.budget import Amounts
from models.errors import MediaError
from models.language import Answer, AnswerStore, Endpoint, LanguageClient, Problem, Question
from pipeline.curation.bucket_memo import open_memo
from pipeline.curation.chain import build_stages, endpoints
from pipeline.curation.config import Config
from pipeline.curation.ingest import identify, sources_of
from pipeline.curation.results import recalled
from pipeline.curation.servers import needed
from pipeline.curation.typical import HIGH, LIKELY, Guess, typical
from pipeline.platform.cache import local_file
from pipeline.platform.progress import Bar
from pipeline.platform.storage import is_url
from stages.base import BadInputError, Stage, Workspace
from stages.frames import frame_name
from stages.reasons import Reason
from stages.records import Video

SAMPLE, BUCKET_SAMPLE = 200, 20
"""Videos that are looked at; the others are taken to be like them. Those of a bucket are copied for it."""
CHARACTERS_A_TOKEN = 4
PATCH_PX = 28
"""A vision model reads about one token for a patch of this side: 256 for 448 x 448 pixels, as
Qwen2-VL does; GPT-4o charges 255 for such a picture, GPT-4o mini 33 times as many."""
MESSAGE_TOKENS = 8
WRITTEN_SHARE = 0.3
"""Of the longest answer that is allowed, what is written as a rule."""
ASKED_AGAIN = 2
"""Times that a question is asked at most where the first answer cannot be used."""
PLANNED = "http://planned.invalid/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked(Amounts):
    """Requests of one stage to one model."""

    requests: float = 0.0
    input_tokens: float = 0.0
    output_tokens: float = 0.0
    usd: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line of the plan: what one stage will ask of one model."""

    stage: str
    model: str
    likely: Asked
    high: Asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Requests that a run will make.

    Attributes:
        files: found in INPUT.
        looked_at: of these; figures are scaled from them to all.
        usable: of those looked at, videos that ``probe`` lets pass and the memo does not know as rejected.
        hours: of usable video in all files.
        remembered: of those looked at, some of whose results are in the memo.
    """

    files: int
    looked_at: int
    usable: int
    hours: float
    remembered: int
    rows: list[Row]


def plan(given: str, config: Config, *, memo: Path | str | None) -> Plan:
    """Count what a run over INPUT would ask.

    Args:
        memo: of an earlier run, whose results cost nothing; None or a missing folder is none.

    Raises:
        pipeline.curation.ingest.InputError: INPUT is missing or empty.
        pipeline.curation.config.ConfigError: the configured servers cannot be.
    """
    files = sources_of(given)
    most = BUCKET_SAMPLE if is_url(given) else SAMPLE
    sample = sorted(random.Random(0).sample(files, min(most, len(files))), key=lambda source: source.uri)
    there = memo is not None and (is_url(memo) or Path(memo).is_dir())
    store = open_memo(memo) if memo is not None and there else None
    # Without a memo nothing is known of any content, and hashing would read every byte.
    sources = identify(sample, store) if store else sample
    chain = build_stages(config)
    usable, remembered, seconds = 0, 0, 0.0
    with tempfile.TemporaryDirectory() as folder, Bar("plan", len(sources), unit="videos") as bar:
        dry = _DryRun(chain, config, Path(folder))
        for source in sources:
            video, known = recalled(chain, source.video(), store) if store else (source.video(), [])
            remembered += bool(known)
            video = video if known or video.rejected else _probed(chain[0], video)
            if not video.rejected and video.facts is not None:
                usable += 1
                seconds += video.facts.duration_s
                dry.count(video, known)
            bar.advance()
        dry.close()
    scale = len(files) / len(sources)
    return Plan(
        files=len(files),
        looked_at=len(sources),
        usable=usable,
        hours=scale * seconds / 3600,
        remembered=remembered,
        rows=[
            Row(stage=stage, model=model, likely=dry.likely[stage, model] * scale, high=high * scale)
            for (stage, model), high in dry.high.items()
            if high.requests
        ],
    )


def as_text(plan: Plan) -> str:
    """The plan for a terminal."""
    lines = [
        f"files       {plan.files}; looked at {plan.looked_at}, of which {plan.usable} are usable; "
        f"about {plan.hours:.2f} hours of video",
        f"remembered  {plan.remembered} of those looked at: what the memo holds costs nothing",
        "",
        f"{'stage':<11}{'model':<32}{'requests':>19}{'tokens in':>23}{'tokens out':>21}{'US dollars':>17}",
    ]
    total = (Asked(), Asked())
    for row in plan.rows:
        lines.append(f"{row.stage:<11}{row.model[:30]:<32}{_ranges(row.likely, row.high)}")
        total = (total[0] + row.likely, total[1] + row.high)
    lines += [
        f"{'all':<43}{_ranges(*total)}",
        "",
        "Each figure: likely - high. Likely assumes videos as in CookGen; high assumes the shortest clips,",
        "speech without pauses, every question asked twice. Pictures count as in Qwen2-VL and GPT-4o.",
    ]
    return "\n".join(lines)


def _ranges(likely: Asked, high: Asked) -> str:
    return (
        f"{f'{likely.requests:,.0f} - {high.requests:,.0f}':>19}"
        f"{f'{likely.input_tokens:,.0f} - {high.input_tokens:,.0f}':>23}"
        f"{f'{likely.output_tokens:,.0f} - {high.output_tokens:,.0f}':>21}"
        f"{f'{likely.usd:,.2f} - {high.usd:,.2f}':>17}"
    )


def _probed(probe: Stage, video: Video) -> Video:
    try:
        with local_file(video.uri) as path:
            probed = probe(replace(video, uri=path.as_uri()))
    except BadInputError as error:
        return video.reject(probe.name, error.reason, error.detail)
    except MediaError as error:
        return video.reject(probe.name, Reason(error.problem), error.detail)
    return replace(probed, uri=video.uri)


class _Nothing:
    """A store of answers that holds none."""

    def get(self, key: str) -> str | None:
        return None

    def put(self, key: str, value: str) -> None:
        raise AssertionError("a plan asks nothing")


class _Counter(LanguageClient):
    """Takes down what it is asked, and answers nothing."""

    def __init__(self, endpoint: Endpoint, answers: AnswerStore, stage: str) -> None:
        super().__init__(endpoint, answers, stage=stage)
        self.stage = stage
        self.asked: list[Question] = []

    def ask(self, questions: Sequence[Question]) -> list[Answer]:
        self.asked += questions
        return [Answer(content=None, problem=Problem.EMPTY) for _ in questions]

    def counted(self, times: int, written: float) -> Asked:
        """Return the requests since the last call."""
        asked = Asked()
        for question in self.asked:
            read, wrote = tokens_of(question), written * question.max_tokens
            usd = self.endpoint.usd(round(read), round(wrote))
            asked += Asked(requests=1, input_tokens=read, output_tokens=wrote, usd=usd) * times
        self.asked.clear()
        return asked


@dataclass(frozen=True, slots=True, kw_only=True)
class _DryWorkspace(Workspace):
    """Gives clients that count."""

    counters: list[_Counter] = field(default_factory=list)

    def client(self, stage: str, *, sees: bool = False) -> LanguageClient:
        """See :meth:`Workspace.client`."""
        endpoint = self.vision if sees else self.language
        assert endpoint is not None
        self.counters.append(_Counter(endpoint, self.answers, stage))
        return self.counters[-1]


class _DryRun:
    """The stages that ask, opened once."""

    def __init__(self, chain: Sequence[Stage], config: Config, scratch: Path) -> None:
        base_urls = {each: [PLANNED] for group in needed(config) for each in group.serves}
        language, vision = endpoints(config, base_urls)
        self._workspace = _DryWorkspace(
            scratch=scratch, answers=_Nothing(), language=language, vision=vision
        )
        self._stages = [stage for stage in chain if stage.pool == "language"]
        self._config = config.scan
        self._opened: set[str] = set()
        self.likely: dict[tuple[str, str], Asked] = defaultdict(Asked)
        self.high: dict[tuple[str, str], Asked] = defaultdict(Asked)

    def count(self, video: Video, known: Sequence[Stage]) -> None:
        """Add what the stages ask for one video, those aside whose results are known."""
        self._run(video, known, LIKELY)
        self._take(self.likely, 1, WRITTEN_SHARE)
        self._run(video, known, HIGH)
        self._take(self.high, ASKED_AGAIN, 1.0)

    def close(self) -> None:
        """Close the stages."""
        for stage in self._stages:
            if stage.name in self._opened:
                stage.close()

    def _run(self, video: Video, known: Sequence[Stage], guess: Guess) -> None:
        found = {name for stage in known for name in stage.writes}
        video = typical(video, found, guess, grid_fps=self._config.grid_fps)
        for stage in self._stages:
            if stage in known:
                continue
            if stage.name not in self._opened:
                stage.open(self._workspace)
                self._opened.add(stage.name)
            frames = self._workspace.frames_path(video)
            if stage.needs_frames:
                _pack_blank_frames(frames, video, self._config.short_side_px)
            stage.measure(video)
            frames.unlink(missing_ok=True)

    def _take(self, into: dict[tuple[str, str], Asked], times: int, written: float) -> None:
        for counter in self._workspace.counters:
            key = (counter.stage, counter.endpoint.model)
            into[key] += counter.counted(times, written)


def tokens_of(question: Question) -> float:
    """About how many tokens a question is, pictures included."""
    characters = len(question.instructions) + len(question.material) + len(json.dumps(question.schema))
    characters += sum(len(material) + len(json.dumps(answer)) for material, answer in question.examples)
    sizes = [Image.open(io.BytesIO(jpeg)).size for jpeg in question.images]
    patches = sum(math.ceil(width / PATCH_PX) * math.ceil(height / PATCH_PX) for width, height in sizes)
    messages = 2 + 2 * len(question.examples)
    return characters / CHARACTERS_A_TOKEN + patches + MESSAGE_TOKENS * messages


def _pack_blank_frames(path: Path, video: Video, short_side_px: int) -> None:
    """Grey frames at the video's size, for questions about pictures."""
    assert video.evidence is not None and video.facts is not None
    width, height = video.facts.width_px, video.facts.height_px
    scale = min(1.0, short_side_px / min(width, height))
    _, jpeg = cv2.imencode(".jpg", np.full((round(height * scale), round(width * scale), 3), 128, np.uint8))
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as file:
        for time_s in video.evidence.frame_times_s:
            file.writestr(frame_name(time_s), jpeg.tobytes())
