"""Tiny video pipelines of real classes, in folders as ``save_pretrained`` writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLLTXVideo,
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    LTXPipeline,
    LTXVideoTransformer3DModel,
    UniPCMultistepScheduler,
    WanPipeline,
    WanTransformer3DModel,
)
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel, UMT5Config, UMT5EncoderModel

WORDS = {"<pad>": 0, "</s>": 1, "<unk>": 2, "chop": 3, "onion": 4}
TEXT = {"vocab_size": 32, "d_model": 16, "d_kv": 4, "d_ff": 32, "num_layers": 1, "num_heads": 4}


def tokenizer() -> PreTrainedTokenizerFast:
    raw = Tokenizer(models.WordLevel(WORDS, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", unk_token="<unk>", eos_token="</s>", model_max_length=16
    )


def words_tokenizer(folder: Path) -> None:
    """A tokenizer of single characters that classes for BPE load as it is."""
    pieces = {
        character: number for number, character in enumerate(["</s>", *map(chr, range(32, 127)), "\n"])
    }
    tokenizer = Tokenizer(models.BPE(pieces, []))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>").save_pretrained(folder)


def wan_transformer(**given: Any) -> WanTransformer3DModel:
    sizes = {
        "num_attention_heads": 2, "attention_head_dim": 12, "in_channels": 4, "out_channels": 4,
        "text_dim": 16, "freq_dim": 16, "ffn_dim": 32, "num_layers": 2,
    }  # fmt: skip
    return WanTransformer3DModel(**{**sizes, **given})


def save_wan22(path: Path, *, experts: int = 2) -> Path:
    """Wan with one expert, or with two as in Wan 2.2 A14B."""
    torch.manual_seed(0)
    vae = AutoencoderKLWan(
        base_dim=4, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1,
        latents_mean=[0.0] * 4, latents_std=[1.0] * 4,
    )  # fmt: skip
    WanPipeline(
        tokenizer=tokenizer(),
        text_encoder=UMT5EncoderModel(UMT5Config(**TEXT)),
        vae=vae,
        scheduler=UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        ),
        transformer=wan_transformer(),
        transformer_2=wan_transformer() if experts == 2 else None,
        boundary_ratio=0.6 if experts == 2 else None,
    ).save_pretrained(path)
    return path


def save_ltx(path: Path) -> Path:
    """LTX-Video: 4 channels, 2 x 2 pixels and 2 frames to a latent place."""
    torch.manual_seed(0)
    vae = AutoencoderKLLTXVideo(
        in_channels=3, out_channels=3, latent_channels=4, block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8), layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1, 1),
        spatio_temporal_scaling=(True, True, False, False),
        decoder_spatio_temporal_scaling=(True, True, False, False),
        decoder_inject_noise=(False,) * 5, upsample_residual=(False,) * 4, upsample_factor=(1,) * 4,
        timestep_conditioning=False, patch_size=1, patch_size_t=1, encoder_causal=True,
        decoder_causal=False,
    )  # fmt: skip
    LTXPipeline(
        tokenizer=tokenizer(),
        text_encoder=T5EncoderModel(T5Config(**TEXT)),
        vae=vae,
        scheduler=FlowMatchEulerDiscreteScheduler(),
        transformer=LTXVideoTransformer3DModel(
            in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=12,
            cross_attention_dim=24, num_layers=2, caption_channels=16,
        ),
    ).save_pretrained(path)  # fmt: skip
    return path
