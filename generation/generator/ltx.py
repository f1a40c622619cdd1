"""LTX-Video."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from diffusers import LTXVideoTransformer3DModel
from torch import Tensor, nn

from generation.config import GeneratorSettings
from generation.encoders.codecs import VideoCodec
from generation.generator.backbone import Condition, VideoBackbone, show_states
from pipeline.platform.config import ConfigError

TIME_SCALE = 1000


class LtxBackbone(VideoBackbone):
    """LTX-Video's transformer: latents as a sequence, positions in seconds and pixels.

    A known first frame stands in the latents themselves, its tokens at time 0, as in diffusers'
    ``LTXImageToVideoPipeline``.

    Args:
        transformer: whose patches are single latent places.
        codec: of the latents.
        fps: frames a second of the clips.

    Raises:
        ConfigError: the transformer's channels do not fit the codec's.
    """

    clean_first_frame = True
    patch = (1, 1, 1)

    def __init__(self, transformer: LTXVideoTransformer3DModel, codec: VideoCodec, *, fps: float) -> None:
        super().__init__()
        self.transformer = transformer
        ltx = transformer.config
        if ltx.in_channels != codec.channels or (ltx.patch_size, ltx.patch_size_t) != (1, 1):
            raise ConfigError(
                f"generator.transformer.path: the transformer takes {ltx.in_channels} channels in patches "
                f"of {ltx.patch_size}; generator.codec gives {codec.channels}, in patches of 1"
            )
        self.channels, self.text_width = codec.channels, int(ltx.caption_channels)
        self._scale = (codec.temporal_stride / fps, codec.spatial_stride, codec.spatial_stride)

    @classmethod
    def load(cls, options: GeneratorSettings, codec: VideoCodec) -> LtxBackbone:
        """Load the transformer of a folder."""
        chosen = options.transformer
        transformer = LTXVideoTransformer3DModel.from_pretrained(
            chosen.path,
            local_files_only=True,
            use_safetensors=True,
            torch_dtype=getattr(torch, chosen.dtype),
        )
        return cls(transformer, codec, fps=options.fps)

    def transformers(self) -> Mapping[str, nn.Module]:
        """See :meth:`VideoBackbone.transformers`."""
        return {"transformer": self.transformer}

    def velocity(self, noisy: Tensor, t: Tensor, condition: Condition, unknown: Tensor | None) -> Tensor:
        """See :meth:`VideoBackbone.velocity`."""
        frames, rows, columns = noisy.shape[2:]
        times = (t * TIME_SCALE)[:, None].expand(-1, frames * rows * columns).clone()
        x = noisy
        if condition.known is not None:
            x = torch.cat([condition.known[:, :, :1].to(noisy), noisy[:, :, 1:]], dim=2)
            times[:, : rows * columns] = 0
        dtype = self.transformer.proj_in.weight.dtype
        show_states(self.transformer, condition)
        predicted: Tensor = self.transformer(
            hidden_states=x.flatten(2).transpose(1, 2).to(dtype),
            encoder_hidden_states=condition.text.to(dtype),
            timestep=times,
            encoder_attention_mask=condition.mask.to(dtype),
            num_frames=frames,
            height=rows,
            width=columns,
            rope_interpolation_scale=self._scale,
            return_dict=False,
        )[0]
        return predicted.float().transpose(1, 2).reshape(noisy.shape)
