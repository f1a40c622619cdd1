"""From the recipe to the classes of its family of states. Libraries are imported for the family in use."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

from generation.config import Recipe, State
from generation.core.states import StateDecoder, StateEncoder, Statistics
from generation.core.tensors import read_tensors
from generation.encoders.geometry import SqueezedEncoder, StretchedDecoder
from pipeline.platform.config import ConfigError, load

if TYPE_CHECKING:
    from generation.encoders.trained_decoder import TrainedDecoder

WEIGHTS = "model.safetensors"
NewEncoder = Callable[[State], StateEncoder]
NewDecoder = Callable[[State], StateDecoder]


def state_identity(options: State) -> dict[str, object]:
    """Return what makes a visual state: two states with the same identity mean the same.

    Precision, and how pictures are made from a state, do not belong to it. The family is that of the
    encoder: two painters may share one.
    """
    encoder = "clip_pooled" if options.family in ("clip_unclip", "clip_vae") else options.family
    found: dict[str, object] = {
        "encoder": encoder, "path": None if options.path is None else str(options.path),
        "tokens": options.tokens, "width": options.width,
    }  # fmt: skip
    if options.aspect != 1:
        found["aspect"] = options.aspect
    # Latents of an autoencoder are of one size of picture.
    return found | ({"picture_px": options.picture_px} if options.family == "vae" else {})


def state_difference(one: State, other: State) -> str | None:
    """Return in what two visual states differ; None if models trained on them film together."""
    first, second = state_identity(one), state_identity(other)
    differing = [
        f"{key} {first.get(key)} and {second.get(key)}"
        for key in sorted(first.keys() | second.keys())
        if first.get(key) != second.get(key)
    ]
    return ", ".join(differing) or None


def load_encoder(options: State) -> StateEncoder:
    """Load the encoder of ``options.family``.

    Raises:
        ConfigError: the weights cannot be loaded, or give another number than ``state.tokens`` or
            ``state.width``.
    """
    new_encoder, _ = _classes(options)
    with _loading(options):
        encoder = new_encoder(options)
    if (options.tokens, options.width) != (encoder.tokens, encoder.width):
        raise ConfigError(
            f"state.tokens and state.width are {options.tokens} and {options.width}, but {encoder.name} "
            f"gives {encoder.tokens} and {encoder.width}: set state.tokens={encoder.tokens} and "
            f"state.width={encoder.width}"
        )
    return encoder if options.aspect == 1 else SqueezedEncoder(encoder, options.aspect)


def load_decoder(options: State, *, trained: Path | None) -> StateDecoder:
    """Load the decoder that paints states of ``options.family``.

    Args:
        options: of the states.
        trained: folder of a trained decoder (``MODELS/decoder``), for imagenet, colour and clip_vae; of
            siglip_flux, a trained one takes the place of FLUX.1 dev.

    Raises:
        ConfigError: the trained decoder is missing or is of other states; weights do not fit the options.
    """
    _, new_decoder = _classes(options)
    rolling = options.family == "siglip_flux" and trained is not None and (trained / WEIGHTS).is_file()
    with _loading(options):
        decoder = _trained(options, trained) if new_decoder is None or rolling else new_decoder(options)
    return decoder if options.aspect == 1 else StretchedDecoder(decoder, options.aspect)


def _loading(options: State) -> AbstractContextManager[None]:
    # With PyTorch, which takes a second to import.
    from generation.encoders.weights import loading

    folders = {"state.path": options.path, "state.base": options.base}
    return loading(", ".join(f"{key} {folder}" for key, folder in folders.items() if folder) or "state")


def _classes(options: State) -> tuple[NewEncoder, NewDecoder | None]:
    """Return what makes encoder and decoder of a family; None for a decoder that the project trains."""
    match options.family:
        case "imagenet":
            from generation.encoders.imagenet import ImagenetEncoder

            return lambda options: ImagenetEncoder(), None
        case "colour":
            from generation.encoders.colour import ColourEncoder

            return lambda options: ColourEncoder(), None
        case "vae":
            from generation.encoders.vae import VaeDecoder, VaeEncoder

            return VaeEncoder, VaeDecoder
        case "clip_unclip":
            from generation.encoders.clip import ClipPooledEncoder
            from generation.encoders.clip_unclip import UnclipDecoder

            return ClipPooledEncoder, UnclipDecoder
        case "clip_vae":
            from generation.encoders.clip import ClipPooledEncoder

            return ClipPooledEncoder, None
        case "clip_wan":
            from generation.encoders.clip import ClipTokensEncoder
            from generation.encoders.clip_wan import WanDecoder

            return ClipTokensEncoder, WanDecoder
        case "clip_sdxl":
            from generation.encoders.clip_sdxl import IpAdapterDecoder, IpAdapterEncoder

            return IpAdapterEncoder, IpAdapterDecoder
        case "siglip_flux":
            from generation.encoders.siglip_flux import ReduxDecoder, SiglipEncoder

            return SiglipEncoder, ReduxDecoder
        case _:
            assert_never(options.family)


def _trained(options: State, folder: Path | None) -> StateDecoder:
    from generation.encoders.weights import best_device

    if folder is None or not (folder / WEIGHTS).is_file():
        raise ConfigError(
            f"the family {options.family} is painted by a decoder of its own, and there is none in "
            f"{folder or 'MODELS/decoder'}: run `videoauteur train decoder`"
        )
    recipe = load(folder / "recipe.yaml", (), Recipe).config
    # The rolling decoder's pictures have a size of their own, four of them being one picture of FLUX.
    sizes = ("picture_px",) if recipe.decoder.rolling is None else ()
    for key in ("family", "tokens", "width", *sizes, "aspect"):
        trained, asked = getattr(recipe.state, key), getattr(options, key)
        if trained != asked:
            raise ConfigError(f"{folder} was trained with state.{key}={trained}, the recipe says {asked}")
    decoder = _untrained(recipe, Statistics.load(folder / "statistics.safetensors"))
    missing, unknown = decoder.load_state_dict(read_tensors(folder / WEIGHTS), strict=False)
    learned = {name for name, parameter in decoder.named_parameters() if parameter.requires_grad}
    if unknown or learned & set(missing):
        raise ConfigError(f"{folder}: model.safetensors is not of the decoder that recipe.yaml describes")
    return decoder.to(best_device()).eval()


def _untrained(recipe: Recipe, statistics: Statistics) -> TrainedDecoder:
    if recipe.decoder.rolling is not None:
        from generation.encoders.rolling import RollingDecoder

        return RollingDecoder(recipe.decoder, recipe.state, statistics)
    from generation.encoders.flow_decoder import FlowDecoder

    return FlowDecoder(recipe.decoder, recipe.state, statistics)
