"""The configuration of a curation run, as one tree. Defaults run on a laptop with no key and no GPU.

Each stage and each model owns its section; this module puts them together and checks what one section
demands of another.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from models.budget import Budget
from models.endpoint import Address, EndpointSettings
from models.serving import ServerSettings
from models.settings import Count, NonNegative, Positive, Section, Share, WholeNumber
from pipeline.platform.cache import CACHE_BYTES
from stages.caption import CaptionSettings
from stages.clip import ClipSettings
from stages.duplicates import DuplicateSettings
from stages.match import MatchSettings
from stages.narrate import NarrateSettings
from stages.probe import ProbeSettings
from stages.refine import RefineSettings
from stages.relevance import RelevanceSettings
from stages.scan import ScanSettings
from stages.transcribe import TranscribeSettings
from stages.watermark import WatermarkSettings


class PoolOptions(Section):
    """Workers of one kind. Null: sized from the cluster. ``requirements``: a pip file of its own."""

    workers: Count | None = None
    num_cpus: NonNegative | None = None
    num_gpus: NonNegative = 0.0
    requirements: str | None = None


class Pools(Section):
    """The kinds of workers. Kinds with the same options share workers, unless one waits for models."""

    media: PoolOptions = PoolOptions()
    speech: PoolOptions = PoolOptions()
    language: PoolOptions = PoolOptions()


class Run(Section):
    """The engine.

    Attributes:
        error_budget: share of videos that may fail by our fault before exit code 3.
        cache_bytes: disk of each node for copies of videos in buckets, in the folder VIDEOAUTEUR_CACHE.
        video_deadline_s: time for one video in one stage; a longer one is rejected.
        keep_frames: keep packed frames, 250 MB for an hour of video, when no stage needs them any more.
            A later run that does reads the video again.
        retry_crashed: process videos again that crashed their process, or took too long, in two runs.
    """

    runner: Literal["ray", "local"] = "ray"
    ray_address: str | None = None
    video_deadline_s: Positive = 3600.0
    keep_frames: bool = False
    retry_crashed: bool = False
    cache_bytes: Count = CACHE_BYTES
    transient_retries: WholeNumber = 2
    error_budget: Share = 0.0
    max_shard_bytes: Annotated[int, Field(ge=1000)] = 500_000_000
    max_row_group_bytes: Annotated[int, Field(ge=1000)] = 100_000_000
    pools: Pools = Pools()


class Media(Section):
    """Clips as files, in the folder ``media`` of OUTPUT.

    Attributes:
        write: cut them as soon as the tables are written; ``videoauteur export media`` does so later.
        height_px: of the pictures; the width follows. Null keeps the size.
        fps: frames a second. Null keeps the frames and their times.
    """

    write: bool = False
    height_px: Count | None = None
    fps: Positive | None = None


class Config(Section):
    """The whole tree."""

    probe: ProbeSettings = ProbeSettings()
    scan: ScanSettings = ScanSettings()
    transcribe: TranscribeSettings = TranscribeSettings()
    clip: ClipSettings = ClipSettings()
    watermark: WatermarkSettings = WatermarkSettings()
    duplicates: DuplicateSettings = DuplicateSettings()
    refine: RefineSettings = RefineSettings()
    match: MatchSettings = MatchSettings()
    caption: CaptionSettings = CaptionSettings()
    relevance: RelevanceSettings = RelevanceSettings()
    narrate: NarrateSettings = NarrateSettings()
    media: Media = Media()
    language: EndpointSettings = EndpointSettings()
    vision: EndpointSettings = EndpointSettings()
    server: ServerSettings = ServerSettings()
    budget: Budget = Budget()
    run: Run = Run()

    @model_validator(mode="after")
    def _one_answers(self) -> Config:
        for capability in self.server.serves:
            if self.server.model is not None and getattr(self, capability).base_url is not None:
                raise ValueError(
                    f"server.serves has {capability}, but {capability}.base_url is set too; "
                    "leave one of them out"
                )
        return self

    @model_validator(mode="after")
    def _money_can_be_counted(self) -> Config:
        used = [each for each in (self.language, self.vision) if each.base_url is not None or each.others]
        places: list[EndpointSettings | Address] = [
            *used,
            *(other for each in used for other in each.others),
        ]
        free = not any(place.input_price or place.output_price for place in places)
        if self.budget.max_usd is not None and places and free:
            raise ValueError(
                "budget.max_usd bounds nothing without prices: set input_price and output_price of the "
                "endpoints, in US dollars for a million tokens, or budget.max_tokens in its place"
            )
        return self
