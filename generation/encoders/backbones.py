"""Causal language models as the director drives them: embeddings in, hidden states and logits out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from diffusers.training_utils import cast_training_params
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
    ByT5Tokenizer,
    LlamaConfig,
)

from generation.config import Backbone, Lora
from generation.encoders.weights import loading
from models import weights

BYTES = 256


@dataclass(frozen=True, slots=True)
class Language:
    """A language model in its parts.

    Attributes:
        model: holds all weights.
        decoder: takes ``inputs_embeds [n, length, width]``, gives ``last_hidden_state`` and a cache.
        embedding: token numbers to vectors.
        head: hidden states to logits.
        tokenizer: text to token numbers.
        width: of the hidden states.
        end: number of the token that ends a text.
        start: tokens that the tokenizer puts before a text by itself, such as BOS.
    """

    model: nn.Module
    decoder: nn.Module
    embedding: nn.Embedding
    head: nn.Linear
    tokenizer: Any
    width: int
    end: int
    start: list[int]

    def ids(self, text: str) -> list[int]:
        """Return the numbers of a text's tokens, with nothing added."""
        return cast(list[int], self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def words(self, ids: Sequence[int]) -> str:
        """Return the text of token numbers."""
        return cast(str, self.tokenizer.decode(list(ids), skip_special_tokens=True)).strip()

    def logits(self, hidden: Tensor) -> Tensor:
        """Return float32 logits ``[..., vocabulary]`` of hidden states ``[..., width]``."""
        return cast(Tensor, self.head(hidden.to(self.head.weight.dtype)).float())


def load_backbone(options: Backbone) -> Language:
    """Load the language model that the options name; what is trained requires gradients."""
    dtype = getattr(torch, options.dtype)
    model: Any
    tokenizer: Any
    if options.kind == "scratch":
        tokenizer = ByT5Tokenizer(extra_ids=0)
        config = LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=options.width, intermediate_size=4 * options.width,
            num_hidden_layers=options.layers, num_attention_heads=options.heads,
            tie_word_embeddings=True, pad_token_id=tokenizer.pad_token_id,
            bos_token_id=None, eos_token_id=tokenizer.eos_token_id,
        )  # fmt: skip
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)  # type: ignore[no-untyped-call]
    elif options.kind == "smollm2":
        file = weights.smollm2()
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
        model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=dtype)
    else:
        assert options.path is not None
        with loading(f"director.backbone.path {options.path}"):
            tokenizer = AutoTokenizer.from_pretrained(options.path)
            several = getattr(AutoConfig.from_pretrained(options.path), "vision_config", None) is not None
            auto = AutoModelForImageTextToText if several else AutoModelForCausalLM
            model = auto.from_pretrained(options.path, dtype=dtype, use_safetensors=True)
    decoder = _language_half(model)
    if options.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    model.requires_grad_(False)
    head = model.get_output_embeddings()
    if options.train == "full":
        decoder.requires_grad_(True)
        head.requires_grad_(True)
    elif options.train == "lora":
        inject_adapter_in_model(lora_config(options.lora), decoder)
        # In bfloat16 a third of the updates at 2e-4 are rounded away.
        cast_training_params(decoder, dtype=torch.float32)
    end = tokenizer.eos_token_id
    width = model.get_input_embeddings().weight.shape[1]
    return Language(
        model, decoder, model.get_input_embeddings(), head, tokenizer, width, end, _start(tokenizer)
    )


def lora_config(options: Lora) -> LoraConfig:
    """Return the same adapters for language models and diffusers transformers."""
    targets = options.targets if isinstance(options.targets, str) else list(options.targets)
    return LoraConfig(
        r=options.rank, lora_alpha=options.alpha, lora_dropout=options.dropout, target_modules=targets
    )


def add_lora(transformer: Any, options: Lora) -> Any:
    """Freeze a diffusers transformer, give it adapters to train, and return it."""
    transformer.requires_grad_(False)
    transformer.add_adapter(lora_config(options))
    # Small updates are lost in bfloat16.
    cast_training_params(transformer, dtype=torch.float32)
    return transformer


def choose(logits: Tensor, temperature: float, top_p: float, random: torch.Generator) -> int:
    """Return the most probable token at temperature 0, else one drawn from the nucleus."""
    if temperature == 0:
        return int(logits.argmax())
    probability, order = (logits.cpu() / temperature).softmax(0).sort(descending=True)
    before = probability.cumsum(0) - probability
    nucleus = probability.where(before < top_p, 0)
    return int(order[int(torch.multinomial(nucleus, 1, generator=random))])


def _start(tokenizer: Any) -> list[int]:
    """Return the special tokens before a text; Llama and Gemma were trained with one, Qwen without."""
    whole, bare = (tokenizer("a", add_special_tokens=special)["input_ids"] for special in (True, False))
    starts = (at for at in range(len(whole)) if whole[at : at + len(bare)] == bare)
    return cast(list[int], whole[: next(starts, 0)])


def _language_half(model: Any) -> nn.Module:
    """Return the text decoder; a director shows a vision-language model no pictures."""
    inner = model.model
    half: nn.Module = getattr(inner, "language_model", inner)
    return half
