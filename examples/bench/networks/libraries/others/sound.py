"""Speech, music and other sound."""

from __future__ import annotations

from typing import Any

import torch

from examples.bench.networks.libraries.others.recipe import (
    Inputs,
    Recipe,
    integers,
    lengths,
    normal,
    together,
)

WAVE = normal(2, 1, 1600)
FRAMES = normal(2, 24, 40)


def _asteroid(name: str, inputs: Inputs = WAVE, **options: Any) -> Recipe:
    return Recipe("asteroid.models", lambda m: getattr(m, name)(**options), inputs)


def _speechbrain(file: str, name: str, inputs: Inputs = FRAMES, **options: Any) -> Recipe:
    return Recipe(f"speechbrain.lobes.models.{file}", lambda m: getattr(m, name)(**options), inputs)


def _torchaudio(name: str, inputs: Inputs, **options: Any) -> Recipe:
    return Recipe("torchaudio.models", lambda m: getattr(m, name)(**options), inputs)


def _whisper(part: str, inputs: Inputs) -> Recipe:
    def make(m: Any) -> torch.nn.Module:
        sizes = m.ModelDimensions(
            n_mels=16, n_audio_ctx=16, n_audio_state=64, n_audio_head=4, n_audio_layer=2, n_vocab=99, n_text_ctx=16,
            n_text_state=64, n_text_head=4, n_text_layer=2,
        )  # fmt: skip
        whole = m.Whisper(sizes)
        network: torch.nn.Module = getattr(whole, part) if part else whole
        return network

    return Recipe("whisper.model", make, inputs)


NETWORKS = {
    "torchaudio.conv_tasnet": _torchaudio(
        "ConvTasNet",
        WAVE,
        enc_num_feats=32,
        msk_num_feats=16,
        msk_num_hidden_feats=32,
        msk_num_layers=2,
        msk_num_stacks=1,
    ),
    "torchaudio.deepspeech": _torchaudio("DeepSpeech", normal(2, 1, 24, 40), n_feature=40, n_hidden=64, n_class=20),
    "torchaudio.wav2letter": _torchaudio(
        "Wav2Letter", normal(2, 16, 200), num_classes=20, input_type="mfcc", num_features=16
    ),
    "torchaudio.wavernn": _torchaudio(
        "WaveRNN",
        together(normal(2, 1, 36), normal(2, 1, 16, 10)),
        upsample_scales=[3, 2],
        n_classes=16,
        hop_length=6,
        n_res_block=1,
        n_rnn=32,
        n_fc=32,
        n_freq=16,
        n_hidden=16,
        n_output=16,
        kernel_size=5,
    ),
    "torchaudio.conformer": _torchaudio(
        "Conformer",
        together(normal(2, 24, 40), lengths(24, 20)),
        input_dim=40,
        num_heads=4,
        ffn_dim=64,
        num_layers=2,
        depthwise_conv_kernel_size=7,
    ),
    "torchaudio.wav2vec2": _torchaudio(
        "wav2vec2_model",
        normal(2, 1600),
        extractor_mode="group_norm",
        extractor_conv_layer_config=[(32, 10, 5), (32, 3, 2)],
        extractor_conv_bias=False,
        encoder_embed_dim=64,
        encoder_projection_dropout=0.0,
        encoder_pos_conv_kernel=8,
        encoder_pos_conv_groups=4,
        encoder_num_layers=2,
        encoder_num_heads=4,
        encoder_attention_dropout=0.0,
        encoder_ff_interm_features=128,
        encoder_ff_interm_dropout=0.0,
        encoder_dropout=0.0,
        encoder_layer_norm_first=False,
        encoder_layer_drop=0.0,
        aux_num_out=20,
    ),
    "torchaudio.hdemucs": _torchaudio(
        "HDemucs", normal(1, 2, 8192), sources=["a", "b"], channels=8, nfft=1024, depth=5
    ),
    "speechbrain.ecapa": _speechbrain(
        "ECAPA_TDNN",
        "ECAPA_TDNN",
        input_size=40,
        channels=[32, 32, 32, 32, 96],
        lin_neurons=24,
        attention_channels=16,
        se_channels=16,
        res2net_scale=4,
    ),
    "speechbrain.xvector": _speechbrain(
        "Xvector", "Xvector", in_channels=40, tdnn_channels=[32, 32, 32, 32, 64], lin_neurons=32
    ),
    "speechbrain.crdnn": _speechbrain(
        "CRDNN", "CRDNN", input_shape=[2, 24, 40], cnn_channels=(16, 32), rnn_neurons=32, rnn_layers=1, dnn_neurons=32
    ),
    "speechbrain.resnet": _speechbrain(
        "ResNet", "ResNet", input_size=40, channels=[16, 16, 32, 32], block_sizes=[1, 1, 1, 1], lin_neurons=24
    ),
    "speechbrain.contextnet": _speechbrain(
        "ContextNet",
        "ContextNet",
        input_shape=(2, 24, 40),
        out_channels=32,
        conv_channels=[32] * 3,
        kernel_size=3,
        strides=[1, 2, 1],
        num_blocks=3,
        num_layers=1,
        inner_dim=8,
        residuals=[False, True, True],
    ),
    "speechbrain.hifigan": _speechbrain(
        "HifiGAN",
        "HifiganGenerator",
        normal(2, 16, 12),
        in_channels=16,
        out_channels=1,
        resblock_type="2",
        resblock_dilation_sizes=[[1, 3]],
        resblock_kernel_sizes=[3],
        upsample_kernel_sizes=[8, 4],
        upsample_initial_channel=32,
        upsample_factors=[4, 2],
    ),
    "speechbrain.convtasnet_mask": _speechbrain(
        "conv_tasnet", "MaskNet", normal(2, 16, 40), N=16, B=16, H=32, P=3, X=2, R=1, C=2, norm_type="gLN"
    ),
    "asteroid.conv_tasnet": _asteroid(
        "ConvTasNet", n_src=2, n_filters=32, n_blocks=2, n_repeats=1, bn_chan=16, hid_chan=32, skip_chan=16
    ),
    "asteroid.dprnn": _asteroid(
        "DPRNNTasNet", n_src=2, n_filters=32, bn_chan=16, hid_size=16, chunk_size=20, n_repeats=1
    ),
    "asteroid.dptnet": _asteroid("DPTNet", n_src=2, n_filters=32, ff_hid=32, chunk_size=20, n_repeats=1),
    "asteroid.sudormrf": _asteroid("SuDORMRFNet", n_src=2, bn_chan=16, num_blocks=1, upsampling_depth=3, n_filters=32),
    "asteroid.demask": _asteroid("DeMask", n_filters=64, kernel_size=64, stride=32, hidden_dims=(32,)),
    "encodec.encoder": Recipe(
        "encodec.modules.seanet",
        lambda m: m.SEANetEncoder(dimension=32, n_filters=4, ratios=[4, 2], lstm=1),
        normal(2, 1, 320),
    ),
    "encodec.decoder": Recipe(
        "encodec.modules.seanet",
        lambda m: m.SEANetDecoder(dimension=32, n_filters=4, ratios=[4, 2], lstm=1),
        normal(2, 32, 20),
    ),
    "vocos.backbone": Recipe(
        "vocos.models",
        lambda m: m.VocosBackbone(input_channels=16, dim=32, intermediate_dim=64, num_layers=2),
        normal(2, 16, 20),
    ),
    "vocos.resnet": Recipe(
        "vocos.models", lambda m: m.VocosResNetBackbone(input_channels=16, dim=32, num_blocks=1), normal(2, 16, 20)
    ),
    "demucs.demucs": Recipe(
        "demucs.demucs",
        lambda m: m.Demucs(["a", "b"], channels=8, depth=3, lstm_layers=1, resample=False, rewrite=True),
        normal(2, 2, 2048),
    ),
    "demucs.htdemucs": Recipe(
        "demucs.htdemucs",
        lambda m: m.HTDemucs(
            ["a", "b"],
            channels=8,
            nfft=512,
            depth=3,
            t_layers=1,
            t_heads=2,
            bottom_channels=0,
            segment=0.2,
            samplerate=16000,
        ),
        normal(1, 2, 3200),
    ),
    "openunmix.unmix": Recipe(
        "openunmix.model",
        lambda m: m.OpenUnmix(nb_bins=65, nb_channels=2, hidden_size=32, nb_layers=1),
        normal(2, 2, 65, 12),
    ),
    "snac.encoder": Recipe(
        "snac.layers", lambda m: m.Encoder(d_model=8, strides=[2, 4], attn_window_size=None), normal(2, 1, 320)
    ),
    "snac.decoder": Recipe(
        "snac.layers",
        lambda m: m.Decoder(input_channel=32, channels=32, rates=[4, 2], noise=False, attn_window_size=None),
        normal(2, 32, 20),
    ),
    "whisper.whole": _whisper("", together(normal(2, 16, 32), integers(99, 2, 8))),
    "whisper.encoder": _whisper("encoder", normal(2, 16, 32)),
}
