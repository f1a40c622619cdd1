"""Whole diffusers pipelines of the real classes, with random weights, small enough for a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLCogVideoX,
    AutoencoderKLLTXVideo,
    AutoencoderKLWan,
    CogVideoXDDIMScheduler,
    CogVideoXImageToVideoPipeline,
    CogVideoXTransformer3DModel,
    FlowMatchEulerDiscreteScheduler,
    FluxKontextPipeline,
    FluxTransformer2DModel,
    LTXImageToVideoPipeline,
    LTXVideoTransformer3DModel,
    UniPCMultistepScheduler,
    WanImageToVideoPipeline,
    WanTransformer3DModel,
)
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
    UMT5Config,
    UMT5EncoderModel,
)


def tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of letters."""
    letters = {letter: place for place, letter in enumerate("abcdefghijklmnopqrstuvwxyz", start=3)}
    raw = Tokenizer(models.WordLevel({"<pad>": 0, "</s>": 1, "<unk>": 2, **letters}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=77
    )


def t5() -> T5EncoderModel:
    return T5EncoderModel(T5Config(vocab_size=40, d_model=16, d_kv=4, d_ff=32, num_layers=1, num_heads=4))


def wan_two_experts(path: Path, *, expand_timesteps: bool = False) -> Path:
    """Wan 2.2: two experts with ``boundary_ratio``, or one with ``expand_timesteps``."""
    torch.manual_seed(0)
    channels = 4 if expand_timesteps else 4 + 4 + 4

    def expert() -> WanTransformer3DModel:
        return WanTransformer3DModel(
            patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=channels,
            out_channels=4, text_dim=16, freq_dim=16, ffn_dim=32, num_layers=1,
        )  # fmt: skip

    umt5 = UMT5Config(vocab_size=40, d_model=16, d_kv=4, d_ff=32, num_layers=1, num_heads=4)
    WanImageToVideoPipeline(
        tokenizer=tokenizer(), text_encoder=UMT5EncoderModel(umt5),
        vae=AutoencoderKLWan(
            base_dim=4, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, latents_mean=[0.0] * 4,
            latents_std=[1.0] * 4,
        ),
        scheduler=UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        ),
        transformer=expert(), transformer_2=None if expand_timesteps else expert(),
        boundary_ratio=None if expand_timesteps else 0.9, expand_timesteps=expand_timesteps,
    ).save_pretrained(path)  # fmt: skip
    return path


def ltx(path: Path) -> Path:
    torch.manual_seed(0)
    LTXImageToVideoPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=AutoencoderKLLTXVideo(
            latent_channels=8, block_out_channels=(8, 8, 8, 8), decoder_block_out_channels=(8, 8, 8, 8),
            layers_per_block=(1, 1, 1, 1, 1), decoder_layers_per_block=(1, 1, 1, 1, 1),
            spatio_temporal_scaling=(True, True, False, False),
            decoder_spatio_temporal_scaling=(True, True, False, False),
            decoder_inject_noise=(False, False, False, False, False),
            upsample_residual=(False, False, False, False), upsample_factor=(1, 1, 1, 1),
            timestep_conditioning=False, patch_size=1, patch_size_t=1, encoder_causal=True,
            decoder_causal=False,
        ),
        text_encoder=t5(), tokenizer=tokenizer(),
        transformer=LTXVideoTransformer3DModel(
            in_channels=8, out_channels=8, num_attention_heads=2, attention_head_dim=8,
            cross_attention_dim=16, num_layers=1, caption_channels=16,
        ),
    ).save_pretrained(path)  # fmt: skip
    return path


def cogvideox(path: Path) -> Path:
    torch.manual_seed(0)
    CogVideoXImageToVideoPipeline(
        tokenizer=tokenizer(), text_encoder=t5(),
        vae=AutoencoderKLCogVideoX(
            in_channels=3, out_channels=3, down_block_types=("CogVideoXDownBlock3D",) * 4,
            up_block_types=("CogVideoXUpBlock3D",) * 4, block_out_channels=(8, 8, 8, 8),
            latent_channels=4, layers_per_block=1, norm_num_groups=2, temporal_compression_ratio=4,
        ),
        transformer=CogVideoXTransformer3DModel(
            num_attention_heads=2, attention_head_dim=16, in_channels=8, out_channels=4, time_embed_dim=2,
            text_embed_dim=16, num_layers=1, sample_width=2, sample_height=2, sample_frames=9, patch_size=2,
            temporal_compression_ratio=4, max_text_seq_length=226,
            use_rotary_positional_embeddings=True, use_learned_positional_embeddings=True,
        ),
        scheduler=CogVideoXDDIMScheduler(),
    ).save_pretrained(path)  # fmt: skip
    return path


def flux_transformer(**given: Any) -> FluxTransformer2DModel:
    return FluxTransformer2DModel(
        patch_size=1, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=16, pooled_projection_dim=32, axes_dims_rope=[4, 4, 8], **given,
    )  # fmt: skip


def flux_kontext(path: Path) -> Path:
    torch.manual_seed(0)
    clip = CLIPTextConfig(
        vocab_size=40, hidden_size=32, intermediate_size=37, num_hidden_layers=1, num_attention_heads=4,
        bos_token_id=0, eos_token_id=1, pad_token_id=1, projection_dim=32,
    )  # fmt: skip
    FluxKontextPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=AutoencoderKL(
            sample_size=32, in_channels=3, out_channels=3, block_out_channels=(4,), layers_per_block=1,
            latent_channels=1, norm_num_groups=1, use_quant_conv=False, use_post_quant_conv=False,
            shift_factor=0.0609, scaling_factor=1.5035,
        ),
        text_encoder=CLIPTextModel(clip), tokenizer=tokenizer(),
        text_encoder_2=t5(), tokenizer_2=tokenizer(),
        transformer=flux_transformer(in_channels=4),
    ).save_pretrained(path)  # fmt: skip
    return path
