"""From the recipe to the classes of its family of states."""

from __future__ import annotations

from generation.config import State
from generation.states.base import StateEncoder
from pipeline.config import ConfigError


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
    return encoder


def _encoder(options: State) -> StateEncoder:
    from generation.states.imagenet import ImagenetEncoder

    return ImagenetEncoder()
