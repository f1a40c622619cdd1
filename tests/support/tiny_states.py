"""Tiny weights of the real classes, in the folders of the real pipelines."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLWan,
    DDIMScheduler,
    DDPMScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxFillPipeline,
    FluxPipeline,
    FluxPriorReduxPipeline,
    StableDiffusionXLPipeline,
    StableUnCLIPImg2ImgPipeline,
    UNet2DConditionModel,
    UniPCMultistepScheduler,
    WanTransformer3DModel,
)
from diffusers.models.embeddings import IPAdapterPlusImageProjection
from diffusers.pipelines.flux.modeling_flux import ReduxImageEncoder
from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import StableUnCLIPImageNormalizer
from safetensors.torch import save_file
from transformers import (
    CLIPImageProcessorPil,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModel,
    CLIPVisionModelWithProjection,
    SiglipImageProcessorPil,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from generation.encoders.clip_sdxl import ADAPTER, ADAPTER_FOLDER, ENCODER
from generation.encoders.siglip_flux import WITHOUT_TEXT
from tests.support.tiny_pipelines import flux_transformer

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
VOCABULARY = {token: i for i, token in enumerate(["<|startoftext|>", "<|endoftext|>", "a", "a</w>"])}
TEXT = CLIPTextConfig(
    vocab_size=len(VOCABULARY), hidden_size=32, intermediate_size=37, num_hidden_layers=2,
    num_attention_heads=4, projection_dim=PROJECTION, bos_token_id=0, eos_token_id=1, pad_token_id=1,
)  # fmt: skip


def autoencoder(shift_factor: float | None = None) -> AutoencoderKL:
    """Halves the side; 4 channels of latents."""
    return AutoencoderKL(
        block_out_channels=(32, 32),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=8,
        scaling_factor=0.5,
        shift_factor=shift_factor,
    ).eval()


def processor() -> CLIPImageProcessorPil:
    return CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})


def tokenizer() -> CLIPTokenizer:
    return CLIPTokenizer(vocab=VOCABULARY, merges=[], model_max_length=16)


def save_unclip(path: Path) -> Path:
    """A Stable unCLIP pipeline: CLIP to 16 numbers, pictures of a multiple of 2 px."""
    torch.manual_seed(0)
    StableUnCLIPImg2ImgPipeline(
        feature_extractor=processor(),
        image_encoder=CLIPVisionModelWithProjection(CLIPVisionConfig(**VISION)),
        image_normalizer=StableUnCLIPImageNormalizer(embedding_dim=PROJECTION),
        image_noising_scheduler=DDPMScheduler(beta_schedule="squaredcos_cap_v2"),
        tokenizer=tokenizer(),
        text_encoder=CLIPTextModel(TEXT),
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
        patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=36, out_channels=16,
        text_dim=16, freq_dim=32, ffn_dim=32, num_layers=2, image_dim=32, added_kv_proj_dim=24,
    ).save_pretrained(path / "transformer")  # fmt: skip
    UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    ).save_pretrained(path / "scheduler")
    return path


def save_flux(path: Path) -> tuple[Path, Path]:
    """FLUX.1 Redux with its SigLIP of 16 x 32, and FLUX.1 without text encoders, sides of 4 px."""
    torch.manual_seed(0)
    redux, flux = path / "redux", path / "flux"
    sizes = {key: value for key, value in VISION.items() if key != "projection_dim"}
    FluxPriorReduxPipeline(
        image_encoder=SiglipVisionModel(SiglipVisionConfig(**sizes)),
        feature_extractor=SiglipImageProcessorPil(size={"height": 32, "width": 32}),
        image_embedder=ReduxImageEncoder(redux_dim=32, txt_in_features=16),
    ).save_pretrained(redux)
    FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=autoencoder(shift_factor=0.1),
        transformer=flux_transformer(in_channels=16, guidance_embeds=True),
        **WITHOUT_TEXT,
    ).save_pretrained(flux)
    return redux, flux


def save_fill(path: Path) -> Path:
    """FLUX.1 Fill without text encoders, for the Redux of :func:`save_flux`; sides of 4 px."""
    torch.manual_seed(1)
    FluxFillPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=autoencoder(shift_factor=0.1),
        transformer=flux_transformer(in_channels=48, out_channels=16, guidance_embeds=True),
        **WITHOUT_TEXT,
    ).save_pretrained(path / "fill")
    return path / "fill"


def save_sdxl(path: Path) -> tuple[Path, Path]:
    """IP-Adapter-Plus with its CLIP of 17 x 32, and Stable Diffusion XL, sides of 8 px."""
    torch.manual_seed(0)
    adapter, sdxl = path / "ip-adapter", path / "sdxl"
    unet = UNet2DConditionModel(
        sample_size=16, block_out_channels=(32, 64), layers_per_block=1, norm_num_groups=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), attention_head_dim=(2, 4),
        use_linear_projection=True, cross_attention_dim=64, addition_embed_type="text_time",
        addition_time_embed_dim=8, projection_class_embeddings_input_dim=PROJECTION + 6 * 8,
    )  # fmt: skip
    StableDiffusionXLPipeline(
        vae=autoencoder(), unet=unet, scheduler=EulerDiscreteScheduler(beta_schedule="scaled_linear"),
        text_encoder=CLIPTextModel(TEXT), text_encoder_2=CLIPTextModelWithProjection(TEXT),
        tokenizer=tokenizer(), tokenizer_2=tokenizer(), add_watermarker=False,
    ).save_pretrained(sdxl)  # fmt: skip
    CLIPVisionModelWithProjection(CLIPVisionConfig(**VISION)).save_pretrained(adapter / ENCODER)
    (adapter / ADAPTER_FOLDER).mkdir()
    save_file(ip_adapter_plus(unet), adapter / ADAPTER_FOLDER / ADAPTER)
    return adapter, sdxl


def ip_adapter_plus(unet: UNet2DConditionModel) -> dict[str, torch.Tensor]:
    """Weights of IP-Adapter-Plus by the names that its authors gave them."""
    projection = IPAdapterPlusImageProjection(
        embed_dims=32, output_dims=64, hidden_dims=64, dim_head=64, heads=1, num_queries=4
    )
    names = {
        ".ln0": ".0.norm1", ".ln1": ".0.norm2", ".attn.to_q": ".0.to_q", ".attn.to_out.0": ".0.to_out",
        ".ff.0": ".1.0", ".ff.1.net.0.proj": ".1.1", ".ff.1.net.2": ".1.3",
    }  # fmt: skip
    found = {}
    for name, value in projection.state_dict().items():
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        found[f"image_proj.{name}"] = value
    for layer in range(len(projection.layers)):
        place = f"image_proj.layers.{layer}"
        keys, values = (found.pop(f"{place}.attn.to_{part}.weight") for part in "kv")
        found[f"{place}.0.to_kv.weight"] = torch.cat([keys, values])
    crossing = (name for name in unet.attn_processors if name.endswith("attn2.processor"))
    for number, name in enumerate(crossing):
        shape = unet.get_submodule(name.removesuffix(".processor")).to_k.weight.shape
        for part in "kv":
            found[f"ip_adapter.{2 * number + 1}.to_{part}_ip.weight"] = torch.randn(shape)
    return {name: value.contiguous() for name, value in found.items()}
