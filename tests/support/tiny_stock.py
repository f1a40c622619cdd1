"""Tiny pipelines of the classes that the stock recipes name, in folders as they lie on the hub.

The hub's folders of Wan 2.2 TI2V and LTX-2 name the text-to-video class, although their weights render from
pictures too; so do these.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLHunyuanVideo15,
    AutoencoderKLLTX2Audio,
    AutoencoderKLLTX2Video,
    AutoencoderKLQwenImage,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideo15ImageToVideoPipeline,
    HunyuanVideo15Transformer3DModel,
    LTX2Pipeline,
    LTX2VideoTransformer3DModel,
    QwenImageEditPlusPipeline,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    WanPipeline,
)
from diffusers.guiders import ClassifierFreeGuidance
from diffusers.pipelines.ltx2 import LTX2TextConnectors
from diffusers.pipelines.ltx2.vocoder import LTX2Vocoder
from transformers import (
    AutoTokenizer,
    ByT5Tokenizer,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Qwen2_5_VLForConditionalGeneration,
    SiglipImageProcessorPil,
    SiglipVisionConfig,
    SiglipVisionModel,
    T5Config,
    T5EncoderModel,
)

from generation.captioner.conversation import load_processor
from tests.support.tiny_captioners import save_qwen25_vl
from tests.support.tiny_pipelines import tokenizer, wan_two_experts

HIDDEN = 32
"""Width of the tiny language models."""


def wan_ti2v(path: Path) -> Path:
    """Save Wan 2.2 TI2V."""
    wan_two_experts(path, expand_timesteps=True)
    WanPipeline.from_pretrained(path, expand_timesteps=True).save_pretrained(path)
    return path


def ltx2(path: Path) -> Path:
    """Save LTX-2: pictures and sound."""
    torch.manual_seed(0)
    text: dict[str, Any] = {
        "vocab_size": 40, "hidden_size": HIDDEN, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16,
    }  # fmt: skip
    eyes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
            "image_size": 28, "patch_size": 14}  # fmt: skip
    gemma = Gemma3Config(text_config=text, vision_config=eyes, image_token_index=39, mm_tokens_per_image=4)
    audio = AutoencoderKLLTX2Audio(
        base_channels=4, output_channels=2, ch_mult=(1,), num_res_blocks=1, attn_resolutions=None,
        in_channels=2, resolution=32, latent_channels=2, norm_type="pixel", causality_axis="height",
        mid_block_add_attention=False, mel_bins=8,
    )  # fmt: skip
    connectors = {
        f"{kind}_connector_{name}": value
        for kind in ("video", "audio")
        for name, value in {"num_attention_heads": 4, "attention_head_dim": 8, "num_layers": 1,
                            "num_learnable_registers": None}.items()
    }  # fmt: skip
    LTX2Pipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(), audio_vae=audio, tokenizer=tokenizer(),
        text_encoder=Gemma3ForConditionalGeneration(gemma),
        vae=AutoencoderKLLTX2Video(
            latent_channels=4, block_out_channels=(8,), decoder_block_out_channels=(8,),
            layers_per_block=(1,), decoder_layers_per_block=(1, 1), spatio_temporal_scaling=(True,),
            decoder_spatio_temporal_scaling=(True,), decoder_inject_noise=(False, False),
            downsample_type=("spatial",), upsample_residual=(False,), upsample_factor=(1,), patch_size=1,
        ),
        connectors=LTX2TextConnectors(
            caption_channels=HIDDEN, text_proj_in_factor=3, connector_rope_base_seq_len=32,
            rope_theta=10_000.0, rope_double_precision=False, causal_temporal_positioning=False,
            rope_type="split", **connectors,
        ),
        transformer=LTX2VideoTransformer3DModel(
            in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=8,
            cross_attention_dim=16, audio_in_channels=4, audio_out_channels=4, audio_num_attention_heads=2,
            audio_attention_head_dim=4, audio_cross_attention_dim=8, num_layers=2, caption_channels=HIDDEN,
            rope_double_precision=False, rope_type="split",
        ),
        vocoder=LTX2Vocoder(
            in_channels=16, hidden_channels=32, upsample_kernel_sizes=[4, 4], upsample_factors=[2, 2],
            resnet_kernel_sizes=[3], resnet_dilations=[[1, 3, 5]], output_sampling_rate=16_000,
        ),
    ).save_pretrained(path)  # fmt: skip
    return path


def hunyuan15(path: Path) -> Path:
    """Save HunyuanVideo 1.5, image to video; sizes come from the picture."""
    torch.manual_seed(0)
    language = Qwen2_5_VLForConditionalGeneration.from_pretrained(save_qwen25_vl(path / "language"))
    siglip = SiglipVisionConfig(
        hidden_size=12, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=16,
        patch_size=8,
    )  # fmt: skip
    t5 = T5Config(vocab_size=384, d_model=24, d_kv=4, d_ff=32, num_layers=1, num_heads=4)
    HunyuanVideo15ImageToVideoPipeline(
        text_encoder=language.model.language_model,
        tokenizer=AutoTokenizer.from_pretrained(path / "language"),
        transformer=HunyuanVideo15Transformer3DModel(
            in_channels=9, out_channels=4, num_attention_heads=2, attention_head_dim=8, num_layers=1,
            num_refiner_layers=1, mlp_ratio=2.0, text_embed_dim=HIDDEN, text_embed_2_dim=24,
            image_embed_dim=12, rope_axes_dim=(2, 2, 4), target_size=16,
        ),
        vae=AutoencoderKLHunyuanVideo15(
            latent_channels=4, block_out_channels=(16, 16), layers_per_block=1, spatial_compression_ratio=4,
            temporal_compression_ratio=2, downsample_match_channel=False, upsample_match_channel=False,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0), text_encoder_2=T5EncoderModel(t5),
        tokenizer_2=ByT5Tokenizer(), guider=ClassifierFreeGuidance(guidance_scale=2.0),
        image_encoder=SiglipVisionModel(siglip),
        feature_extractor=SiglipImageProcessorPil(size={"height": 16, "width": 16}),
    ).save_pretrained(path)  # fmt: skip
    return path


def qwen_image(path: Path) -> Path:
    """Save Qwen-Image, text to image."""
    QwenImagePipeline(**_qwen_parts(path)).save_pretrained(path)
    return path


def qwen_image_edit(path: Path) -> Path:
    """Save Qwen-Image-Edit 2509 and later, which see several pictures."""
    parts = _qwen_parts(path)
    processor = load_processor(path / "language")
    QwenImageEditPlusPipeline(**parts, processor=processor).save_pretrained(path)
    # The class is a variant without videos where torchvision is missing; the hub names the whole one.
    index = json.loads((path / "model_index.json").read_text())
    index["processor"] = ["transformers", "Qwen2VLProcessor"]
    (path / "model_index.json").write_text(json.dumps(index))
    return path


def _qwen_parts(path: Path) -> dict[str, Any]:
    torch.manual_seed(0)
    folder = save_qwen25_vl(path / "language")
    return {
        "scheduler": FlowMatchEulerDiscreteScheduler(),
        "vae": AutoencoderKLQwenImage(
            base_dim=8, z_dim=4, dim_mult=[1, 2, 4], num_res_blocks=1, temperal_downsample=[False, True],
            latents_mean=[0.0] * 4, latents_std=[1.0] * 4,
        ),
        "text_encoder": Qwen2_5_VLForConditionalGeneration.from_pretrained(folder),
        "tokenizer": AutoTokenizer.from_pretrained(folder),
        "transformer": QwenImageTransformer2DModel(
            patch_size=2, in_channels=16, out_channels=4, num_layers=1, attention_head_dim=16,
            num_attention_heads=2, joint_attention_dim=HIDDEN, axes_dims_rope=(8, 4, 4),
        ),
    }  # fmt: skip
