"""Pretrained diffusers pipelines as the parts of a film: key frames, and clips that start from them.

One adapter serves the video pipelines of all families. What a pipeline takes is read from the signature of
its call (image, negative prompt, frame rate, size), its frame rule and the multiples of its size from its
autoencoder and transformer; so Wan 2.1 and 2.2 (one expert or two), LTX, HunyuanVideo 1.5 and CogVideoX
differ in their recipes only.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers import DiffusionPipeline, PipelineQuantizationConfig
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from transformers.utils.import_utils import is_torchvision_available

from generation import config
from generation.core.states import Picture, Pictures
from generation.encoders.pictures import covering
from generation.encoders.processors import processor_class
from generation.encoders.weights import best_device, description
from generation.film.footage import Sound
from models.files import parts_digest, sha256_of
from pipeline.platform.config import ConfigError

QUANTISED = ("transformer", "transformer_2", "text_encoder", "text_encoder_2")
BACKENDS = {"int8": ("bitsandbytes_8bit", "load_in_8bit"), "int4": ("bitsandbytes_4bit", "load_in_4bit")}
WHERE = {"path", "offload", "gpu"}
"""Options that change no picture."""
EDIT = (
    "The pictures show the steps before, in order. Keep kitchen, people, tools and ingredients as they are "
    "and show the next step: "
)


class LoadedPipeline:
    """A pipeline in the place where it runs, and the inputs that it takes.

    Attributes:
        takes: names of its inputs.
        identity: digest of weights and options.

    Raises:
        ConfigError: the folder holds no pipeline that can be loaded.
    """

    def __init__(self, options: config.Pipeline, *, key: str) -> None:
        of = "a diffusers pipeline"
        parts = description(options.path, "model_index.json", option=f"{key}.path", of=of)
        self.name = options.pipeline or str(parts.get("_class_name"))
        kind = DiffusionPipeline if options.pipeline is None else getattr(diffusers, self.name, None)
        if kind is None:
            raise ConfigError(f"{key}.pipeline: diffusers has no class {self.name}")
        try:
            self.pipeline = kind.from_pretrained(
                options.path, use_safetensors=True, local_files_only=True, **_loading(options, parts)
            )
        except (OSError, ValueError, TypeError, AttributeError, ImportError) as error:
            raise ConfigError(f"{key}: {self.name} cannot be loaded: {error}") from error
        self.pipeline.set_progress_bar_config(disable=True)
        if options.tile:
            self.pipeline.vae.enable_tiling()
        _place(self.pipeline, options)
        self.takes = frozenset(inspect.signature(self.pipeline.__call__).parameters)
        weights = sorted(options.path.glob("**/*.safetensors"))
        digests = [[path.relative_to(options.path).as_posix(), sha256_of(path)] for path in weights]
        self.identity = parts_digest(options.model_dump_json(exclude=WHERE), self.name, digests)
        # Qwen-Image calls guidance so; its guidance_scale belongs to distilled weights.
        guidance = "true_cfg_scale" if self.name.startswith("QwenImage") else "guidance_scale"
        self._chosen = {
            "num_inference_steps": options.steps, guidance: options.guidance,
            "negative_prompt": options.negative_prompt,
        }  # fmt: skip
        if options.guidance is not None and guidance not in self.takes:
            self._guide(options.guidance, key)

    def __call__(self, *, seed: int, **inputs: Any) -> Any:
        """Call the pipeline with those inputs that it takes and that are not None."""
        given = {
            name: value
            for name, value in (self._chosen | inputs).items()
            if value is not None and name in self.takes
        }
        random = torch.Generator().manual_seed(seed % 2**63)
        return self.pipeline(generator=random, output_type="np", **given)

    def _guide(self, guidance: float, key: str) -> None:
        """Set the guidance of a pipeline that has it in a part of its own, such as HunyuanVideo 1.5."""
        guider = getattr(self.pipeline, "guider", None)
        if guider is None:
            raise ConfigError(f"{key}.guidance: {self.name} takes none; leave it out")
        self.pipeline.guider = guider.new(guidance_scale=guidance)

    def size_multiple(self) -> int:
        """Return the number that divides the sides of its pictures."""
        pipeline = self.pipeline
        stride = _first(pipeline, "vae_scale_factor_spatial", "vae_spatial_compression_ratio", default=8)
        patch = getattr(getattr(pipeline, "transformer", None), "config", {}).get("patch_size") or 1
        return stride * int(patch if isinstance(patch, int) else patch[-1])

    def frame_stride(self) -> int:
        """Return ``n`` where clips have ``n k + 1`` frames."""
        names = ("vae_scale_factor_temporal", "vae_temporal_compression_ratio")
        return _first(self.pipeline, *names, default=1)


class StockPainter:
    """Paints the first key frame from text, and every later one by editing those before.

    Args:
        painter: text to image.
        editor: takes ``image``; None paints all key frames from text.
        size_px: height and width.
        memory: earlier key frames that the editor sees.
    """

    uses_hints = False

    def __init__(
        self,
        painter: LoadedPipeline,
        editor: LoadedPipeline | None,
        *,
        size_px: tuple[int, int],
        memory: int,
    ) -> None:
        if "prompt" not in painter.takes:
            raise ConfigError(f"stock.painter: {painter.name} does not paint from text")
        if editor is not None and not editor.takes >= {"prompt", "image"}:
            raise ConfigError(f"stock.editor: {editor.name} does not edit pictures")
        self.identity = parts_digest(painter.identity, editor and editor.identity, size_px, memory)
        self.memory, self.cells = (memory, memory + 1) if editor else (0, 1)
        self._painter, self._editor, self._size_px = painter, editor, size_px

    def paint(
        self, captions: Sequence[str], *, known: Sequence[Picture], hints: Sequence[Picture], seed: int
    ) -> Pictures:
        """See :class:`generation.film.parts.Painter`; each new picture is seen by those after it."""
        pictures = list(known)
        for place in range(len(known), len(captions)):
            seen = pictures[-self.memory :] if self.memory else []
            pictures.append(self._one(captions[place], seen, seed + place))
        return np.stack(pictures[len(known) :])

    def _one(self, caption: str, seen: Sequence[Picture], seed: int) -> Picture:
        height, width = self._size_px
        size = {"height": height, "width": width}
        if not seen or self._editor is None:
            made = self._painter(prompt=caption, seed=seed, max_area=height * width, **size)
        else:
            images: Any = [Image.fromarray(picture) for picture in seen]
            if not _takes_several(self._editor):
                # One picture of all, side by side.
                images = Image.fromarray(np.concatenate(list(seen), axis=1))
            # Kontext otherwise scales everything to a megapixel.
            made = self._editor(
                prompt=EDIT + caption, image=images, seed=seed, max_area=height * width, _auto_resize=False,
                **size,
            )  # fmt: skip
        return covering(_levels(made.images[0]), height, width)


class PipelineGenerator:
    """Renders clips from key frames by an image-to-video pipeline.

    Raises:
        ConfigError: it is no such pipeline, or frames or size do not fit it.
    """

    def __init__(self, pipeline: LoadedPipeline, options: config.StockVideo) -> None:
        if not pipeline.takes >= {"prompt", "image", "num_frames"}:
            raise ConfigError(
                f"stock.video: {pipeline.name} does not render clips from a picture and text; set "
                "stock.video.pipeline to the class of these weights that does, such as "
                "WanImageToVideoPipeline"
            )
        stride, multiple = pipeline.frame_stride(), pipeline.size_multiple()
        if (options.frames - 1) % stride:
            near = max(1, round((options.frames - 1) / stride)) * stride + 1
            raise ConfigError(
                f"stock.video.frames: {pipeline.name} takes {stride}k + 1 frames, not {options.frames}; "
                f"{near} would do"
            )
        for key in ("height_px", "width_px"):
            if getattr(options, key) % multiple:
                raise ConfigError(f"stock.video.{key}: {pipeline.name} takes multiples of {multiple}")
        self.identity = pipeline.identity
        self._pipeline, self._options = pipeline, options

    def render(
        self,
        caption: str,
        state: Tensor | None,
        *,
        seed: int,
        keyframe: Picture | None,
        first_frame: Picture | None,
    ) -> tuple[NDArray[np.uint8], Sound | None]:
        """See :class:`generation.film.parts.Generator`; states are not read."""
        options, start = self._options, keyframe if first_frame is None else first_frame
        if start is None:
            raise ValueError("an image-to-video pipeline needs a key frame")
        made = self._pipeline(
            prompt=caption, image=Image.fromarray(covering(start, options.height_px, options.width_px)),
            height=options.height_px, width=options.width_px, num_frames=options.frames,
            frame_rate=options.fps, seed=seed,
        )  # fmt: skip
        return _levels(made.frames[0]), self._sound(made)

    def _sound(self, made: Any) -> Sound | None:
        audio = getattr(made, "audio", None)
        vocoder = getattr(self._pipeline.pipeline, "vocoder", None)
        if audio is None or vocoder is None:
            return None
        samples = torch.as_tensor(audio)[0].float().cpu().numpy()
        return Sound(samples=samples.T, rate_hz=int(vocoder.config.output_sampling_rate))


def _loading(options: config.Pipeline, parts: dict[str, Any]) -> dict[str, Any]:
    """Return arguments of ``from_pretrained`` for a pipeline with these parts in its index."""
    dtype = getattr(torch, options.dtype)
    given: dict[str, Any] = {"dtype": dtype}
    if options.vae_dtype is not None:
        given["dtype"] = {"default": dtype, "vae": getattr(torch, options.vae_dtype)}
    if options.quantise != "none":
        backend, switch = BACKENDS[options.quantise]
        given["quantization_config"] = PipelineQuantizationConfig(
            quant_backend=backend, quant_kwargs={switch: True}, components_to_quantize=list(QUANTISED)
        )
    _, processor = parts.get("processor", (None, None))
    if processor is not None and not is_torchvision_available():
        given["processor"] = processor_class(processor).from_pretrained(options.path / "processor")
    return given


def _place(pipeline: DiffusionPipeline, options: config.Pipeline) -> None:
    """Move a pipeline to its GPU, or leave its parts in main memory until they are used."""
    device = best_device()
    # A process of its own sees the GPUs that are its own.
    gpu = options.gpu % max(1, torch.cuda.device_count())
    if device.type == "cpu":
        pipeline.to(device)
    elif options.offload == "none":
        pipeline.to(f"{device.type}:{gpu}")
    elif options.offload == "model":
        pipeline.enable_model_cpu_offload(gpu_id=gpu)
    else:
        pipeline.enable_sequential_cpu_offload(gpu_id=gpu)


def _levels(pictures: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Return pictures in [0, 1] as bytes."""
    return np.asarray((np.asarray(pictures, np.float32).clip(0, 1) * 255).round(), np.uint8)


def _takes_several(pipeline: LoadedPipeline) -> bool:
    """Tell whether an edit pipeline takes a list of pictures as several references."""
    return pipeline.name.startswith(("QwenImageEditPlus", "Flux2"))


def _first(pipeline: DiffusionPipeline, *names: str, default: int) -> int:
    return next((int(getattr(pipeline, name)) for name in names if hasattr(pipeline, name)), default)
