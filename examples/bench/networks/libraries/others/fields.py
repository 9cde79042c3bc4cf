"""Diffusion, and operators between fields of physics."""

from __future__ import annotations

from typing import Any

import torch

from examples.bench.networks.libraries.others.recipe import (
    Inputs,
    Recipe,
    image,
    lengths,
    named,
    normal,
    together,
    uniform,
)

STEPS = lengths(3, 7)


def _diffusers(name: str, inputs: Inputs, **options: Any) -> Recipe:
    return Recipe("diffusers", lambda m: getattr(m, name)(**options), inputs)


BLOCKS = {"block_out_channels": (32, 64), "layers_per_block": 1, "norm_num_groups": 8}
CROSSED = {
    "sample_size": 16,
    "cross_attention_dim": 32,
    "attention_head_dim": 4,
    **BLOCKS,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
}
VAE = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2, **BLOCKS}

NETWORKS = {
    "diffusers.unet2d": _diffusers(
        "UNet2DModel",
        together(image(16), STEPS),
        sample_size=16,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=8,
        **BLOCKS,
    ),
    "diffusers.unet2d_condition": _diffusers(
        "UNet2DConditionModel", together(image(16, 4), STEPS, normal(2, 5, 32)), **CROSSED
    ),
    "diffusers.controlnet": _diffusers(
        "ControlNetModel",
        named(sample=image(16, 4), timestep=STEPS, encoder_hidden_states=normal(2, 5, 32), controlnet_cond=image(128)),
        cross_attention_dim=32,
        attention_head_dim=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        conditioning_embedding_out_channels=(8, 16, 16, 32),
        **BLOCKS,
    ),
    "diffusers.autoencoder_kl": _diffusers("AutoencoderKL", image(32), latent_channels=4, **VAE),
    "diffusers.autoencoder_tiny": _diffusers(
        "AutoencoderTiny",
        image(32),
        encoder_block_out_channels=(16, 16),
        decoder_block_out_channels=(16, 16),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
    ),
    "diffusers.vq": _diffusers("VQModel", image(32), latent_channels=4, num_vq_embeddings=16, **VAE),
    "diffusers.dit": _diffusers(
        "DiTTransformer2DModel",
        named(hidden_states=image(8, 4), timestep=STEPS, class_labels=lengths(1, 2)),
        num_attention_heads=4,
        attention_head_dim=8,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        sample_size=8,
        norm_num_groups=8,
    ),
    "diffusers.pixart": _diffusers(
        "PixArtTransformer2DModel",
        named(hidden_states=image(8, 4), encoder_hidden_states=normal(2, 5, 32), timestep=STEPS),
        num_attention_heads=4,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_layers=2,
        cross_attention_dim=32,
        sample_size=8,
        caption_channels=32,
        norm_num_groups=8,
        use_additional_conditions=False,
    ),
    "diffusers.sd3": _diffusers(
        "SD3Transformer2DModel",
        named(
            hidden_states=image(8, 4),
            encoder_hidden_states=normal(2, 5, 32),
            pooled_projections=normal(2, 16),
            timestep=STEPS,
        ),
        sample_size=8,
        in_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=32,
        caption_projection_dim=32,
        pooled_projection_dim=16,
        out_channels=4,
        pos_embed_max_size=8,
    ),
    "diffusers.prior": _diffusers(
        "PriorTransformer",
        named(
            hidden_states=normal(2, 16),
            timestep=STEPS,
            proj_embedding=normal(2, 16),
            encoder_hidden_states=normal(2, 5, 16),
        ),
        num_attention_heads=4,
        attention_head_dim=8,
        num_layers=2,
        embedding_dim=16,
        num_embeddings=5,
        additional_embeddings=4,
    ),
    "diffusers.t5_film": _diffusers(
        "T5FilmDecoder",
        named(
            encodings_and_masks=lambda: [(torch.randn(2, 6, 32), torch.ones(2, 6))],
            decoder_input_tokens=normal(2, 8, 16),
            decoder_noise_time=uniform(2),
        ),
        input_dims=16,
        targets_length=8,
        d_model=32,
        num_layers=2,
        num_heads=4,
        d_kv=8,
        d_ff=64,
    ),
    "neuralop.fno": Recipe(
        "neuralop.models",
        lambda m: m.FNO(n_modes=(8, 8), in_channels=1, out_channels=1, hidden_channels=16, n_layers=2),
        normal(2, 1, 32, 32),
    ),
    "neuralop.fno1d": Recipe(
        "neuralop.models",
        lambda m: m.FNO(n_modes=(8,), in_channels=1, out_channels=1, hidden_channels=16, n_layers=2),
        normal(2, 1, 32),
    ),
    "neuralop.tfno": Recipe(
        "neuralop.models",
        lambda m: m.TFNO(n_modes=(8, 8), in_channels=1, out_channels=1, hidden_channels=16, n_layers=2, rank=0.5),
        normal(2, 1, 32, 32),
    ),
    "neuralop.uno": Recipe(
        "neuralop.models",
        lambda m: m.UNO(
            1,
            1,
            hidden_channels=16,
            uno_out_channels=[16, 16, 16],
            uno_n_modes=[[8, 8], [4, 4], [8, 8]],
            channel_mlp_skip="linear",
            uno_scalings=[[1.0, 1.0], [0.5, 0.5], [2.0, 2.0]],
            n_layers=3,
        ),
        normal(2, 1, 32, 32),
    ),
}
