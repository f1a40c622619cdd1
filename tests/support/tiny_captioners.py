"""Tiny vision-language models of the classes that the captioner's recipes name, and examples to learn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLConfig,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

from generation.captioner.tiny import save_tiny

CAPTIONS = ("A cook cuts an onion.", "A cook stirs a soup.", "A pan stands on a stove.", "Eggs are beaten.")
TEXT: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 4096, "initializer_range": 0.1,
}  # fmt: skip
VISION: dict[str, Any] = {
    "depth": 2, "hidden_size": 32, "num_heads": 2, "intermediate_size": 32, "out_hidden_size": 32,
}  # fmt: skip
TOKENS = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")


def picture(level: int) -> bytes:
    """Return a grey JPEG."""
    _, jpeg = cv2.imencode(".jpg", np.full((56, 56, 3), level, np.uint8))
    return jpeg.tobytes()


def example(number: int, caption: str = "", frames: int = 2) -> dict[str, Any]:
    """Return one of four examples of two videos."""
    return {
        "clip_id": f"c{number}",
        "video_id": f"v{number % 2}",
        "frames": [picture(60 * number + 20 * place) for place in range(frames)],
        "instructions": "Describe the clip.",
        "material": '{"seconds": 5.0}',
        "caption": caption or CAPTIONS[number],
        "model": "m",
        "prompt": "caption@0",
    }


def save_qwen25_vl(folder: Path) -> Path:
    """Save a tiny Qwen2.5-VL with its processor."""
    config = Qwen2_5_VLConfig(
        text_config=TEXT | _vocabulary(folder) | _rotary(1, 1, 2),
        vision_config=VISION | {"patch_size": 14, "fullatt_block_indexes": [1], "window_size": 56},
        **_tokens(folder),
    )
    Qwen2_5_VLForConditionalGeneration(config).save_pretrained(folder)  # type: ignore[no-untyped-call]
    return folder


def save_qwen3_vl(folder: Path) -> Path:
    """Save a tiny Qwen3-VL with its processor, whose patches are of 16 pixels."""
    eyes = {"patch_size": 16, "deepstack_visual_indexes": [0], "num_position_embeddings": 64}
    config = Qwen3VLConfig(
        text_config=TEXT | _vocabulary(folder) | _rotary(2, 1, 1) | {"head_dim": 8},
        vision_config=VISION | eyes,
        **_tokens(folder),
    )
    Qwen3VLForConditionalGeneration(config).save_pretrained(folder)
    file = folder / "preprocessor_config.json"
    sizes = {"patch_size": 16, "min_pixels": 64 * 64, "max_pixels": 128 * 128}
    file.write_text(json.dumps(json.loads(file.read_text()) | sizes))
    return folder


def _tokens(folder: Path) -> dict[str, int]:
    base = Qwen2VLConfig.from_pretrained(folder)
    return {name: getattr(base, name) for name in TOKENS}


def _vocabulary(folder: Path) -> dict[str, int]:
    """Save the packaged twin, whose tokenizer and processor all classes share; return its vocabulary."""
    base = Qwen2VLConfig.from_pretrained(save_tiny(folder))
    (folder / "model.safetensors").unlink()
    return {"vocab_size": base.text_config.vocab_size}


def _rotary(*sections: int) -> dict[str, Any]:
    rotary = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": list(sections)}
    return {"rope_parameters": rotary}
