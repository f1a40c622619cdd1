"""Tiny weights of the real classes, in the folders of the real pipelines."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLWan,
    DDIMScheduler,
    DDPMScheduler,
    StableUnCLIPImg2ImgPipeline,
    UNet2DConditionModel,
    UniPCMultistepScheduler,
    WanTransformer3DModel,
)
from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import StableUnCLIPImageNormalizer
from transformers import (
    CLIPImageProcessorPil,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModel,
    CLIPVisionModelWithProjection,
)

PROJECTION = 16
VISION = {
    "hidden_size": 32,
    "intermediate_size": 37,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 8,
    "projection_dim": PROJECTION,
}


def autoencoder() -> AutoencoderKL:
    """Halves the side; 4 channels of latents."""
    return AutoencoderKL(
        block_out_channels=(32, 32),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=8,
        scaling_factor=0.5,
    ).eval()


def processor() -> CLIPImageProcessorPil:
    return CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})


def save_unclip(path: Path) -> Path:
    """A Stable unCLIP pipeline: CLIP to 16 numbers, pictures of a multiple of 2 px."""
    torch.manual_seed(0)
    vocabulary = {token: i for i, token in enumerate(["<|startoftext|>", "<|endoftext|>", "a", "a</w>"])}
    text = CLIPTextConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        intermediate_size=37,
        num_hidden_layers=1,
        num_attention_heads=4,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    StableUnCLIPImg2ImgPipeline(
        feature_extractor=processor(),
        image_encoder=CLIPVisionModelWithProjection(CLIPVisionConfig(**VISION)),
        image_normalizer=StableUnCLIPImageNormalizer(embedding_dim=PROJECTION),
        image_noising_scheduler=DDPMScheduler(beta_schedule="squaredcos_cap_v2"),
        tokenizer=CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=16),
        text_encoder=CLIPTextModel(text),
        unet=UNet2DConditionModel(
            sample_size=16,
            in_channels=4,
            out_channels=4,
            block_out_channels=(32, 64),
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            attention_head_dim=(2, 4),
            cross_attention_dim=32,
            layers_per_block=1,
            class_embed_type="projection",
            projection_class_embeddings_input_dim=2 * PROJECTION,
            norm_num_groups=8,
        ),
        scheduler=DDIMScheduler(
            beta_schedule="scaled_linear", prediction_type="v_prediction", clip_sample=False, steps_offset=1
        ),
        vae=autoencoder(),
    ).save_pretrained(path)
    return path


def save_wan(path: Path) -> Path:
    """The parts of a Wan 2.1 image-to-video pipeline that paint: CLIP of 17 x 32, sides of 16 px."""
    torch.manual_seed(0)
    CLIPVisionModel(CLIPVisionConfig(**VISION)).save_pretrained(path / "image_encoder")
    processor().save_pretrained(path / "image_processor")
    AutoencoderKLWan(
        base_dim=4,
        z_dim=16,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
    ).save_pretrained(path / "vae")
    WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=36,
        out_channels=16,
        text_dim=16,
        freq_dim=32,
        ffn_dim=32,
        num_layers=2,
        image_dim=32,
        added_kv_proj_dim=24,
    ).save_pretrained(path / "transformer")
    UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    ).save_pretrained(path / "scheduler")
    return path
