"""Caption tokens: the last hidden states of a frozen text encoder."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForTextEncoding, AutoTokenizer, PreTrainedTokenizerBase

from generation import config
from generation.encoders.weights import loading
from models.weights import minilm
from pipeline.platform.config import ConfigError


class CaptionEncoder:
    """Captions to the last hidden states of a frozen text encoder, whose weights are read at first use.

    Args:
        path: folder of the encoder; its tokenizer lies in the same folder or, as in a diffusers pipeline,
            in ``tokenizer`` beside it.
        max_tokens: longer captions are cut.
        device: where it runs.

    Attributes:
        width: length of a token.
        max_tokens, device: as given; the device may be changed.
    """

    def __init__(self, path: Path, *, max_tokens: int, device: str | torch.device = "cpu") -> None:
        if not (path / "config.json").is_file():
            raise ConfigError(f"generator.text.path: {path} holds no config.json of a text encoder")
        self.max_tokens = max_tokens
        self.width = int(AutoConfig.from_pretrained(path, local_files_only=True).hidden_size)
        self.device = device
        self._path = path

    @functools.cached_property
    def _model(self) -> nn.Module:
        with loading(f"generator.text.path {self._path}"):
            model: nn.Module = AutoModelForTextEncoding.from_pretrained(
                self._path, local_files_only=True, use_safetensors=True, dtype="auto"
            )
        return model.eval().requires_grad_(False)

    @functools.cached_property
    def _tokenizer(self) -> PreTrainedTokenizerBase:
        beside = self._path.parent / "tokenizer"
        folder = beside if beside.is_dir() else self._path
        with loading(f"generator.text.path {self._path}"):
            return AutoTokenizer.from_pretrained(folder, local_files_only=True)

    @torch.inference_mode()
    def encode(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Encode each caption.

        Returns:
            float32 tokens ``[n, max_tokens, width]``, zero beyond a caption's end, and the mask
            ``[n, max_tokens]``, true within it. Both lie on the CPU.
        """
        read = self._tokenizer(
            [" ".join(caption.split()) for caption in captions],
            padding="max_length",
            max_length=self.max_tokens,
            truncation=True,
            return_tensors="pt",
        )
        mask = read["attention_mask"]
        model = self._model.to(self.device)
        hidden = model(
            input_ids=read["input_ids"].to(self.device), attention_mask=mask.to(self.device)
        ).last_hidden_state
        tokens = hidden.float().cpu() * mask[..., None]
        return tokens.clone(), mask.bool().clone()

    def encode_trimmed(self, captions: Sequence[str]) -> list[Tensor]:
        """Return bfloat16 tokens ``[length, width]`` of each caption, without padding."""
        tokens, mask = self.encode(captions)
        return [each[known].bfloat16() for each, known in zip(tokens, mask, strict=True)]


def load_text(options: config.TextEncoder, *, device: str | torch.device = "cpu") -> CaptionEncoder:
    """Return the recipe's text encoder: the packaged MiniLM, or a folder's (UMT5, T5, CLIP, BERT)."""
    return CaptionEncoder(options.path or minilm(), max_tokens=options.max_tokens, device=device)
