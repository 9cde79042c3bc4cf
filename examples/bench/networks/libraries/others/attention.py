"""Variants of transformers and of what stands in for attention, most of them written with einops."""

from __future__ import annotations

from typing import Any

import torch

from examples.bench.networks.libraries.others.recipe import (
    Recipe,
    image,
    integers,
    named,
    normal,
    together,
)

VIT = {"image_size": 32, "patch_size": 8, "num_classes": 10, "dim": 64, "depth": 2, "heads": 4, "mlp_dim": 128}
WORDS = integers(99, 2, 16)


def _vit(file: str, name: str, inputs: Any = None, drop: str = "", **options: Any) -> Recipe:
    kept = {key: value for key, value in VIT.items() if key not in drop.split()}
    return Recipe(f"vit_pytorch.{file}", lambda m: getattr(m, name)(**{**kept, **options}), inputs or image(32))


def _language(**options: Any) -> Recipe:
    def make(m: Any) -> torch.nn.Module:
        layers = m.Decoder(dim=64, depth=2, heads=4, attn_dim_head=16, **options)
        network: torch.nn.Module = m.TransformerWrapper(num_tokens=99, max_seq_len=32, attn_layers=layers)
        return network

    return Recipe("x_transformers", make, WORDS)


NETWORKS = {
    "vit_pytorch.vit": _vit("vit", "ViT"),
    "vit_pytorch.simple_vit": _vit("simple_vit", "SimpleViT"),
    "vit_pytorch.deepvit": _vit("deepvit", "DeepViT"),
    "vit_pytorch.cait": _vit("cait", "CaiT", cls_depth=1),
    "vit_pytorch.t2t": _vit("t2t", "T2TViT", image(64), drop="patch_size", image_size=64),
    "vit_pytorch.cct": Recipe(
        "vit_pytorch.cct",
        lambda m: m.CCT(
            img_size=32,
            embedding_dim=64,
            n_conv_layers=1,
            num_layers=2,
            num_heads=4,
            mlp_ratio=2.0,
            num_classes=10,
            positional_embedding="learnable",
        ),
        image(32),
    ),
    "vit_pytorch.cvt": Recipe(
        "vit_pytorch.cvt",
        lambda m: m.CvT(
            num_classes=10,
            s1_emb_dim=16,
            s2_emb_dim=32,
            s3_emb_dim=48,
            s1_depth=1,
            s2_depth=1,
            s3_depth=1,
            s2_heads=2,
            s3_heads=3,
        ),
        image(64),
    ),
    "vit_pytorch.twins_svt": Recipe(
        "vit_pytorch.twins_svt",
        lambda m: m.TwinsSVT(
            num_classes=10,
            s1_emb_dim=16,
            s2_emb_dim=32,
            s3_emb_dim=48,
            s4_emb_dim=64,
            s1_local_patch_size=2,
            s2_local_patch_size=2,
            s3_local_patch_size=2,
            s4_local_patch_size=1,
            s3_depth=1,
            s1_global_k=2,
            s2_global_k=2,
            s3_global_k=2,
            s4_global_k=1,
        ),
        image(64),
    ),
    "vit_pytorch.mobile_vit": Recipe(
        "vit_pytorch.mobile_vit",
        lambda m: m.MobileViT(
            image_size=(64, 64), dims=[32, 48, 64], num_classes=10, channels=[8, 16, 24, 24, 32, 32, 48, 48, 64, 64, 96]
        ),
        image(64),
    ),
    "vit_pytorch.xcit": _vit("xcit", "XCiT", cls_depth=1),
    "vit_pytorch.max_vit": Recipe(
        "vit_pytorch.max_vit",
        lambda m: m.MaxViT(num_classes=10, dim_conv_stem=16, dim=32, dim_head=16, depth=(1, 1), window_size=4),
        image(64),
    ),
    "vit_pytorch.parallel_vit": _vit("parallel_vit", "ViT"),
    "vit_pytorch.vit_3d": _vit(
        "vit_3d",
        "ViT",
        normal(2, 1, 8, 32, 32),
        drop="patch_size",
        frames=8,
        image_patch_size=8,
        frame_patch_size=4,
        channels=1,
    ),
    "vit_pytorch.vit_1d": Recipe(
        "vit_pytorch.vit_1d",
        lambda m: m.ViT(seq_len=64, patch_size=8, num_classes=10, dim=64, depth=2, heads=4, mlp_dim=128),
        normal(2, 3, 64),
    ),
    "vit_pytorch.vit_for_small_dataset": _vit("vit_for_small_dataset", "ViT"),
    "vit_pytorch.simple_vit_register_tokens": _vit("simple_vit_with_register_tokens", "SimpleViT"),
    "vit_pytorch.simple_vit_qk_norm": _vit("simple_vit_with_qk_norm", "SimpleViT"),
    "vit_pytorch.vivit": _vit(
        "vivit",
        "ViViT",
        normal(2, 3, 8, 32, 32),
        drop="patch_size depth",
        frames=8,
        image_patch_size=8,
        frame_patch_size=4,
        spatial_depth=1,
        temporal_depth=1,
    ),
    "vit_pytorch.crossformer": Recipe(
        "vit_pytorch.crossformer",
        lambda m: m.CrossFormer(
            num_classes=10,
            dim=(32, 32, 64, 64),
            depth=(1, 1, 1, 1),
            global_window_size=(2, 2, 2, 1),
            local_window_size=2,
        ),
        image(64),
    ),
    "x_transformers.decoder": _language(),
    "x_transformers.rotary_glu": _language(rotary_pos_emb=True, ff_glu=True, use_rmsnorm=True),
    "x_transformers.alibi": _language(alibi_pos_bias=True),
    "x_transformers.t5_bias": _language(rel_pos_bias=True, use_simple_rmsnorm=True),
    "x_transformers.talking_heads": _language(attn_pre_talking_heads=True, attn_post_talking_heads=True),
    "x_transformers.qk_norm": _language(attn_qk_norm=True, attn_kv_heads=2),
    "x_transformers.encoder": Recipe(
        "x_transformers",
        lambda m: m.ContinuousTransformerWrapper(
            dim_in=16, dim_out=8, max_seq_len=32, attn_layers=m.Encoder(dim=64, depth=2, heads=4)
        ),
        normal(2, 16, 16),
    ),
    "x_transformers.vit": Recipe(
        "x_transformers",
        lambda m: m.ViTransformerWrapper(
            image_size=32, patch_size=8, num_classes=10, attn_layers=m.Encoder(dim=64, depth=2, heads=4)
        ),
        image(32),
    ),
    "perceiver_pytorch.perceiver": Recipe(
        "perceiver_pytorch",
        lambda m: m.Perceiver(
            input_channels=3,
            input_axis=2,
            num_freq_bands=4,
            max_freq=8.0,
            depth=2,
            num_latents=8,
            latent_dim=32,
            num_classes=10,
            latent_heads=4,
            weight_tie_layers=False,
        ),
        normal(2, 16, 16, 3),
    ),
    "perceiver_pytorch.perceiver_io": Recipe(
        "perceiver_pytorch",
        lambda m: m.PerceiverIO(dim=32, queries_dim=32, logits_dim=10, depth=2, num_latents=8, latent_dim=64),
        named(data=normal(2, 20, 32), queries=normal(6, 32)),
    ),
    "linformer.linformer": Recipe(
        "linformer", lambda m: m.Linformer(dim=64, seq_len=32, depth=2, heads=4, k=8), normal(2, 32, 64)
    ),
    "performer_pytorch.performer": Recipe(
        "performer_pytorch",
        lambda m: m.Performer(dim=64, depth=2, heads=4, dim_head=16, nb_features=24),
        normal(2, 16, 64),
    ),
    "linear_attention_transformer.lm": Recipe(
        "linear_attention_transformer",
        lambda m: m.LinearAttentionTransformerLM(num_tokens=99, dim=64, heads=4, depth=2, max_seq_len=32, causal=False),
        integers(99, 2, 32),
    ),
    "mlp_mixer_pytorch.mixer": Recipe(
        "mlp_mixer_pytorch",
        lambda m: m.MLPMixer(image_size=32, channels=3, patch_size=8, dim=64, depth=2, num_classes=10),
        image(32),
    ),
    "local_attention.transformer": Recipe(
        "local_attention",
        lambda m: m.LocalTransformer(
            num_tokens=99, dim=64, depth=2, heads=4, dim_head=16, max_seq_len=32, local_attn_window_size=8, causal=True
        ),
        integers(99, 2, 32),
    ),
    "tab_transformer_pytorch.tab": Recipe(
        "tab_transformer_pytorch",
        lambda m: m.TabTransformer(
            categories=(10, 5, 6), num_continuous=4, dim=32, dim_out=1, depth=2, heads=4, mlp_act=torch.nn.ReLU()
        ),
        together(integers(5, 2, 3), normal(2, 4)),
    ),
    "tab_transformer_pytorch.ft": Recipe(
        "tab_transformer_pytorch",
        lambda m: m.FTTransformer(categories=(10, 5, 6), num_continuous=4, dim=32, dim_out=1, depth=2, heads=4),
        together(integers(5, 2, 3), normal(2, 4)),
    ),
    "mambapy.mamba": Recipe(
        "mambapy.mamba", lambda m: m.Mamba(m.MambaConfig(d_model=32, n_layers=2, d_state=8)), normal(2, 16, 32)
    ),
    "minGRU_pytorch.mingru": Recipe("minGRU_pytorch", lambda m: m.minGRU(64, expansion_factor=1.5), normal(2, 16, 64)),
    "minGRU_pytorch.lm": Recipe("minGRU_pytorch.minLM", lambda m: m.minLM(num_tokens=99, dim=64, depth=2), WORDS),
    "conformer.conformer": Recipe(
        "conformer",
        lambda m: m.Conformer(dim=64, depth=2, dim_head=16, heads=4, ff_mult=2, conv_kernel_size=7),
        normal(2, 24, 64),
    ),
    "egnn_pytorch.egnn": Recipe(
        "egnn_pytorch", lambda m: m.EGNN(dim=32, m_dim=16), together(normal(2, 8, 32), normal(2, 8, 3))
    ),
}
