"""The curation chain: which stages, in which order, with which part of the configuration.

A new stage is a class in ``stages/`` and an entry in :func:`build_stages`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from models.language import Endpoint
from pipeline import config as conf
from stages.base import Pool, Stage
from stages.caption import CaptionSettings, WriteCaptions
from stages.clip import ClipSettings, CutClips, QualityRules
from stages.match import MatchActions, MatchRule
from stages.narrate import Narrate
from stages.probe import Probe, ProbeRules
from stages.refine import Refine, RefineSettings
from stages.scan import Scan, ScanSettings
from stages.transcribe import SpeechSettings, Transcribe
from stages.watermark import FilterWatermarks, WatermarkSettings

EMBEDDED_MODEL = "SmolLM2-135M-Instruct"
REFINE_LARGE = {"block_words": 200, "max_invented": 0.4, "max_lost": 0.5, "prompt": "refine"}
REFINE_SMALL = {"block_words": 1, "max_invented": 0.0, "max_lost": 0.0, "prompt": "refine_small"}


def build_stages(config: conf.Config) -> list[Stage]:
    """All stages, in order, not yet opened."""
    text_model = config.language.model or EMBEDDED_MODEL
    refine = REFINE_LARGE if config.language.base_url else REFINE_SMALL
    return [
        Probe(ProbeRules(**config.probe.model_dump(), require_audio=config.transcribe.require_speech)),
        Scan(
            ScanSettings(**config.scan.model_dump(exclude={"max_missing_share"})),
            max_missing_share=config.scan.max_missing_share,
        ),
        Transcribe(
            SpeechSettings(**config.transcribe.model_dump(exclude={"require_speech"})),
            require_speech=config.transcribe.require_speech,
        ),
        CutClips(
            ClipSettings(**config.clip.model_dump(include={"min_s", "max_s", "short_shots", "guard_s"})),
            QualityRules(**config.clip.model_dump(exclude={"min_s", "max_s", "short_shots", "guard_s"})),
        ),
        FilterWatermarks(
            WatermarkSettings(**config.watermark.model_dump(exclude={"threshold"})),
            threshold=config.watermark.threshold,
        ),
        Refine(
            RefineSettings(**{**refine, **config.refine.model_dump(exclude_none=True)}),
            model=text_model,
            require_actions=config.match.required,
        ),
        MatchActions(
            MatchRule(**config.match.model_dump(exclude={"pairs", "required"})),
            pairs=config.match.pairs,
            required=config.match.required,
        ),
        WriteCaptions(
            CaptionSettings(**config.caption.model_dump()),
            text_model=text_model,
            vision_model=config.vision.model,
        ),
        Narrate(min_steps=config.narrate.min_steps),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Neighbouring stages that share workers."""

    pool: Pool
    stages: tuple[str, ...]


def groups(stages: Sequence[Stage]) -> list[Group]:
    """The stages as runs of the same pool."""
    return [
        Group(pool=pool, stages=tuple(stage.name for stage in run))
        for pool, run in groupby(stages, key=lambda stage: stage.pool)
    ]


def endpoint(section: conf.Endpoint) -> Endpoint | None:
    """A configured endpoint; None where the embedded model is meant."""
    if section.base_url is None or section.model is None:
        return None
    return Endpoint(**section.model_dump(exclude={"deadline_s", "input_price", "output_price", "others"}))


def embedded_endpoint(base_url: str) -> Endpoint:
    """The endpoint of the embedded model's server. It has one slot: more requests would only wait."""
    return Endpoint(base_url=base_url, model=EMBEDDED_MODEL, concurrency=1)
