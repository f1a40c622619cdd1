"""Tiny networks of the real classes, saved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTokenizer,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
    VideoMAEConfig,
    VideoMAEImageProcessorPil,
    VideoMAEModel,
)

SIZE = {"height": 32, "width": 32}
SMALL: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}


def save_tiny_clip(folder: Path, *, siglip: bool = False) -> Path:
    """A random CLIP or SigLIP with a tokenizer of single letters; reads 24 tokens."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    vocabulary = ["<|endoftext|>", "<|startoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({word: place for place, word in enumerate(vocabulary)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    CLIPTokenizer.from_pretrained(folder).save_pretrained(folder)
    text = {**SMALL, "vocab_size": len(vocabulary), "max_position_embeddings": 24,
            "bos_token_id": 1, "eos_token_id": 0, "pad_token_id": 0}  # fmt: skip
    vision = {**SMALL, "image_size": 32, "patch_size": 8}
    torch.manual_seed(0)
    if siglip:
        SiglipModel(SiglipConfig(text_config=text, vision_config=vision)).save_pretrained(folder)
        SiglipImageProcessorPil(size=SIZE).save_pretrained(folder)
    else:
        CLIPModel(
            CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)
        ).save_pretrained(folder)  # fmt: skip
        CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=SIZE).save_pretrained(folder)
    return folder


def save_tiny_videomae(folder: Path) -> Path:
    config = VideoMAEConfig(
        **SMALL, image_size=32, patch_size=16, num_frames=4, tubelet_size=2,
        decoder_hidden_size=16, decoder_num_attention_heads=2, decoder_num_hidden_layers=1,
    )  # fmt: skip
    torch.manual_seed(0)
    VideoMAEModel(config).save_pretrained(folder)
    VideoMAEImageProcessorPil(size={"shortest_edge": 32}, crop_size=SIZE).save_pretrained(folder)
    return folder
