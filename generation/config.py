"""The recipe: one tree for visual states, director, generator, captioner, film and service.

Its defaults are the tiny twin, which needs no download and trains on two cores. Ready recipes for open
weights lie in ``generation/recipes``. Loading, ``--set`` and messages are those of
:mod:`pipeline.curation.config`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from generation.serve_config import Replicas as Replicas
from generation.serve_config import Serve as Serve
from models.endpoint import EndpointSettings
from models.settings import Count, NonNegative, Positive, Section, Share, Weights, word_for_false

RECIPES = Path(__file__).parent / "recipes"
Decay = Annotated[float, Field(ge=0, lt=1)]
EvenPixels = Annotated[int, Field(ge=2, multiple_of=2)]
"""Side of a clip; H.264 halves its colour planes."""
Precision = Annotated[Literal["no", "bf16", "fp16"], word_for_false("no")]
LANGUAGE_LAYERS = r".*language_model\..*_proj"
"""The linear layers of a vision-language model's language half; its eyes have some of the same names."""


class State(Section):
    """The visual state ``z [tokens, width]`` of a picture.

    ``family``: imagenet (packaged, pooled features), colour (the same with a histogram and a
    thumbnail), vae (AutoencoderKL), or an encoder and its painter: clip_unclip (pooled CLIP, Stable
    unCLIP), clip_wan (penultimate CLIP tokens, Wan 2.1), clip_sdxl (the same, IP-Adapter with SDXL),
    siglip_flux (SigLIP tokens, Redux with FLUX.1), clip_vae (pooled CLIP, our own diffusion in VAE
    latents). ``path``: folder of the weights, as on the hub. ``base``: folder of SDXL or FLUX.1, where
    ``path`` holds an adapter. ``tokens`` and ``width`` are checked against what the weights give.
    ``aspect``: width over height of what it holds, squeezed to a square. ``dtype``: of CLIP, SigLIP and
    their painters; ``sample_steps`` and ``guidance`` are these painters', null takes their own.
    """

    family: Literal[
        "imagenet", "colour", "vae", "clip_unclip", "clip_wan", "clip_vae", "clip_sdxl", "siglip_flux"
    ] = "imagenet"
    path: Path | None = None
    base: Path | None = None
    tokens: Count = 1
    width: Count = 1280
    picture_px: Count = 64
    aspect: Positive = 1.0
    dtype: Literal["float32", "bfloat16"] = "float32"
    sample_steps: Count | None = None
    guidance: NonNegative | None = None

    @model_validator(mode="after")
    def _weights_are_named(self) -> State:
        packaged, adapters = ("imagenet", "colour"), ("clip_sdxl", "siglip_flux")
        if (self.path is None) != (self.family in packaged):
            raise ValueError(
                f"path: {' and '.join(packaged)} take none, each other family needs its folder"
            )
        if (self.base is not None) != (self.family in adapters):
            raise ValueError(f"base: needed by {' and '.join(adapters)}, and by no other family")
        return self


class Train(Section):
    """One training run. ``batch_size`` is the whole batch of a step, over all processes.

    ``lanes`` split the data in a way that does not depend on the number of processes, which must divide
    it. ``fsdp`` shards the model over the processes. ``trackers``: names that accelerate knows.
    ``validate_every``: steps between losses on the held-out videos, if there are any.
    """

    steps: Count = 300
    batch_size: Count = 8
    accumulate: Count = 1
    lanes: Count = 2
    lr: Positive = 1e-3
    betas: tuple[Decay, Decay] = (0.9, 0.98)
    weight_decay: NonNegative = 0.01
    warmup_steps: Annotated[int, Field(ge=0)] = 20
    clip_norm: Positive = 1.0
    ema_decay: Decay = 0.0
    precision: Precision = "no"
    seed: int = 0
    checkpoint_every: Count = 100
    keep_checkpoints: Count = 2
    preview_every: Annotated[int, Field(ge=0)] = 0
    validate_every: Count = 50
    processes: Count = 1
    num_cpus: Positive = 1.0
    num_gpus: NonNegative = 0.0
    fsdp: bool = False
    loader_workers: Annotated[int, Field(ge=0)] = 0
    trackers: tuple[str, ...] = ("tensorboard",)

    @model_validator(mode="after")
    def _divides(self) -> Train:
        if self.lanes % self.processes:
            raise ValueError(f"processes ({self.processes}) must divide lanes ({self.lanes})")
        if self.batch_size % (self.lanes * self.accumulate):
            raise ValueError(
                f"lanes x accumulate ({self.lanes} x {self.accumulate}) must divide batch_size "
                f"({self.batch_size})"
            )
        return self


class Features(Section):
    """Workers that compute states, latents and text before training.

    ``workers``: null starts as many as processors and GPUs allow. ``held_out``: share of the videos that is
    not trained on; validation losses and ``evaluate generation`` use them.
    """

    workers: Count | None = None
    num_cpus: Positive = 1.0
    num_gpus: NonNegative = 0.0
    held_out: Share = 0.1


class Lora(Section):
    """Low-rank adapters (peft). ``targets``: module names, ``all-linear``, or a pattern of full names."""

    rank: Count = 16
    alpha: Positive = 32.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: str | tuple[str, ...] = "all-linear"


class Backbone(Weights):
    """The language model under the director.

    ``kind``: scratch (a small Llama of the sizes below, byte tokens), smollm2 (packaged), pretrained
    (``path``: folder of an ``AutoModelForCausalLM`` or of a vision-language model, whose language half
    is taken). ``train``: full, lora or frozen.
    """

    kind: Literal["scratch", "smollm2", "pretrained"] = "scratch"
    train: Literal["full", "lora", "frozen"] = "full"
    lora: Lora = Lora()
    dtype: Literal["float32", "bfloat16"] = "float32"
    gradient_checkpointing: bool = False
    width: Count = 128
    layers: Count = 4
    heads: Count = 4

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Backbone:
        if self.kind == "scratch" and self.width % self.heads:
            raise ValueError(f"heads ({self.heads}) must divide width ({self.width})")
        return self


class Sampling(Section):
    """Sampling of the director's text. ``temperature`` 0 takes the most probable token."""

    temperature: NonNegative = 0.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.9
    max_action_tokens: Count = 48
    max_caption_tokens: Count = 128
    min_steps: Count = 1
    max_steps: Count = 12
    max_text_overlap: Share = 0.8
    max_state_cosine: Share = 0.98
    flow_steps: Count = 20


class DirectorSettings(Section):
    """Interleaved director.

    ``kind``: language (a language model that is trained), closed (sentences of the dataset, states by
    regression, see :mod:`generation.director.closed`; of the other keys it reads ``chain``,
    ``sentences``, ``max_context`` and ``sampling.max_steps``). ``chain``: what a step consists of
    before its state. ``tokens_in``, ``tokens_out``: visual tokens that a state is read as, and learned
    queries that one is regressed from. ``regress``: which states carry loss; none makes the paper's
    language-centric director, which neither reads nor writes states. ``alpha`` weighs 1 - cosine, ``beta``
    the squared error, ``text_weight`` the cross-entropy, ``order_weight`` the likelihood that each state is
    told from the others of its story.

    For little data: ``sentences`` lets each text be followed by its vector of a frozen encoder;
    ``dropout`` hides parts of what is read, ``hide_history`` all earlier states of a story; ``memory``
    keeps so many training steps to regress from, see :mod:`generation.director.memory`.
    """

    kind: Literal["language", "closed"] = "language"
    backbone: Backbone = Backbone()
    chain: tuple[Literal["action", "caption"], ...] = ("action", "caption")
    tokens_in: Count = 4
    tokens_out: Count = 4
    resampler_depth: Count = 1
    head: Literal["regression", "flow"] = "regression"
    regress: Literal["last", "every", "none"] = "every"
    alpha: NonNegative = 1.0
    beta: NonNegative = 1.0
    text_weight: NonNegative = 1.0
    order_weight: NonNegative = 0.0
    sentences: Literal["none", "minilm", "smollm2", "both"] = "none"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    hide_history: Share = 0.0
    memory: Annotated[int, Field(ge=0)] = 0
    min_context: Count = 2
    max_context: Count = 8
    sampling: Sampling = Sampling()
    train: Train = Train(batch_size=4)

    @model_validator(mode="after")
    def _context(self) -> DirectorSettings:
        if not self.chain or len(set(self.chain)) != len(self.chain):
            raise ValueError("chain: name action, caption or both, each once")
        if self.min_context > self.max_context:
            raise ValueError("min_context must not exceed max_context")
        plain = self.regress == "every" and self.head == "regression"
        if not plain and (self.order_weight or self.memory):
            raise ValueError("order_weight and memory need regress every and head regression")
        if self.memory and self.sentences == "none":
            raise ValueError("memory needs sentences")
        if self.regress == "none" and not self.text_weight:
            raise ValueError("regress none leaves texts alone to be learned; set text_weight")
        return self


class Rolling(Section):
    """FLUX.1 Fill as a decoder that sees the ``memory`` key frames before, in a grid of four (siglip_flux).

    ``state.base`` is its folder. ``guidance``: input of the network, in training as in sampling.
    """

    memory: Annotated[int, Field(ge=1, le=3)] = 2
    lora: Lora = Lora()
    gradient_checkpointing: bool = False
    guidance: NonNegative = 30.0


class Decoder(Section):
    """The project's own decoders from states to pictures: a small diffusion, or FLUX.1 Fill (``rolling``).

    The former paints the families imagenet, colour and clip_vae; for the latter only ``rolling``,
    ``time_shift``, ``sample_steps`` and ``train`` are read. ``patch``: side of the squares of pixels that
    become channels, for speed; latents are left whole.
    ``time_shift`` above 1 moves training and sampling towards noise, where the state decides.
    """

    patch: Count = 4
    channels: Annotated[tuple[Count, ...], Field(min_length=1)] = (64, 128)
    layers_per_block: Count = 1
    state_tokens: Count = 4
    drop_state: Share = 0.1
    time_shift: Positive = 3.0
    sample_steps: Count = 20
    guidance: NonNegative = 1.5
    rolling: Rolling | None = None
    train: Train = Train(steps=600, batch_size=8, lr=1e-3, ema_decay=0.99)


class Regulariser(Section):
    """``z' = Shuffle(Mask(z + eps))``; each part may be off (0).

    ``noise`` is in standard deviations of z. ``mask_of`` and ``shuffle_of`` say what the shares are of:
    the tokens of every sample, or the samples of the batch; a state of one token has no tokens to shuffle.
    """

    noise: NonNegative = 0.5
    mask: Share = 0.25
    shuffle: Share = 0.25
    mask_of: Literal["tokens", "samples"] = "samples"
    shuffle_of: Literal["tokens", "samples"] = "samples"


class Transformer(Section):
    """The video transformer: a diffusers class, from the folder ``path`` or built small of the sizes below.

    ``dtype``: of the weights from a folder; bfloat16 only for those that LoRA leaves frozen.
    """

    path: Path | None = None
    train: Literal["full", "lora"] = "full"
    lora: Lora = Lora()
    dtype: Literal["float32", "bfloat16"] = "float32"
    gradient_checkpointing: bool = False
    heads: Count = 3
    head_width: Count = 64
    layers: Count = 2
    patch: tuple[Count, Count, Count] = (5, 8, 8)

    @model_validator(mode="after")
    def _base_is_kept(self) -> Transformer:
        if self.train == "lora" and self.path is None:
            raise ValueError("train: lora adapts weights from a folder; set path, or train: full")
        if self.train == "full" and self.dtype != "float32":
            raise ValueError("dtype: weights that are trained stay in float32; see train.precision")
        return self


class Codec(Weights):
    """The codec from videos to latents.

    ``kind``: pixels (no compression), dct (cosine transform of 8 x 8 blocks), or AutoencoderKLWan (wan) or
    AutoencoderKLLTXVideo (ltx) in ``path``.
    """

    in_folder = ("wan", "ltx")
    kind: Literal["pixels", "dct", "wan", "ltx"] = "pixels"
    dtype: Literal["float32", "bfloat16"] = "float32"


class TextEncoder(Weights):
    """Caption tokens: minilm (packaged), or pretrained: an encoder's folder such as UMT5's."""

    kind: Literal["minilm", "pretrained"] = "minilm"
    max_tokens: Count = 32


class GeneratorSettings(Section):
    """Visual-conditioned video generator.

    ``condition``: state (tokens in cross-attention), keyframe (first frame's latents beside the noise)
    or caption alone. ``retrieval``: off, or the mode of an index of the training clips, see
    :mod:`generation.generator.retrieval`: retrieve shows the clip that fits a step best, blend starts the
    diffusion from it (``blend`` is its share), generate starts from noise and names it as the nearest.
    """

    transformer: Transformer = Transformer()
    codec: Codec = Codec()
    text: TextEncoder = TextEncoder()
    condition: Literal["state", "keyframe", "caption"] = "state"
    retrieval: Annotated[Literal["off", "retrieve", "blend", "generate"], word_for_false("off")] = "off"
    blend: Annotated[float, Field(gt=0, lt=1)] = 0.6
    state_tokens: Count = 4
    regulariser: Regulariser = Regulariser()
    frames: Count = 5
    height_px: EvenPixels = 48
    width_px: EvenPixels = 48
    fps: Positive = 4.0
    drop_condition: Share = 0.1
    time_shift: Positive = 3.0
    sample_steps: Count = 20
    guidance: NonNegative = 2.0
    train: Train = Train(steps=600, lr=3e-3, betas=(0.9, 0.95))

    @model_validator(mode="after")
    def _sources_are_not_keyframes(self) -> GeneratorSettings:
        if self.retrieval in ("blend", "generate") and self.condition == "keyframe":
            raise ValueError(
                f"condition: retrieval {self.retrieval} starts from a training clip and shows no key "
                "frame; choose condition state or caption, or retrieval off"
            )
        return self


class PainterSettings(Section):
    """A diffusers pipeline that paints key frames from captions (``--painter``).

    ``picture_px``: side of a key frame; a grid of four is twice as wide. ``dtype``: of the weights.
    ``steps``, ``guidance``: null leaves them to the pipeline. ``memory``: earlier key frames that
    inpainting is shown. ``strength``: 1 paints from noise; below, it starts from the decoded state.
    """

    picture_px: Count = 512
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    steps: Count | None = None
    guidance: NonNegative | None = None
    memory: Annotated[int, Field(ge=1, le=3)] = 2
    strength: Annotated[float, Field(gt=0, le=1)] = 1.0


class Pipeline(Section):
    """A diffusers pipeline with its own weights, as ``save_pretrained`` writes it to the folder ``path``.

    ``pipeline``: diffusers' class; null takes the one that the folder names, often that of text to video.
    ``vae_dtype``: null is ``dtype``. ``tile``: the autoencoder works on tiles. ``gpu``: number
    of its GPU, counted round those that its process sees. ``offload``: model keeps one
    part on the GPU at a time, layers one layer (slow, least memory). ``quantise``: transformers and text
    encoders to 8 or 4 bits, by bitsandbytes. ``steps``, ``guidance``: null is the pipeline's own.
    """

    path: Path
    pipeline: str | None = None
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    vae_dtype: Literal["float32", "bfloat16"] | None = None
    tile: bool = False
    gpu: Annotated[int, Field(ge=0)] = 0
    offload: Literal["none", "model", "layers"] = "none"
    quantise: Literal["none", "int8", "int4"] = "none"
    steps: Count | None = None
    guidance: NonNegative | None = None
    negative_prompt: str | None = None


PACKAGED_PLANNER = "SmolLM2-135M-Instruct"


class StockPlanner(EndpointSettings):
    """The language model that writes the steps; without ``base_url`` the packaged one.

    ``steps``: how many, where a film does not say. ``concurrency``: plans asked for at a time.
    """

    steps: Count = 6


class StockVideo(Pipeline):
    """An image-to-video pipeline, and the clips that it renders."""

    frames: Count = 81
    height_px: EvenPixels = 480
    width_px: EvenPixels = 832
    fps: Positive = 16.0


class Stock(Section):
    """A film from pretrained weights alone (``--stock``).

    ``painter``: text to image, for the first key frame; ``editor``: an edit model that sees the ``memory``
    key frames before, for all others (null: the painter makes these too); ``video``: image to video.
    """

    planner: StockPlanner = StockPlanner()
    painter: Pipeline
    editor: Pipeline | None = None
    memory: Annotated[int, Field(ge=1, le=3)] = 2
    video: StockVideo


class Film(Section):
    """From a goal to one file.

    ``chain_last_frame``: each clip starts from the last frame of the one before. ``upscale_px``: short
    side that smaller clips are scaled up to.
    """

    clips_per_step: Count = 1
    chain_last_frame: bool = False
    upscale_px: Count = 320
    painter: PainterSettings = PainterSettings()


class Captioner(Section):
    """LoRA fine-tune of a vision-language model, see :mod:`generation.captioner.tuning`.

    ``model``: folder or hub's name of a model with a processor; null makes the tiny twin, whose weights
    are random. ``frames``: of an example, shown at most. ``batch_size`` is that of one process, and
    ``accumulate`` of its batches make a step. ``held_out``: share of the videos that is not trained on.
    ``evaluate_every``: steps between held-out losses. ``merge``: also save the model with the adapter
    in it, which any server takes.
    """

    model: str | None = None
    lora: Lora = Lora(targets=LANGUAGE_LAYERS)
    dtype: Literal["float32", "bfloat16"] = "float32"
    gradient_checkpointing: bool = False
    frames: Count = 10
    held_out: Share = 0.1
    steps: Count = 200
    batch_size: Count = 4
    accumulate: Count = 1
    lr: Positive = 1e-3
    weight_decay: NonNegative = 0.0
    warmup_steps: Annotated[int, Field(ge=0)] = 10
    clip_norm: Positive = 1.0
    precision: Precision = "no"
    seed: int = 0
    evaluate_every: Count = 50
    checkpoint_every: Count = 50
    keep_checkpoints: Count = 2
    loader_workers: Annotated[int, Field(ge=0)] = 0
    trackers: tuple[str, ...] = ("tensorboard",)
    merge: bool = True


class Recipe(Section):
    """The whole tree."""

    state: State = State()
    features: Features = Features()
    decoder: Decoder = Decoder()
    director: DirectorSettings = DirectorSettings()
    generator: GeneratorSettings = GeneratorSettings()
    captioner: Captioner = Captioner()
    film: Film = Film()
    stock: Stock | None = None
    serve: Serve = Serve()
