"""Architectures of transformers with small configurations, over text, vision, audio, and several of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn

from examples.bench.networks.entry import Entry, known
from swdc.ir.packages import package

WORDS = 99
TEXT = {
    "vocab_size": WORDS, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 128, "max_position_embeddings": 64, "pad_token_id": 0,
}  # fmt: skip
DECODER = {**TEXT, "use_cache": False, "bos_token_id": 1, "eos_token_id": 2}
GROUPED = {**DECODER, "num_key_value_heads": 2}
VISION = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128, "image_size": 32,
    "patch_size": 8,
}  # fmt: skip
SPEECH = {
    "vocab_size": 32, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128,
    "conv_dim": [32, 32, 32], "conv_kernel": [10, 3, 3], "conv_stride": [5, 2, 2], "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4,
}  # fmt: skip
STAGES = {"depths": [1, 1, 2, 1], "hidden_sizes": [16, 32, 48, 64], "num_labels": 10}

Inputs = Callable[[], dict[str, torch.Tensor]]


def _words(length: int = 12) -> torch.Tensor:
    return torch.randint(3, WORDS, (2, length))


def _masked_words() -> dict[str, torch.Tensor]:
    return {"input_ids": _words(), "attention_mask": torch.ones(2, 12, dtype=torch.long)}


def _text() -> dict[str, torch.Tensor]:
    return {"input_ids": _words()}


def _translation() -> dict[str, torch.Tensor]:
    return {"input_ids": _words(), "decoder_input_ids": _words(8)}


def _image(side: int = 32) -> dict[str, torch.Tensor]:
    return {"pixel_values": torch.randn(2, 3, side, side)}


def _picture_and_words() -> dict[str, torch.Tensor]:
    return {**_text(), **_image()}


def _speech() -> dict[str, torch.Tensor]:
    return {"input_values": torch.randn(2, 800)}


def _spectrogram() -> dict[str, torch.Tensor]:
    return {"input_features": torch.randn(2, 16, 32), "decoder_input_ids": _words(8)}


@dataclass(frozen=True)
class Architecture:
    """A model class, its configuration class where the prefix does not give it away, options, and inputs."""

    model: str
    options: dict[str, Any] = field(default_factory=dict)
    inputs: Inputs = _text
    config: str = ""


_TEXT = {
    "albert": Architecture("AlbertForSequenceClassification", {**TEXT, "embedding_size": 32}),
    "bert": Architecture("BertForMaskedLM", TEXT, _masked_words),
    "camembert": Architecture("CamembertForTokenClassification", TEXT),
    "convbert": Architecture("ConvBertForSequenceClassification", {**TEXT, "embedding_size": 32}),
    "deberta_v2": Architecture(
        "DebertaV2ForSequenceClassification",
        {**TEXT, "relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_buckets": 8},
    ),
    "distilbert": Architecture(
        "DistilBertForSequenceClassification",
        {"vocab_size": WORDS, "dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 128, "pad_token_id": 0},
        _masked_words,
    ),
    "electra": Architecture("ElectraForTokenClassification", {**TEXT, "embedding_size": 32}),
    "fnet": Architecture("FNetForSequenceClassification", TEXT),
    "modernbert": Architecture("ModernBertForMaskedLM", {**DECODER, "cls_token_id": 1, "sep_token_id": 2}),
    "mobilebert": Architecture(
        "MobileBertForSequenceClassification",
        {**TEXT, "embedding_size": 32, "intra_bottleneck_size": 32, "true_hidden_size": 32},
    ),
    "mpnet": Architecture("MPNetForMaskedLM", TEXT),
    "rembert": Architecture("RemBertForSequenceClassification", {**TEXT, "input_embedding_size": 32}),
    "roberta": Architecture("RobertaForSequenceClassification", TEXT, _masked_words),
    "roformer": Architecture("RoFormerForSequenceClassification", {**TEXT, "embedding_size": 64}),
    "squeezebert": Architecture("SqueezeBertForSequenceClassification", {**TEXT, "embedding_size": 64}),
    "xlnet": Architecture(
        "XLNetForSequenceClassification",
        {"vocab_size": WORDS, "d_model": 64, "n_layer": 2, "n_head": 4, "d_inner": 128, "use_mems_eval": False},
    ),
}
_DECODERS = {
    "bloom": Architecture("BloomForCausalLM", {**DECODER, "n_layer": 2, "n_head": 4}),
    "falcon": Architecture("FalconForCausalLM", DECODER),
    "gemma": Architecture("GemmaForCausalLM", {**GROUPED, "head_dim": 16}),
    "gemma2": Architecture("Gemma2ForCausalLM", {**GROUPED, "head_dim": 16}),
    "gpt2": Architecture(
        "GPT2LMHeadModel",
        {"vocab_size": WORDS, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 64, "use_cache": False},
        _masked_words,
    ),
    "gpt_neox": Architecture("GPTNeoXForCausalLM", DECODER),
    "gptj": Architecture(
        "GPTJForCausalLM",
        {
            "vocab_size": WORDS,
            "n_embd": 64,
            "n_layer": 2,
            "n_head": 4,
            "n_positions": 64,
            "rotary_dim": 8,
            "use_cache": False,
        },
    ),
    "llama": Architecture("LlamaForCausalLM", GROUPED, _masked_words),
    "mamba": Architecture(
        "MambaForCausalLM",
        {"vocab_size": WORDS, "hidden_size": 64, "num_hidden_layers": 2, "state_size": 8, "use_cache": False},
    ),
    "mistral": Architecture("MistralForCausalLM", {**GROUPED, "sliding_window": None}),
    "mixtral": Architecture("MixtralForCausalLM", {**GROUPED, "num_local_experts": 4}),
    "olmo2": Architecture("Olmo2ForCausalLM", GROUPED),
    "opt": Architecture("OPTForCausalLM", {**DECODER, "ffn_dim": 128, "word_embed_proj_dim": 64}),
    "phi": Architecture("PhiForCausalLM", DECODER),
    "phi3": Architecture("Phi3ForCausalLM", GROUPED),
    "qwen2": Architecture("Qwen2ForCausalLM", GROUPED),
    "qwen3": Architecture("Qwen3ForCausalLM", {**GROUPED, "head_dim": 16}),
    "stablelm": Architecture("StableLmForCausalLM", GROUPED),
    "starcoder2": Architecture("Starcoder2ForCausalLM", GROUPED),
}
_TRANSLATION_OPTIONS = {
    "vocab_size": WORDS, "d_model": 64, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 128, "decoder_ffn_dim": 128, "max_position_embeddings": 64,
    "use_cache": False, "pad_token_id": 0, "decoder_start_token_id": 0,
}  # fmt: skip
_TRANSLATORS = {
    "bart": Architecture("BartForConditionalGeneration", _TRANSLATION_OPTIONS, _translation),
    "marian": Architecture("MarianMTModel", _TRANSLATION_OPTIONS, _translation, "MarianConfig"),
    "pegasus": Architecture("PegasusForConditionalGeneration", _TRANSLATION_OPTIONS, _translation),
    "t5": Architecture(
        "T5ForConditionalGeneration",
        {
            "vocab_size": WORDS,
            "d_model": 64,
            "d_kv": 16,
            "d_ff": 128,
            "num_layers": 2,
            "num_heads": 4,
            "use_cache": False,
            "decoder_start_token_id": 0,
            "feed_forward_proj": "gated-gelu",
        },
        _translation,
    ),
}
_VISION = {
    "beit": Architecture("BeitForImageClassification", {**VISION, "use_relative_position_bias": True}, _image),
    "convnext": Architecture("ConvNextForImageClassification", STAGES, _image),
    "convnextv2": Architecture("ConvNextV2ForImageClassification", STAGES, _image),
    "deit": Architecture("DeiTForImageClassification", VISION, _image),
    "detr": Architecture(
        "DetrForObjectDetection",
        {
            "d_model": 64,
            "encoder_layers": 1,
            "decoder_layers": 1,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
            "encoder_ffn_dim": 128,
            "decoder_ffn_dim": 128,
            "num_queries": 5,
            "use_timm_backbone": False,
            "use_pretrained_backbone": False,
            "backbone": None,
            "backbone_config": {
                "model_type": "resnet",
                "embedding_size": 16,
                "hidden_sizes": [16, 32, 48, 64],
                "depths": [1, 1, 1, 1],
                "layer_type": "basic",
                "out_features": ["stage4"],
            },
        },
        partial(_image, 64),
    ),
    "dinov2": Architecture("Dinov2ForImageClassification", {**VISION, "mlp_ratio": 2}, _image),
    "dpt": Architecture(
        "DPTForDepthEstimation",
        {
            **VISION,
            "num_hidden_layers": 4,
            "backbone_out_indices": [0, 1, 2, 3],
            "fusion_hidden_size": 32,
            "neck_hidden_sizes": [16, 16, 32, 32],
            "head_in_index": -1,
        },
        _image,
    ),
    "levit": Architecture(
        "LevitForImageClassification",
        {
            "image_size": 64,
            "hidden_sizes": [16, 32, 48],
            "num_attention_heads": [2, 4, 4],
            "depths": [1, 1, 1],
            "key_dim": [8, 8, 8],
            "down_ops": [["Subsample", 8, 2, 4, 2, 2], ["Subsample", 8, 4, 4, 2, 2]],
        },
        partial(_image, 64),
    ),
    "mobilenet_v2": Architecture("MobileNetV2ForImageClassification", {"image_size": 32}, _image),
    "mobilevit": Architecture(
        "MobileViTForImageClassification",
        {
            "image_size": 64,
            "hidden_sizes": [32, 48, 64],
            "num_attention_heads": 4,
            "neck_hidden_sizes": [8, 16, 24, 32, 48, 64, 96],
        },
        partial(_image, 64),
    ),
    "poolformer": Architecture("PoolFormerForImageClassification", STAGES, _image),
    "pvt_v2": Architecture(
        "PvtV2ForImageClassification",
        {
            "image_size": 64,
            "hidden_sizes": [16, 32, 48, 64],
            "depths": [1, 1, 1, 1],
            "num_attention_heads": [1, 2, 4, 4],
        },
        partial(_image, 64),
    ),
    "regnet": Architecture("RegNetForImageClassification", {**STAGES, "groups_width": 8}, _image),
    "resnet": Architecture("ResNetForImageClassification", {**STAGES, "embedding_size": 16}, _image),
    "segformer": Architecture(
        "SegformerForSemanticSegmentation",
        {
            "hidden_sizes": [16, 32, 48, 64],
            "depths": [1, 1, 1, 1],
            "num_attention_heads": [1, 2, 4, 4],
            "decoder_hidden_size": 64,
        },
        partial(_image, 64),
    ),
    "swin": Architecture(
        "SwinForImageClassification",
        {"image_size": 64, "patch_size": 4, "embed_dim": 32, "depths": [2, 2], "num_heads": [4, 8], "window_size": 4},
        partial(_image, 64),
    ),
    "swinv2": Architecture(
        "Swinv2ForImageClassification",
        {"image_size": 64, "patch_size": 4, "embed_dim": 32, "depths": [2, 2], "num_heads": [4, 8], "window_size": 4},
        partial(_image, 64),
    ),
    "vit": Architecture("ViTForImageClassification", VISION, _image),
    "vit_msn": Architecture("ViTMSNForImageClassification", VISION, _image),
    "yolos": Architecture(
        "YolosForObjectDetection", {**VISION, "image_size": [32, 32], "num_detection_tokens": 5}, _image
    ),
}
_AUDIO = {
    "ast": Architecture(
        "ASTForAudioClassification",
        {**VISION, "max_length": 48, "num_mel_bins": 32, "frequency_stride": 8, "time_stride": 8},
        lambda: {"input_values": torch.randn(2, 48, 32)},
    ),
    "hubert": Architecture("HubertForCTC", SPEECH, _speech),
    "sew": Architecture("SEWForCTC", {**SPEECH, "squeeze_factor": 2}, _speech),
    "speech_to_text": Architecture(
        "Speech2TextForConditionalGeneration",
        {
            **_TRANSLATION_OPTIONS,
            "input_feat_per_channel": 16,
            "max_source_positions": 64,
            "max_target_positions": 32,
            "conv_channels": 64,
        },
        lambda: {"input_features": torch.randn(2, 32, 16), "decoder_input_ids": _words(8)},
    ),
    "wav2vec2": Architecture("Wav2Vec2ForCTC", SPEECH, _speech),
    "wavlm": Architecture("WavLMForCTC", SPEECH, _speech),
    "whisper": Architecture(
        "WhisperForConditionalGeneration",
        {**_TRANSLATION_OPTIONS, "num_mel_bins": 16, "max_source_positions": 16, "max_target_positions": 32},
        _spectrogram,
    ),
}
_TOWERS = {"text_config": TEXT, "vision_config": VISION, "projection_dim": 64}
_MULTIMODAL = {
    "altclip": Architecture(
        "AltCLIPModel", {**_TOWERS, "text_config": {**TEXT, "project_dim": 64}}, _picture_and_words
    ),
    "blip": Architecture(
        "BlipForImageTextRetrieval",
        {**_TOWERS, "text_config": {**TEXT, "encoder_hidden_size": 64}, "image_text_hidden_size": 32},
        _picture_and_words,
    ),
    "chinese_clip": Architecture("ChineseCLIPModel", _TOWERS, _picture_and_words),
    "clip": Architecture("CLIPModel", _TOWERS, _picture_and_words),
    "flava": Architecture("FlavaModel", {"text_config": TEXT, "image_config": VISION, "multimodal_config": TEXT,
                                         "hidden_size": 64, "projection_dim": 64}, _picture_and_words),
    "git": Architecture("GitForCausalLM", {**DECODER, "vision_config": VISION}, _picture_and_words),
    "siglip": Architecture(
        "SiglipModel", {"text_config": {**TEXT, "projection_size": 64}, "vision_config": VISION}, _picture_and_words
    ),
    "vilt": Architecture(
        "ViltForQuestionAnswering", {**TEXT, **VISION, "num_labels": 10, "max_image_length": -1}, _picture_and_words
    ),
}  # fmt: skip
ARCHITECTURES = {**_TEXT, **_DECODERS, **_TRANSLATORS, **_VISION, **_AUDIO, **_MULTIMODAL}


def names() -> tuple[str, ...]:
    """Return the names of the architectures."""
    return tuple(ARCHITECTURES)


def entry(name: str) -> Entry:
    """Return an architecture with a small configuration and random weights."""
    chosen = ARCHITECTURES[known(name, ARCHITECTURES)]
    return Entry(name, partial(build, chosen), chosen.inputs)


def build(chosen: Architecture) -> nn.Module:
    """Return the model of an architecture."""
    library = package("transformers", "bench")
    config = getattr(library, chosen.config or _config_name(chosen.model))(**chosen.options)
    model: nn.Module = getattr(library, chosen.model)(config)
    return model


def _config_name(model: str) -> str:
    """Return the name of the configuration class of a model class: ``BertConfig`` of ``BertForMaskedLM``."""
    found = re.match(r"(.+?)(For[A-Z]|LMHeadModel|MTModel|Model)", model)
    assert found, model
    return found[1] + "Config"
