"""Segmentation, detection, classification and restoration of images."""

from __future__ import annotations

from typing import Any

from torch import nn

from examples.bench.networks.libraries.others.recipe import Recipe, image, integers, normal, together

SMP = "segmentation_models_pytorch"
SMALL_ENCODER = {"encoder_name": "resnet18", "encoder_weights": None, "classes": 4}


def _yolo(file: str, kind: str = "DetectionModel") -> Recipe:
    def make(tasks: Any) -> nn.Module:
        network: nn.Module = getattr(tasks, kind)(file, verbose=False)
        return network

    return Recipe("ultralytics.nn.tasks", make, image(64))


def _smp(kind: str, **options: Any) -> Recipe:
    return Recipe(SMP, lambda m: getattr(m, kind)(**{**SMALL_ENCODER, **options}), image(64))


def _pytorchcv(name: str, side: int = 224) -> Recipe:
    return Recipe("pytorchcv.model_provider", lambda m: m.get_model(name, pretrained=False), image(side))


def _pretrained_models(name: str, side: int = 224) -> Recipe:
    return Recipe("pretrainedmodels", lambda m: getattr(m, name)(num_classes=1000, pretrained=None), image(side))


def _effdet(m: Any) -> nn.Module:
    config = m.get_efficientdet_config("efficientdet_d0")
    config.image_size = [128, 128]
    network: nn.Module = m.EfficientDet(config, pretrained_backbone=False)
    return network


NETWORKS = {
    "smp.unet": _smp("Unet"),
    "smp.unetplusplus": _smp("UnetPlusPlus"),
    "smp.manet": _smp("MAnet"),
    "smp.linknet": _smp("Linknet"),
    "smp.fpn": _smp("FPN"),
    "smp.pspnet": _smp("PSPNet"),
    "smp.pan": Recipe(SMP, lambda m: m.PAN(**SMALL_ENCODER), image(128)),
    "smp.deeplabv3plus": _smp("DeepLabV3Plus"),
    "smp.upernet": _smp("UPerNet"),
    "smp.segformer": _smp("Segformer"),
    "smp.unet_mobilenet_scse": _smp("Unet", encoder_name="mobilenet_v2", decoder_attention_type="scse"),
    "smp.fpn_mit": _smp("FPN", encoder_name="mit_b0"),
    "ultralytics.yolov5n": _yolo("yolov5n.yaml"),
    "ultralytics.yolov8n": _yolo("yolov8n.yaml"),
    "ultralytics.yolov9t": _yolo("yolov9t.yaml"),
    "ultralytics.yolov10n": _yolo("yolov10n.yaml"),
    "ultralytics.yolo11n": _yolo("yolo11n.yaml"),
    "ultralytics.yolo12n": _yolo("yolo12n.yaml"),
    "ultralytics.yolov8n_seg": _yolo("yolov8n-seg.yaml", "SegmentationModel"),
    "ultralytics.yolo11n_pose": _yolo("yolo11n-pose.yaml", "PoseModel"),
    "ultralytics.yolo11n_obb": _yolo("yolo11n-obb.yaml", "OBBModel"),
    "ultralytics.yolo11n_cls": _yolo("yolo11n-cls.yaml", "ClassificationModel"),
    "effdet.efficientdet_d0": Recipe("effdet", _effdet, image(128)),
    "efficientnet_pytorch.b0": Recipe(
        "efficientnet_pytorch", lambda m: m.EfficientNet.from_name("efficientnet-b0"), image(64)
    ),
    "hiera.tiny": Recipe(
        "hiera.hiera",
        lambda m: m.Hiera(input_size=(64, 64), embed_dim=32, num_heads=1, stages=(1, 1, 2, 1), num_classes=10),
        image(64),
    ),
    "segment_anything.image_encoder": Recipe(
        "segment_anything.modeling.image_encoder",
        lambda m: m.ImageEncoderViT(
            img_size=64,
            patch_size=8,
            embed_dim=64,
            depth=2,
            num_heads=4,
            out_chans=32,
            use_rel_pos=True,
            window_size=4,
            global_attn_indexes=(1,),
        ),
        image(64),
    ),
    "open_clip.visual": Recipe(
        "open_clip.transformer",
        lambda m: m.VisionTransformer(
            image_size=64, patch_size=16, width=64, layers=2, heads=4, mlp_ratio=2.0, output_dim=32
        ),
        image(64),
    ),
    "open_clip.resnet": Recipe(
        "open_clip.modified_resnet",
        lambda m: m.ModifiedResNet(layers=[1, 1, 1, 1], output_dim=32, heads=8, image_size=64, width=16),
        image(64),
    ),
    "open_clip.text": Recipe(
        "open_clip.transformer",
        lambda m: m.TextTransformer(context_length=16, vocab_size=99, width=64, heads=4, layers=2, output_dim=32),
        integers(98, 2, 16),
    ),
    "kornia.vit_mobile": Recipe("kornia.models.vit_mobile", lambda m: m.MobileViT(mode="xxs"), image(256)),
    "kornia.tiny_vit": Recipe(
        "kornia.models.tiny_vit", lambda m: m.TinyViT(img_size=64, num_classes=10, window_sizes=(2, 2, 2, 2)), image(64)
    ),
    "kornia.vit": Recipe(
        "kornia.models.vit",
        lambda m: m.VisionTransformer(image_size=64, patch_size=16, embed_dim=64, depth=2, num_heads=4),
        image(64),
    ),
    "kornia.hardnet": Recipe("kornia.feature", lambda m: m.HardNet(pretrained=False), normal(4, 1, 32, 32)),
    "kornia.tfeat": Recipe("kornia.feature", lambda m: m.TFeat(pretrained=False), normal(4, 1, 32, 32)),
    "kornia.sosnet": Recipe("kornia.feature", lambda m: m.SOSNet(pretrained=False), normal(4, 1, 32, 32)),
    "kornia.hynet": Recipe("kornia.feature", lambda m: m.HyNet(pretrained=False), normal(4, 1, 32, 32)),
    "kornia.dexined": Recipe("kornia.models.dexined", lambda m: m.DexiNed(pretrained=False), image(64)),
    "pytorchcv.preresnet18": _pytorchcv("preresnet18_wd4"),
    "pytorchcv.bam_resnet18": _pytorchcv("bam_resnet18"),
    "pytorchcv.igcv3": _pytorchcv("igcv3_wd4"),
    "pytorchcv.menet": _pytorchcv("menet108_8x1_g3"),
    "pytorchcv.shufflenet": _pytorchcv("shufflenet_g3_wd4"),
    "pytorchcv.squeezenext": _pytorchcv("sqnxt23_w1"),
    "pytorchcv.condensenet": _pytorchcv("condensenet74_c4_g4"),
    "pytorchcv.peleenet": _pytorchcv("peleenet"),
    "pytorchcv.espnetv2": _pytorchcv("espnetv2_wd2"),
    "pretrainedmodels.bninception": _pretrained_models("bninception"),
    "pretrainedmodels.dpn68": _pretrained_models("dpn68"),
    "torchxrayvision.densenet": Recipe(
        "torchxrayvision.models",
        lambda m: m.DenseNet(weights=None, num_classes=18, block_config=(2, 2, 2, 2)),
        normal(2, 1, 64, 64),
    ),
    "torchsr.edsr": Recipe("torchsr.models.edsr", lambda m: m.EDSR(4, 32, 2, 1.0), image(24)),
    "torchsr.rcan": Recipe("torchsr.models.rcan", lambda m: m.RCAN(2, 2, 32, 8, 2, False), image(24)),
    "torchsr.carn": Recipe("torchsr.models.carn", lambda m: m.CARN(2, False), image(24)),
    "spandrel.rrdbnet": Recipe(
        "spandrel.architectures.ESRGAN", lambda m: m.ESRGAN(num_filters=16, num_blocks=1, scale=2), image(16)
    ),
    "spandrel.compact": Recipe(
        "spandrel.architectures.Compact.__arch.SRVGG",
        lambda m: m.SRVGGNetCompact(num_feat=16, num_conv=4, upscale=2),
        image(16),
    ),
    "spandrel.swinir": Recipe(
        "spandrel.architectures.SwinIR.__arch.SwinIR",
        lambda m: m.SwinIR(
            img_size=16,
            window_size=4,
            depths=[2, 2],
            embed_dim=32,
            num_heads=[2, 2],
            mlp_ratio=2,
            upsampler="pixelshuffledirect",
            upscale=2,
        ),
        image(16),
    ),
    "spandrel.nafnet": Recipe(
        "spandrel.architectures.NAFNet.__arch.NAFNet_arch",
        lambda m: m.NAFNet(img_channel=3, width=16, middle_blk_num=1, enc_blk_nums=[1, 1], dec_blk_nums=[1, 1]),
        image(32),
    ),
    "spandrel.safmn": Recipe(
        "spandrel.architectures.SAFMN.__arch.safmn",
        lambda m: m.SAFMN(dim=32, n_blocks=2, ffn_scale=2.0, upscaling_factor=2),
        image(32),
    ),
    "spandrel.omnisr": Recipe(
        "spandrel.architectures.OmniSR.__arch.OmniSR",
        lambda m: m.OmniSR(num_feat=32, res_num=1, block_num=1, up_scale=2, window_size=8, pe=True),
        image(16),
    ),
    "spandrel.plksr": Recipe(
        "spandrel.architectures.PLKSR.__arch.PLKSR",
        lambda m: m.PLKSR(dim=32, n_blocks=2, upscaling_factor=2),
        image(24),
    ),
    "spandrel.drunet": Recipe(
        "spandrel.architectures.DRUNet.__arch.network_unet",
        lambda m: m.DRUNet(in_nc=3, out_nc=3, nc=[16, 32, 48, 64], nb=1),
        image(32),
    ),
    "spandrel.lama": Recipe(
        "spandrel.architectures.LaMa.__arch.LaMa", lambda m: m.LaMa(in_nc=4), together(image(32), normal(2, 1, 32, 32))
    ),
}
