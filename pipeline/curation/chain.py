"""The curation chain: which stages, in which order, with which part of the configuration.

A new stage is a class in ``stages/`` and an entry in :func:`build_stages`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from models.endpoint import Address, Endpoint, EndpointSettings
from models.serving import Capability
from pipeline.curation.config import Config, PoolOptions, Pools
from pipeline.curation.servers import ServerGroup, model_for, model_name, needed
from stages.base import Pool, Stage
from stages.caption import WriteCaptions
from stages.clip import CutClips
from stages.duplicates import FingerprintClips
from stages.match import MatchActions
from stages.narrate import Narrate
from stages.probe import Probe
from stages.refine import Refine
from stages.relevance import JudgeClips, JudgeVideo
from stages.scan import Scan
from stages.transcribe import Transcribe
from stages.watermark import FilterWatermarks

KEY = "VIDEOAUTEUR_SERVER_KEY"
"""Environment variable for a key of the job's own servers; a provider's key is not for them."""
PATIENT_RETRIES = 10_000
"""Without effect beside any deadline."""


def build_stages(config: Config) -> list[Stage]:
    """Return all stages, in order, not yet opened."""
    text, vision = model_for(config, "language"), model_for(config, "vision")
    # Where subtitles may stand in for sound, a file without sound can have speech.
    require_audio = config.transcribe.require_speech and config.transcribe.subtitles == "never"
    on_topic = config.relevance.topic is not None
    chain: list[Stage] = [
        Probe(config.probe, require_audio=require_audio),
        Scan(
            config.scan,
            bounds=config.probe.bounds,
            max_pixels=config.probe.max_pixels,
            shake=config.clip.max_shake is not None,
        ),
        Transcribe(config.transcribe),
        CutClips(config.clip),
        FilterWatermarks(config.watermark),
        *([FingerprintClips(config.duplicates)] if config.duplicates.drop else []),
        Refine(config.refine, model=text, require_actions=config.match.required),
        *([JudgeVideo(config.relevance, model=text)] if on_topic else []),
        MatchActions(config.match),
        WriteCaptions(config.caption, model=vision),
        *([JudgeClips(config.relevance, model=text)] if on_topic else []),
        Narrate(config.narrate, model=text),
    ]
    packer = packer_of(chain)
    for stage in chain:
        stage.packer = packer
    return chain


def packer_of(stages: Sequence[Stage]) -> Stage | None:
    """Return the stage that packs the frames, if it is among the stages."""
    return next((stage for stage in stages if isinstance(stage, Scan)), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Neighbouring stages that share workers.

    Attributes:
        pool: the kind of the first stage; all kinds in the group have its options.
    """

    pool: Pool
    stages: tuple[str, ...]


def groups(stages: Sequence[Stage], pools: Pools, *, asks: bool) -> list[Group]:
    """Return the stages in groups: neighbours whose kinds ask for the same workers share them.

    Each border between groups costs a video a copy, and each group a process that starts.

    Args:
        asks: stages of the kind ``language`` wait for models; other stages would wait in their workers.
    """

    def workers(stage: Stage) -> tuple[PoolOptions, bool]:
        return getattr(pools, stage.pool), asks and stage.pool == "language"

    runs = [list(run) for _, run in groupby(stages, key=workers)]
    return [Group(pool=run[0].pool, stages=tuple(stage.name for stage in run)) for run in runs]


def endpoints(
    config: Config, base_urls: Mapping[Capability, Sequence[str]]
) -> tuple[Endpoint | None, Endpoint | None]:
    """Return the endpoints for text and for pictures, None where there is none.

    Args:
        base_urls: of the servers that the job owns, by what they answer.
    """
    found = {"language": config.language.endpoint(), "vision": config.vision.endpoint()}
    for group in needed(config):
        for capability in group.serves:
            section = _served(getattr(config, capability), group, base_urls[capability])
            found[capability] = section.endpoint()
    return found["language"], found["vision"]


def _served(section: EndpointSettings, group: ServerGroup, base_urls: Sequence[str]) -> EndpointSettings:
    """Return a section with servers that the job owns as its first addresses."""
    first, *peers = base_urls
    # The section's key and prices are meant for its other addresses.
    meant = {
        "api_key_env": section.api_key_env,
        "input_price": section.input_price,
        "output_price": section.output_price,
    }
    others = [Address(**meant | address.model_dump(exclude_none=True)) for address in section.others]
    return section.model_copy(
        update={
            "base_url": first,
            "model": model_name(group.settings),
            "api_key_env": KEY,
            "concurrency": group.slots,
            # A dead server is back as soon as it has started again, and a question waits for that,
            # whatever the number of tries.
            "deadline_s": max(section.deadline_s, group.settings.start_deadline_s),
            "max_retries": PATIENT_RETRIES,
            "input_price": 0.0,
            "output_price": 0.0,
            "others": (*(Address(base_url=url) for url in peers), *others),
        }
    )
