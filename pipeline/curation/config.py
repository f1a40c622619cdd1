"""The configuration of a curation run, as one tree. Defaults run on a laptop with no key and no GPU."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from pipeline.platform.config import Count, Positive, Section, Share


class Probe(Section):
    """Bounds on a file, checked before its pictures are decoded and while they are.

    ``max_pixels``: of one picture. ``max_hold_s``: time between two pictures; a longer one is a leap of
    the time stamps.
    """

    min_duration_s: Annotated[float, Field(ge=0)] = 5.0
    max_duration_s: Positive = 7200.0
    min_side_px: Count = 64
    max_pixels: Count = 4096 * 4096
    max_pictures: Count = 1_000_000
    max_hold_s: Positive = 60.0


class Scan(Section):
    """The one decoding pass."""

    grid_fps: Annotated[float, Field(gt=0, le=30)] = 2.0
    short_side_px: Annotated[int, Field(ge=64, le=2160)] = 448
    jpeg_quality: Annotated[int, Field(ge=1, le=100)] = 90
    cut_ratio: Positive = 3.0
    cut_min_content: Annotated[float, Field(ge=0, le=255)] = 15.0
    min_shot_s: Annotated[float, Field(ge=0)] = 0.5
    jump_cut_likeness: Share = 0.75
    max_missing_share: Share = 0.05


class Transcribe(Section):
    """Speech recognition. ``model``: base, tiny.en or the folder of a CTranslate2 Whisper model.

    ``language``: ISO 639-1 code; null detects it. ``translate``: sentences of another language get an
    English version beside the original. ``subtitles: prefer`` takes subtitles beside the video
    (NAME.srt, NAME.en.vtt) or in it for its speech, where there are any. ``engine: whisperx`` needs
    ``python``, the interpreter of an environment made by ``make env-whisperx``; ``align_model`` is the
    folder of a wav2vec2 CTC model, null lets WhisperX download its own.
    """

    engine: Literal["faster-whisper", "whisperx"] = "faster-whisper"
    model: str = "base"
    language: str | None = None
    translate: bool = True
    subtitles: Literal["never", "prefer"] = "never"
    threads: Count = 1
    batch_size: Count = 4
    python: str | None = None
    align_model: str | None = None
    require_speech: bool = True

    @model_validator(mode="after")
    def _whisperx_has_an_interpreter(self) -> Transcribe:
        if self.engine == "whisperx" and self.python is None:
            raise ValueError(
                "engine whisperx needs python, the interpreter of an environment that has it: "
                "run `make env-whisperx` and set python to .venv-whisperx/bin/python"
            )
        return self


class Clip(Section):
    """Shots into clips, and what a clip must show."""

    min_s: Positive = 5.0
    max_s: Positive = 30.0
    short_shots: Literal["join", "drop"] = "join"
    guard_s: Annotated[float, Field(ge=0)] = 0.0
    min_sharpness: Share = 0.1
    min_exposure: Share = 0.05
    max_exposure: Share = 0.97
    min_motion: Share = 0.0005

    @model_validator(mode="after")
    def _bounds_leave_room(self) -> Clip:
        if self.max_s < 2 * self.min_s:
            raise ValueError("max_s must be at least twice min_s, or long shots cannot be divided")
        if self.guard_s * 2 >= self.min_s:
            raise ValueError("guard_s must be less than half of min_s")
        return self


class Watermark(Section):
    """Overlays that are not part of the scene. ``threshold`` 1 keeps everything."""

    threshold: Share = 0.5
    read_frames: Count = 4
    threads: Count = 1


class Refine(Section):
    """Transcript into actions; see ``stages.refine.stage.RefineSettings``.

    Null is chosen by the model: an endpoint gets blocks of 200 words and may leave out and add some;
    the embedded model gets a line at a time and must keep to its words. ``informative`` drops greetings,
    advertising, chatter and bare amounts; see ``stages.english.informative``.
    """

    enabled: bool = True
    informative: bool = True
    block_words: Count | None = None
    max_words: Annotated[int, Field(ge=2)] = 25
    max_invented: Share | None = None
    max_lost: Share | None = None


class Match(Section):
    """The paper's rule; see ``stages.match.MatchRule``. ``pairs``: all, or the best one-to-one."""

    max_start_diff_s: Positive = 5.0
    min_iou: Share = 0.25
    sufficient_iou: Share | None = 0.5
    pairs: Literal["all", "one_to_one"] = "all"
    required: bool = True


class Caption(Section):
    """Descriptions of clips; see ``stages.caption.stage.CaptionSettings``.

    The embedded captioner takes ``max_words`` to ``threads`` alone; the rest is for a model that sees.
    """

    frames: Annotated[int, Field(ge=1, le=64)] = 10
    choose: Literal["coverage", "even"] = "coverage"
    side_px: Annotated[int, Field(ge=64, le=2160)] = 448
    crop: Literal["square", "whole"] = "square"
    context: tuple[Literal["speech", "neighbours"], ...] = ()
    merge: bool = False
    max_words: Annotated[int, Field(ge=5, le=1000)] = 80
    max_sentences: Count = 5
    only_matched: bool = True
    threads: Count = 1


class Relevance(Section):
    """Keeps what has to do with a topic, a sentence or a few words in English; null keeps all.

    ``drop_roles``: parts of a video that are dropped whatever their score.
    """

    topic: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)] | None = None
    min_video_score: Share = 0.5
    min_clip_score: Share = 0.15
    drop_roles: tuple[Literal["intro", "talking", "sponsor", "end_card"], ...] = (
        "intro",
        "talking",
        "sponsor",
        "end_card",
    )
    threads: Count = 1


class Narrate(Section):
    """Clips into a narrative. ``min_integrity``: share of the video's actions that its steps tell."""

    min_steps: Count = 2
    min_integrity: Share = 0.0


class Address(Section):
    """Another server that can answer. Null: as the first one has it."""

    base_url: str
    model: str | None = None
    api_key_env: str | None = None
    schema_form: Literal["json_schema", "json_object"] | None = None
    input_price: Annotated[float, Field(ge=0)] | None = None
    output_price: Annotated[float, Field(ge=0)] | None = None


class Endpoint(Section):
    """An OpenAI-compatible server; ``base_url`` null: the job's own ``server``, where it serves this.

    ``others`` with the same model share the load; those with another are asked when all of these fail.
    Prices are US dollars for a million tokens. ``timeout_s`` bounds one request, ``deadline_s`` a
    question with all its retries.
    """

    base_url: str | None = None
    model: str | None = None
    api_key_env: str = "OPENAI_API_KEY"
    schema_form: Literal["json_schema", "json_object"] = "json_schema"
    concurrency: Count = 8
    timeout_s: Positive = 120.0
    deadline_s: Positive = 600.0
    max_retries: Annotated[int, Field(ge=0)] = 4
    input_price: Annotated[float, Field(ge=0)] = 0.0
    output_price: Annotated[float, Field(ge=0)] = 0.0
    others: tuple[Address, ...] = ()

    @model_validator(mode="after")
    def _model_goes_with_url(self) -> Endpoint:
        if (self.base_url is None) != (self.model is None):
            raise ValueError("base_url and model go together: set both, or neither")
        return self


Door = Literal["language", "vision"]


class Server(Section):
    """Model servers that the job starts, restarts and ends.

    ``model``: a GGUF file (llamacpp), a folder or a hub's name (vllm); null is the embedded model.
    ``name``: what requests and tables call it; null is made of the model. ``serves``: where it answers;
    of that section ``timeout_s``, ``schema_form`` and a longer ``deadline_s`` hold for it, while key and
    prices are for the section's ``others``. ``gpus``, ``num_cpus`` and ``concurrency`` (requests computed
    at the same time; null is 1 for llamacpp, 16 for vllm) are for each of the ``replicas``. ``python``:
    the interpreter of an environment that has the engine, see ``infra/envs``; null is this one.
    ``arguments`` are the engine's own. ``threads`` is 1, for llama.cpp's wait for each other in a busy
    loop: with two on two cores that other workers also use, an answer took 21 s in place of 3 s.
    """

    engine: Literal["llamacpp", "vllm"] = "llamacpp"
    model: str | None = None
    name: str | None = None
    serves: tuple[Door, ...] = ("language",)
    replicas: Count = 1
    gpus: Annotated[float, Field(ge=0)] = 0.0
    num_cpus: Annotated[float, Field(ge=0)] = 0.0
    threads: Count = 1
    context_tokens: Annotated[int, Field(ge=256)] = 4096
    concurrency: Count | None = None
    start_deadline_s: Positive = 900.0
    python: str | None = None
    arguments: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _fits_the_engine(self) -> Server:
        if self.engine == "vllm" and self.model is None:
            raise ValueError("vllm needs server.model: a folder, or a name on a hub")
        if "vision" in self.serves and self.engine == "llamacpp" and "--mmproj" not in self.arguments:
            raise ValueError(
                "vision needs a model that sees: server.model with its image encoder as "
                "server.arguments=[--mmproj, FILE], or engine vllm"
            )
        if self.gpus > 1 and not self.gpus.is_integer():
            raise ValueError("gpus must be whole above 1, for one model is spread over whole GPUs")
        return self


class Budget(Section):
    """Bounds on what a run may ask for, kept by all workers together; null is no bound."""

    max_usd: Annotated[float, Field(ge=0)] | None = None
    max_tokens: Annotated[int, Field(ge=0)] | None = None
    max_requests: Annotated[int, Field(ge=0)] | None = None


class PoolOptions(Section):
    """Workers of one kind. Null: sized from the cluster. ``requirements``: a pip file of its own."""

    workers: Count | None = None
    num_cpus: Annotated[float, Field(ge=0)] | None = None
    num_gpus: Annotated[float, Field(ge=0)] = 0.0
    requirements: str | None = None


class Pools(Section):
    """The kinds of workers."""

    media: PoolOptions = PoolOptions()
    speech: PoolOptions = PoolOptions()
    language: PoolOptions = PoolOptions()


class Run(Section):
    """The engine. ``error_budget``: share of videos that may fail by our fault before exit code 3."""

    runner: Literal["ray", "local"] = "ray"
    ray_address: str | None = None
    video_deadline_s: Positive = 3600.0
    transient_retries: Annotated[int, Field(ge=0)] = 2
    error_budget: Share = 0.0
    max_shard_bytes: Annotated[int, Field(ge=1000)] = 500_000_000
    max_row_group_bytes: Annotated[int, Field(ge=1000)] = 100_000_000
    pools: Pools = Pools()


class Config(Section):
    """The whole tree."""

    probe: Probe = Probe()
    scan: Scan = Scan()
    transcribe: Transcribe = Transcribe()
    clip: Clip = Clip()
    watermark: Watermark = Watermark()
    refine: Refine = Refine()
    match: Match = Match()
    caption: Caption = Caption()
    relevance: Relevance = Relevance()
    narrate: Narrate = Narrate()
    language: Endpoint = Endpoint()
    vision: Endpoint = Endpoint()
    server: Server = Server()
    budget: Budget = Budget()
    run: Run = Run()

    @model_validator(mode="after")
    def _one_answers(self) -> Config:
        for door in self.server.serves:
            if self.server.model is not None and getattr(self, door).base_url is not None:
                raise ValueError(
                    f"server.serves has {door}, but {door}.base_url is set too; leave one of them out"
                )
        return self

    @model_validator(mode="after")
    def _money_can_be_counted(self) -> Config:
        doors = [door for door in (self.language, self.vision) if door.base_url is not None or door.others]
        places: list[Endpoint | Address] = [*doors, *(other for door in doors for other in door.others)]
        free = not any(place.input_price or place.output_price for place in places)
        if self.budget.max_usd is not None and places and free:
            raise ValueError(
                "budget.max_usd bounds nothing without prices: set input_price and output_price of the "
                "endpoints, in US dollars for a million tokens, or budget.max_tokens in its place"
            )
        return self
