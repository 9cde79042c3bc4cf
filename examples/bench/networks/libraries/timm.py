"""One model of each architecture of timm: the smallest of each module, and of each further family in a module.

A family is the word that a name begins with. Further families count where their smallest has at most 20 million
parameters; those that only name the origin of weights (``tf``, ``gluon``, ...) do not.
"""

from __future__ import annotations

from functools import partial
from itertools import chain

import torch
from torch import nn

from examples.bench.networks.entry import Entry, known
from swdc.ir.packages import package

MODULES = {
    "beit": {"beit_base_patch16_224": 224},
    "byoanet": {
        "halonet_h1": 256, "eca_botnext26ts_256": 256, "lambda_resnet26t": 64, "haloregnetz_b": 224,
        "botnet26t_256": 256, "sehalonet33ts": 256, "sebotnet33ts_256": 256,
    },
    "byobnet": {
        "mobileone_s1": 64, "gernet_s": 64, "repvgg_a0": 64, "regnetz_b16": 64, "resnext26ts": 64,
        "eca_resnext26ts": 64, "seresnext26ts": 64, "gcresnext26ts": 64, "bat_resnext26ts": 256, "resnet32ts": 64,
        "seresnet33ts": 64, "gcresnet33ts": 64,
    },
    "cait": {"cait_xxs24_224": 224},
    "coat": {"coat_tiny": 224},
    "convit": {"convit_tiny": 224},
    "convmixer": {"convmixer_768_32": 64},
    "convnext": {"convnext_zepto_rms": 64, "convnextv2_atto": 64},
    "cpubone": {"cpubone_nano": 64},
    "crossvit": {"crossvit_tiny_240": 64},
    "csatv2": {"csatv2": 64},
    "cspnet": {"cs3darknet_focus_s": 64, "darknet17": 64},
    "cspnext": {"cspnext_tiny": 64},
    "davit": {"davit_tiny": 64},
    "deepseek_vit": {"deepseek_vit_412m": 224},
    "deit": {"deit_tiny_patch16_224": 224},
    "densenet": {"densenet121": 64, "densenetblur121d": 64},
    "dla": {"dla46x_c": 64},
    "dpn": {"dpn48b": 64},
    "edgenext": {"edgenext_xx_small": 64},
    "efficientformer": {"efficientformer_l1": 224},
    "efficientformer_v2": {"efficientformerv2_s0": 224},
    "efficientnet": {
        "mobilenetv2_035": 64, "mnasnet_small": 64, "tinynet_e": 64, "semnasnet_050": 64, "mobilenet_edgetpu_100": 64,
        "mixnet_s": 64, "spnasnet_100": 64, "efficientnet_lite0": 64, "fbnetc_100": 64, "efficientnetv2_rw_t": 64,
        "gc_efficientnetv2_rw_t": 64,
    },
    "efficientvim": {"efficientvim_m1": 64},
    "efficientvit_mit": {"efficientvit_b0": 64},
    "efficientvit_msra": {"efficientvit_m0": 64},
    "eva": {"vit_tiny_patch16_dinov3_qkvb": 64, "eva02_tiny_patch14_224": 224},
    "fasternet": {"fasternet_t0": 64},
    "fastvit": {"fastvit_t8": 64},
    "focalnet": {"focalnet_tiny_srf": 64},
    "gcvit": {"gcvit_xxtiny": 224},
    "gemma4_vit": {"gemma4_vit_167m": 64},
    "ghostnet": {"ghostnet_050": 64, "ghostnetv3_050": 64},
    "hardcorenas": {"hardcorenas_b": 64},
    "hgnet": {"hgnetv2_b0": 64, "hgnet_tiny": 64},
    "hiera": {"hiera_tiny_224": 224},
    "hieradet_sam2": {"sam2_hiera_tiny": 64},
    "hrnet": {"hrnet_w18_small": 64},
    "iformer": {"iformer_t": 64},
    "inception_next": {"inception_next_atto": 64},
    "inception_resnet_v2": {"inception_resnet_v2": 96},
    "inception_v3": {"inception_v3": 96},
    "inception_v4": {"inception_v4": 96},
    "lcnetv2": {"lcnetv2_small": 64},
    "levit": {"levit_128s": 224},
    "lowformer": {"lowformer_b0": 64},
    "mambaout": {"mambaout_femto": 64},
    "maxxvit": {
        "maxvit_pico_rw_256": 256, "coatnet_pico_rw_224": 224, "coatnext_nano_rw_224": 224,
        "maxxvit_rmlp_nano_rw_256": 256,
    },
    "metaformer": {"poolformerv2_s12": 64, "poolformer_s12": 64},
    "mlp_mixer": {"gmlp_ti16_224": 224, "gmixer_12_224": 224, "resmlp_12_224": 224, "mixer_s16_224": 224},
    "mobilenetv3": {"mobilenetv3_small_050": 64, "lcnet_035": 64, "fbnetv3_b": 64},
    "mobilenetv5": {"mobilenetv5_base": 64},
    "mobilevit": {"mobilevit_xxs": 64, "mobilevitv2_050": 64},
    "mvitv2": {"mvitv2_tiny": 64},
    "naflexvit": {"naflexvit_base_patch16_parfac_gap": 64},
    "nasnet": {"nasnetalarge": 64},
    "nest": {"nest_tiny": 224},
    "nextvit": {"nextvit_small": 64},
    "nfnet": {"nf_regnet_b0": 64},
    "pit": {"pit_ti_224": 224},
    "pnasnet": {"pnasnet5large": 64},
    "pvt_v2": {"pvt_v2_b0": 64},
    "qwen3_vit": {"qwen3_vit_88m": 64},
    "rdnet": {"rdnet_tiny": 64},
    "regnet": {"regnetx_002": 64, "regnety_002": 64, "regnetz_005": 64},
    "repghost": {"repghostnet_050": 64},
    "repvit": {"repvit_m1": 64},
    "res2net": {"res2next50": 64},
    "resnest": {"resnest14d": 64},
    "resnet": {
        "resnet10t": 64, "resnetblur18": 64, "seresnet18": 64, "ecaresnext26t_32x4d": 64, "ecaresnet26t": 64,
        "seresnext26t_32x4d": 64,
    },
    "resnetv2": {"resnetv2_18": 64},
    "rexnet": {"rexnet_100": 64, "rexnetr_100": 64},
    "selecsls": {"selecsls42": 64},
    "senet": {"legacy_seresnet18": 64},
    "sequencer": {"sequencer2d_s": 64},
    "shvit": {"shvit_s1": 64},
    "sknet": {"skresnet18": 64},
    "starnet": {"starnet_s050": 64},
    "swiftformer": {"swiftformer_xs": 64},
    "swin_transformer": {"swin_tiny_patch4_window7_224": 224},
    "swin_transformer_v2": {"swinv2_tiny_window8_256": 256},
    "swin_transformer_v2_cr": {"swinv2_cr_tiny_224": 224},
    "tiny_vit": {"tiny_vit_5m_224": 64},
    "tnt": {"tnt_s_legacy_patch16_224": 224},
    "tresnet": {"tresnet_m": 64},
    "twins": {"twins_svt_small": 64},
    "vgg": {"vgg11": 64},
    "visformer": {"visformer_tiny": 224},
    "vision_transformer": {"vit_tiny_patch16_224": 224},
    "vision_transformer_hybrid": {"vit_tiny_r_s16_p8_224": 224},
    "vision_transformer_relpos": {"vit_srelpos_small_patch16_224": 224},
    "vision_transformer_sam": {"samvit_base_patch16_224": 64},
    "vitamin": {"vitamin_small_224": 224},
    "volo": {"volo_d1_224": 224},
    "vovnet": {"ese_vovnet19b_slim_dw": 64},
    "xception": {"legacy_xception": 64},
    "xception_aligned": {"xception41p": 64},
    "xcit": {"xcit_nano_12_p8_224": 64},
}  # fmt: skip
"""For each module of timm, its models, and the side of the smallest image that each takes."""
SIDES = dict(chain.from_iterable(models.items() for models in MODULES.values()))


def names() -> tuple[str, ...]:
    """Return the names of the models."""
    return tuple(SIDES)


def entry(name: str) -> Entry:
    """Return a model with random weights."""
    side = SIDES[known(name, SIDES)]
    return Entry(name, partial(_build, name), partial(torch.randn, 2, 3, side, side))


def _build(name: str) -> nn.Module:
    model: nn.Module = package("timm", "bench").create_model(name, pretrained=False)
    return model
