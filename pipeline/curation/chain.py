"""The curation chain: which stages, in which order, with which part of the configuration.

A new stage is a class in ``stages/`` and an entry in :func:`build_stages`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from models.language import Endpoint
from models.media import Bounds
from pipeline.curation import config as conf
from pipeline.curation.servers import EMBEDDED_MODEL, Wanted, model_name, text_model, vision_model, wanted
from stages.base import Pool, Stage
from stages.caption.stage import CaptionSettings, WriteCaptions
from stages.clip import ClipSettings, CutClips, QualityRules
from stages.match import MatchActions, MatchRule
from stages.narrate.stage import Narrate
from stages.probe import Probe, ProbeRules
from stages.refine.stage import Refine, RefineSettings
from stages.relevance.stage import JudgeClips, JudgeVideo, RelevanceSettings
from stages.scan.stage import Scan, ScanSettings
from stages.transcribe import SpeechSettings, Transcribe
from stages.watermark import FilterWatermarks, WatermarkSettings

KEY = "VIDEOAUTEUR_SERVER_KEY"
"""Environment variable for a key of the job's own servers; a provider's key is not for them."""
PATIENT_RETRIES = 10_000
"""Without effect beside any deadline."""
REFINE_LARGE = {"block_words": 200, "max_invented": 0.4, "max_lost": 0.5, "prompt": "refine"}
REFINE_SMALL = {"block_words": 1, "max_invented": 0.0, "max_lost": 0.0, "prompt": "refine_small"}


def build_stages(config: conf.Config) -> list[Stage]:
    """All stages, in order, not yet opened."""
    text, vision = text_model(config), vision_model(config)
    refine = REFINE_SMALL if text == EMBEDDED_MODEL else REFINE_LARGE
    # The embedded model is too small to be asked for judgements.
    asked = None if text == EMBEDDED_MODEL else text
    judge_video, judge_clips = _by_topic(config.relevance, asked)
    # Where subtitles may stand in for sound, a file without sound can have speech.
    require_audio = config.transcribe.require_speech and config.transcribe.subtitles == "never"
    return [
        Probe(
            ProbeRules(
                **config.probe.model_dump(exclude={"max_pictures", "max_hold_s"}),
                require_audio=require_audio,
            )
        ),
        Scan(
            ScanSettings(**config.scan.model_dump(exclude={"max_missing_share"})),
            max_missing_share=config.scan.max_missing_share,
            bounds=Bounds(
                max_span_s=config.probe.max_duration_s,
                max_hold_s=config.probe.max_hold_s,
                max_pictures=config.probe.max_pictures,
            ),
            max_pixels=config.probe.max_pixels,
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
            RefineSettings(
                **{**refine, **config.refine.model_dump(exclude={"informative"}, exclude_none=True)}
            ),
            model=text,
            informative=config.refine.informative,
            require_actions=config.match.required,
        ),
        *judge_video,
        MatchActions(
            MatchRule(**config.match.model_dump(exclude={"pairs", "required"})),
            pairs=config.match.pairs,
            required=config.match.required,
        ),
        WriteCaptions(
            CaptionSettings(**config.caption.model_dump()),
            text_model=text,
            vision_model=vision,
        ),
        *judge_clips,
        Narrate(**config.narrate.model_dump(), model=asked),
    ]


def _by_topic(section: conf.Relevance, model: str | None) -> tuple[list[Stage], list[Stage]]:
    """The stages that judge videos and clips by a topic; none where there is no topic."""
    if section.topic is None:
        return [], []
    settings = RelevanceSettings(topic=section.topic, model=model, threads=section.threads)
    return (
        [JudgeVideo(settings, min_score=section.min_video_score)],
        [JudgeClips(settings, min_score=section.min_clip_score, drop_roles=section.drop_roles)],
    )


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
    first = Endpoint(**section.model_dump(exclude={"others"}))
    others = (replace(first, **address.model_dump(exclude_none=True)) for address in section.others)
    return replace(first, others=tuple(others))


def endpoints(
    config: conf.Config, base_urls: Mapping[conf.Door, Sequence[str]]
) -> tuple[Endpoint, Endpoint | None]:
    """The endpoints for text and for pictures.

    Args:
        base_urls: of the servers that the job owns, by what they answer.
    """
    found = {"language": endpoint(config.language), "vision": endpoint(config.vision)}
    for by in wanted(config):
        for door in by.doors:
            found[door] = endpoint(_served(getattr(config, door), by, base_urls[door]))
    assert found["language"] is not None
    return found["language"], found["vision"]


def _served(section: conf.Endpoint, by: Wanted, base_urls: Sequence[str]) -> conf.Endpoint:
    """A section as it is with servers that the job owns."""
    first, *peers = base_urls
    # What the section says of keys and prices is meant for these.
    meant = section.model_dump(include={"api_key_env", "input_price", "output_price"})
    others = [conf.Address(**meant | address.model_dump(exclude_none=True)) for address in section.others]
    return section.model_copy(
        update={
            "base_url": first,
            "model": model_name(by.settings),
            "api_key_env": KEY,
            "concurrency": by.slots,
            # A dead server is back as soon as it has started again, and a question waits for that,
            # whatever the number of tries.
            "deadline_s": max(section.deadline_s, by.settings.start_deadline_s),
            "max_retries": PATIENT_RETRIES,
            "input_price": 0.0,
            "output_price": 0.0,
            "others": (*(conf.Address(base_url=url) for url in peers), *others),
        }
    )
