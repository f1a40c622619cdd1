"""A tiny vision-language model of a real class, with random weights.

It goes through the same code as Qwen2-VL's checkpoints do - processor, chat template, training, vLLM - in
seconds on a processor, and says nothing of sense. Its byte-level tokenizer is learned from the project's
own prompts, so that nothing needs to be downloaded.

``python -m generation.captioner.tiny FOLDER`` saves one.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, cast

import torch
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, trainers
from transformers import GenerationConfig, Qwen2Tokenizer, Qwen2VLConfig, Qwen2VLForConditionalGeneration

PROMPTS = Path(__file__).parents[2] / "stages" / "prompts"
VOCABULARY = 1024
SPECIAL = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
    "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
PICTURES = {
    "processor_class": "Qwen2VLProcessor",
    "image_processor_type": "Qwen2VLImageProcessor",
    "min_pixels": 56 * 56,
    "max_pixels": 112 * 112,
    "patch_size": 14,
    "temporal_patch_size": 2,
    "merge_size": 2,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
"""How pictures are read: as Qwen2-VL does, but with 16 tokens at most for each."""
CONTEXT_TOKENS = 4096
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] in ('image', 'image_url') %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif part['type'] in ('video', 'video_url') %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif 'text' in part %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Qwen2-VL's form of a conversation."""


def save_tiny(folder: Path, *, seed: int = 0) -> Path:
    """Write model, processor and generation settings as they lie on the hub; returns the folder.

    Args:
        seed: of the weights.
    """
    tokenizer = _tokenizer()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model: Any = Qwen2VLForConditionalGeneration(_config(tokenizer))  # type: ignore[no-untyped-call]
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=False, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    # A Qwen2VLProcessor can be built only where torchvision is, because of its videos; its file holds this.
    (folder / "preprocessor_config.json").write_text(json.dumps(PICTURES, indent=1), encoding="utf-8")
    return folder


def _config(tokenizer: Qwen2Tokenizer) -> Qwen2VLConfig:
    number = tokenizer.get_vocab()
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    return Qwen2VLConfig(
        # The sections of the rotary embedding add up to half a head.
        text_config={
            "vocab_size": len(tokenizer), "hidden_size": 128, "intermediate_size": 256,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
            "max_position_embeddings": CONTEXT_TOKENS, "bos_token_id": None, **ends,
            # The embedding, which is the head too, stays frozen under LoRA: it must tell tokens apart.
            "initializer_range": 0.1,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4, 6, 6]},
        },
        vision_config={"depth": 2, "embed_dim": 64, "hidden_size": 128, "num_heads": 2, "mlp_ratio": 2},
        image_token_id=number["<|image_pad|>"],
        video_token_id=number["<|video_pad|>"],
        vision_start_token_id=number["<|vision_start|>"],
        vision_end_token_id=number["<|vision_end|>"],
        tie_word_embeddings=True,
        dtype="float32",
    )  # fmt: skip


def _tokenizer() -> Qwen2Tokenizer:
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    learned = Tokenizer(models.BPE())
    learned.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    texts = [file.read_text(encoding="utf-8") for file in sorted(PROMPTS.glob("*.txt"))]
    learned.train_from_iterator(texts, trainer)
    pieces = json.loads(learned.to_str())["model"]
    tokenizer = Qwen2Tokenizer(
        vocab=pieces["vocab"],
        merges=cast(list[str], [tuple(pair) for pair in pieces["merges"]]),
        eos_token="<|im_end|>",
        model_max_length=CONTEXT_TOKENS,
    )
    tokenizer.add_tokens([AddedToken(token, special=True) for token in SPECIAL])
    tokenizer.chat_template = CHAT
    return tokenizer


def main() -> None:
    """Save a tiny random Qwen2-VL."""
    parser = argparse.ArgumentParser(prog="python -m generation.captioner.tiny", description=main.__doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the weights (%(default)s)")
    arguments = parser.parse_args()
    print(save_tiny(arguments.folder, seed=arguments.seed))


if __name__ == "__main__":
    main()
