"""Segmentation and classification of medical images and volumes."""

from __future__ import annotations

from typing import Any

from torch import nn

from examples.bench.networks.libraries.others.recipe import Inputs, Recipe, lengths, normal, together

SCAN = normal(2, 1, 32, 32)
VOLUME = normal(2, 1, 32, 32, 32)


def _monai(name: str, inputs: Inputs = SCAN, **options: Any) -> Recipe:
    return Recipe("monai.networks.nets", lambda m: getattr(m, name)(**options), inputs)


NETWORKS = {
    "monai.unet": _monai(
        "UNet", spatial_dims=2, in_channels=1, out_channels=3, channels=(16, 32, 48), strides=(2, 2), num_res_units=1
    ),
    "monai.unet_3d": _monai(
        "UNet", VOLUME, spatial_dims=3, in_channels=1, out_channels=3, channels=(8, 16, 32), strides=(2, 2)
    ),
    "monai.attention_unet": _monai(
        "AttentionUnet", spatial_dims=2, in_channels=1, out_channels=3, channels=(16, 32, 48), strides=(2, 2)
    ),
    "monai.basic_unet": _monai(
        "BasicUNet", spatial_dims=2, in_channels=1, out_channels=3, features=(16, 16, 32, 32, 48, 16)
    ),
    "monai.basic_unetplusplus": _monai(
        "BasicUNetPlusPlus", spatial_dims=2, in_channels=1, out_channels=3, features=(16, 16, 32, 32, 48, 16)
    ),
    "monai.dynunet": _monai(
        "DynUNet",
        spatial_dims=2,
        in_channels=1,
        out_channels=3,
        kernel_size=[3, 3, 3],
        strides=[1, 2, 2],
        upsample_kernel_size=[2, 2],
        filters=[16, 32, 48],
    ),
    "monai.segresnet": _monai(
        "SegResNet", spatial_dims=2, init_filters=16, in_channels=1, out_channels=3, blocks_down=(1, 2), blocks_up=(1,)
    ),
    "monai.segresnet_ds": _monai(
        "SegResNetDS", spatial_dims=2, init_filters=16, in_channels=1, out_channels=3, blocks_down=(1, 2)
    ),
    "monai.vnet": _monai("VNet", normal(1, 1, 32, 32, 32), spatial_dims=3, in_channels=1, out_channels=3),
    "monai.unetr": _monai(
        "UNETR",
        normal(2, 1, 32, 32),
        spatial_dims=2,
        in_channels=1,
        out_channels=3,
        img_size=(32, 32),
        feature_size=8,
        hidden_size=48,
        mlp_dim=64,
        num_heads=4,
    ),
    "monai.swin_unetr": _monai(
        "SwinUNETR",
        normal(2, 1, 64, 64),
        spatial_dims=2,
        in_channels=1,
        out_channels=3,
        feature_size=12,
        depths=(1, 1, 1, 1),
        num_heads=(2, 2, 4, 4),
        window_size=4,
    ),
    "monai.densenet": _monai(
        "DenseNet", spatial_dims=2, in_channels=1, out_channels=3, init_features=16, growth_rate=8, block_config=(2, 2)
    ),
    "monai.resnet_3d": _monai(
        "ResNet",
        normal(2, 1, 16, 16, 16),
        block="basic",
        layers=[1, 1, 1, 1],
        block_inplanes=[8, 16, 24, 32],
        spatial_dims=3,
        n_input_channels=1,
        num_classes=3,
    ),
    "monai.efficientnet": _monai(
        "EfficientNetBN", model_name="efficientnet-b0", pretrained=False, spatial_dims=2, in_channels=1, num_classes=3
    ),
    "monai.highresnet": _monai("HighResNet", spatial_dims=2, in_channels=1, out_channels=3),
    "monai.autoencoderkl": _monai(
        "AutoencoderKL",
        spatial_dims=2,
        in_channels=1,
        out_channels=1,
        num_res_blocks=(1, 1),
        channels=(16, 32),
        attention_levels=(False, True),
        norm_num_groups=8,
    ),
    "monai.diffusion_unet": _monai(
        "DiffusionModelUNet",
        together(SCAN, lengths(3, 7)),
        spatial_dims=2,
        in_channels=1,
        out_channels=1,
        num_res_blocks=(1, 1),
        channels=(16, 32),
        attention_levels=(False, True),
        norm_num_groups=8,
        num_head_channels=8,
    ),
    "monai.vit": _monai(
        "ViT",
        spatial_dims=2,
        in_channels=1,
        img_size=(32, 32),
        patch_size=(8, 8),
        hidden_size=48,
        mlp_dim=64,
        num_layers=2,
        num_heads=4,
        classification=True,
    ),
    "monai.regunet": _monai("RegUNet", spatial_dims=2, in_channels=1, num_channel_initial=16, depth=2, out_channels=2),
    "monai.restormer": Recipe(
        "monai.networks.nets.restormer",
        lambda m: m.Restormer(
            spatial_dims=2,
            in_channels=1,
            out_channels=1,
            dim=16,
            num_blocks=(1, 1),
            heads=(1, 2),
            num_refinement_blocks=1,
        ),
        SCAN,
    ),
    "monai.mednext": _monai(
        "MedNeXt",
        spatial_dims=2,
        in_channels=1,
        out_channels=3,
        init_filters=16,
        encoder_expansion_ratio=2,
        decoder_expansion_ratio=2,
        bottleneck_expansion_ratio=2,
        blocks_down=(1, 1),
        blocks_bottleneck=1,
        blocks_up=(1, 1),
    ),
    "dynamic_networks.plain_unet": Recipe(
        "dynamic_network_architectures.architectures.unet",
        lambda m: m.PlainConvUNet(
            1,
            3,
            [16, 32, 48],
            nn.Conv2d,
            3,
            [1, 2, 2],
            1,
            3,
            1,
            conv_bias=True,
            norm_op=nn.InstanceNorm2d,
            norm_op_kwargs={"affine": True},
            nonlin=nn.LeakyReLU,
        ),
        SCAN,
    ),
    "dynamic_networks.residual_unet": Recipe(
        "dynamic_network_architectures.architectures.unet",
        lambda m: m.ResidualEncoderUNet(
            1,
            3,
            [16, 32, 48],
            nn.Conv2d,
            3,
            [1, 2, 2],
            1,
            3,
            1,
            conv_bias=True,
            norm_op=nn.InstanceNorm2d,
            norm_op_kwargs={"affine": True},
            nonlin=nn.LeakyReLU,
        ),
        SCAN,
    ),
}
