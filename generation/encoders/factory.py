"""From the recipe to the classes of its family of states. Libraries are imported for the family in use."""

from __future__ import annotations

from pathlib import Path
from typing import assert_never

from safetensors.torch import load_file

from generation.config import Recipe, State
from generation.core.states import StateDecoder, StateEncoder, Statistics
from generation.encoders.geometry import SqueezedEncoder, StretchedDecoder
from pipeline.platform.config import ConfigError, load


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
    """The encoder of ``options.family``.

    Raises:
        ConfigError: ``state.tokens`` or ``state.width`` is not what the weights give.
    """
    encoder = _encoder(options)
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
        trained: folder of a trained decoder (``MODELS/decoder``), for imagenet, colour and clip_vae.

    Raises:
        ConfigError: the trained decoder is missing or is of other states; weights do not fit the options.
    """
    decoder = _decoder(options, trained)
    return decoder if options.aspect == 1 else StretchedDecoder(decoder, options.aspect)


def _decoder(options: State, trained: Path | None) -> StateDecoder:
    match options.family:
        case "clip_unclip":
            from generation.encoders.clip_unclip import UnclipDecoder

            return UnclipDecoder(options)
        case "clip_wan":
            from generation.encoders.clip_wan import WanDecoder

            return WanDecoder(options)
        case "vae":
            from generation.encoders.vae import VaeDecoder

            return VaeDecoder(options)
        case "imagenet" | "colour" | "clip_vae":
            return _trained(options, trained)
        case _:
            assert_never(options.family)


def _encoder(options: State) -> StateEncoder:
    match options.family:
        case "imagenet":
            from generation.encoders.imagenet import ImagenetEncoder

            return ImagenetEncoder()
        case "colour":
            from generation.encoders.colour import ColourEncoder

            return ColourEncoder()
        case "clip_unclip" | "clip_vae":
            from generation.encoders.clip import ClipPooledEncoder

            return ClipPooledEncoder(options)
        case "clip_wan":
            from generation.encoders.clip import ClipTokensEncoder

            return ClipTokensEncoder(options)
        case "vae":
            from generation.encoders.vae import VaeEncoder

            return VaeEncoder(options)
        case _:
            assert_never(options.family)


def _trained(options: State, folder: Path | None) -> StateDecoder:
    from generation.encoders.flow_decoder import FlowDecoder
    from generation.encoders.weights import best_device

    if folder is None or not (folder / "model.safetensors").is_file():
        raise ConfigError(
            f"the family {options.family} is painted by a decoder of its own, and there is none in "
            f"{folder or 'MODELS/decoder'}: run `videoauteur train decoder`"
        )
    recipe = load(folder / "recipe.yaml", (), Recipe).config
    for key in ("family", "tokens", "width", "picture_px", "aspect"):
        trained, asked = getattr(recipe.state, key), getattr(options, key)
        if trained != asked:
            raise ConfigError(f"{folder} was trained with state.{key}={trained}, the recipe says {asked}")
    decoder = FlowDecoder(recipe.decoder, options, Statistics.load(folder / "statistics.safetensors"))
    missing, unknown = decoder.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
    learned = {name for name, parameter in decoder.named_parameters() if parameter.requires_grad}
    if unknown or learned & set(missing):
        raise ConfigError(f"{folder}: model.safetensors is not of the decoder that recipe.yaml describes")
    return decoder.to(best_device()).eval()
