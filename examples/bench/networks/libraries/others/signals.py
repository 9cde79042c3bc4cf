"""Time series, tables, brain waves, spikes, flows, and networks of learned functions."""

from __future__ import annotations

from typing import Any

import torch

from examples.bench.networks.libraries.others.recipe import Inputs, Recipe, integers, normal, together

EEG = normal(2, 8, 256)


def _brain(name: str, inputs: Inputs = EEG, **options: Any) -> Recipe:
    kept = {"n_chans": 8, "n_outputs": 4, "n_times": 256, **options}
    return Recipe("braindecode.models", lambda m: getattr(m, name)(**kept), inputs)


def _tabnet(m: Any) -> torch.nn.Module:
    network: torch.nn.Module = m.TabNetNoEmbeddings(
        12, 3, n_d=8, n_a=8, n_steps=2, group_attention_matrix=torch.eye(12)
    )
    return network


class Spiking(torch.nn.Module):
    """Two layers of leaky neurons over three steps; returns the spikes of the last one."""

    def __init__(self, library: Any) -> None:
        super().__init__()
        self.first, self.second = torch.nn.Linear(16, 32), torch.nn.Linear(32, 4)
        self.spike, self.leak = library.Leaky(beta=0.9), library.Leaky(beta=0.8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return membrane potentials of shape ``(batch, 4)``."""
        hidden, last = self.spike.init_leaky(), self.leak.init_leaky()
        for _ in range(3):
            spikes, hidden = self.spike(self.first(x), hidden)
            _, last = self.leak(self.second(spikes), last)
        return last  # type: ignore[no-any-return]


NETWORKS = {
    "pytorch_forecasting.nbeats_block": Recipe(
        "pytorch_forecasting.models.nbeats.sub_modules",
        lambda m: m.NBEATSGenericBlock(
            units=32, thetas_dim=16, num_block_layers=2, backcast_length=24, forecast_length=8
        ),
        normal(2, 24),
    ),
    "pytorch_forecasting.nbeats_trend": Recipe(
        "pytorch_forecasting.models.nbeats.sub_modules",
        lambda m: m.NBEATSTrendBlock(units=32, thetas_dim=3, num_block_layers=2, backcast_length=24, forecast_length=8),
        normal(2, 24),
    ),
    "pytorch_forecasting.nbeats_seasonal": Recipe(
        "pytorch_forecasting.models.nbeats.sub_modules",
        lambda m: m.NBEATSSeasonalBlock(units=32, num_block_layers=2, backcast_length=24, forecast_length=8),
        normal(2, 24),
    ),
    "pytorch_forecasting.grn": Recipe(
        "pytorch_forecasting.models.temporal_fusion_transformer.sub_modules",
        lambda m: m.GatedResidualNetwork(16, 32, 16),
        normal(2, 12, 16),
    ),
    "pytorch_tcn.tcn": Recipe(
        "pytorch_tcn",
        lambda m: m.TCN(num_inputs=4, num_channels=[16, 16, 24], kernel_size=3, causal=True),
        normal(2, 4, 40),
    ),
    "pytorch_tcn.skips": Recipe(
        "pytorch_tcn",
        lambda m: m.TCN(
            num_inputs=4,
            num_channels=[16, 16, 16],
            kernel_size=3,
            causal=False,
            use_skip_connections=True,
            use_norm="weight_norm",
        ),
        normal(2, 4, 40),
    ),
    "pytorch_tabnet.tabnet": Recipe("pytorch_tabnet.tab_network", _tabnet, normal(4, 12)),
    "rtdl.mlp": Recipe(
        "rtdl", lambda m: m.MLP.make_baseline(d_in=12, d_layers=[32, 32], dropout=0.1, d_out=3), normal(2, 12)
    ),
    "rtdl.resnet": Recipe(
        "rtdl",
        lambda m: m.ResNet.make_baseline(
            d_in=12, n_blocks=2, d_main=32, d_hidden=64, dropout_first=0.1, dropout_second=0.1, d_out=3
        ),
        normal(2, 12),
    ),
    "rtdl.ft_transformer": Recipe(
        "rtdl",
        lambda m: m.FTTransformer.make_baseline(
            n_num_features=6,
            cat_cardinalities=[4, 5],
            d_token=32,
            n_blocks=2,
            attention_dropout=0.0,
            ffn_d_hidden=48,
            ffn_dropout=0.0,
            residual_dropout=0.0,
            d_out=3,
        ),
        together(normal(2, 6), integers(4, 2, 2)),
    ),
    "rtdl_revisiting_models.ft_transformer": Recipe(
        "rtdl_revisiting_models",
        lambda m: m.FTTransformer(
            n_cont_features=6,
            cat_cardinalities=[4, 5],
            d_out=3,
            n_blocks=2,
            d_block=32,
            attention_n_heads=4,
            attention_dropout=0.0,
            ffn_d_hidden_multiplier=1.5,
            ffn_dropout=0.0,
            residual_dropout=0.0,
        ),
        together(normal(2, 6), integers(4, 2, 2)),
    ),
    "rtdl_revisiting_models.resnet": Recipe(
        "rtdl_revisiting_models",
        lambda m: m.ResNet(
            d_in=12, d_out=3, n_blocks=2, d_block=32, d_hidden=None, d_hidden_multiplier=2.0, dropout1=0.0, dropout2=0.0
        ),
        normal(2, 12),
    ),
    "tabm.tabm": Recipe(
        "tabm",
        lambda m: m.TabM(
            n_num_features=12, d_out=3, n_blocks=2, d_block=32, dropout=0.0, k=4, start_scaling_init="random-signs"
        ),
        normal(2, 12),
    ),
    "tabm.mini": Recipe(
        "tabm",
        lambda m: m.TabM(
            n_num_features=12,
            d_out=3,
            n_blocks=2,
            d_block=32,
            dropout=0.0,
            k=4,
            start_scaling_init="random-signs",
            arch_type="tabm-mini",
        ),
        normal(2, 12),
    ),
    "braindecode.eegnet": _brain("EEGNet"),
    "braindecode.shallow": _brain("ShallowFBCSPNet"),
    "braindecode.deep4": _brain("Deep4Net", normal(2, 8, 600), n_times=600),
    "braindecode.eegconformer": _brain("EEGConformer"),
    "braindecode.atcnet": _brain("ATCNet", normal(2, 8, 500), n_times=500, sfreq=125),
    "braindecode.eegnex": _brain("EEGNeX"),
    "braindecode.tcn": _brain("EEGTCNet"),
    "braindecode.tsception": _brain("TSception", normal(2, 8, 512), n_times=512, sfreq=128),
    "braindecode.sleep_stager": _brain("SleepStagerChambon2018", normal(2, 8, 640), n_times=640, sfreq=64),
    "kan.kan": Recipe(
        "kan", lambda m: m.KAN(width=[4, 6, 2], grid=3, k=3, auto_save=False, symbolic_enabled=False), normal(4, 4)
    ),
    "snntorch.leaky": Recipe("snntorch", Spiking, normal(2, 16)),
    "e3nn.gate": Recipe("e3nn.nn", lambda m: m.FullyConnectedNet([16, 32, 32, 4], torch.relu), normal(4, 16)),
    "e3nn.linear": Recipe("e3nn.o3", lambda m: m.Linear("4x0e + 2x1o", "4x0e + 2x1o"), normal(4, 10)),
    "nflows.coupling_net": Recipe("nflows.nn.nets", lambda m: m.ResidualNet(8, 16, 32, num_blocks=2), normal(4, 8)),
    "nflows.made": Recipe(
        "nflows.transforms.made", lambda m: m.MADE(8, 32, num_blocks=2, output_multiplier=2), normal(4, 8)
    ),
    "zuko.masked_mlp": Recipe(
        "zuko.nn", lambda m: m.MaskedMLP(torch.tril(torch.ones(6, 6), -1) > 0, (32, 32)), normal(4, 6)
    ),
    "zuko.mlp": Recipe("zuko.nn", lambda m: m.MLP(8, 4, (32, 32), normalize=True), normal(4, 8)),
}
