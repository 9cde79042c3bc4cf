"""Training-aware quantisation of a slim program, with torchao (``pip install torchao scikit-learn``).

A small convolutional network learns handwritten digits, half of its parameters go, and the slim program is trained
again. Then torch.export takes it, torchao puts fake quantisation into the graph, some more epochs train the weights
around the rounding, and the weights become int8. ``python examples/qat_digits.py`` prints the accuracies.
"""

import argparse
import copy
from dataclasses import dataclass

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional
from torchao.quantization.pt2e import move_exported_model_to_eval
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_qat_pt2e
from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

import swdc

digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
labels = torch.tensor(digits.target)
train_rows, test_rows = torch.randperm(1797, generator=torch.Generator().manual_seed(0)).split([1437, 360])


@dataclass(frozen=True)
class Result:
    """Accuracies from 0 to 1 on 360 digits that no training saw, and the networks."""

    dense: float
    float32: float
    int8: float
    slim: swdc.Program
    quantized: nn.Module


def fit(model: nn.Module, epochs: int, rate: float) -> None:
    """Train a model with Adam on the digits, in batches of 64."""
    optimizer = torch.optim.Adam(model.parameters(), rate)
    for _ in range(epochs):
        for rows in train_rows[torch.randperm(len(train_rows))].split(64):
            optimizer.zero_grad()
            functional.cross_entropy(model(images[rows]), labels[rows]).backward()
            optimizer.step()


@torch.no_grad()
def accuracy(model: nn.Module) -> float:
    """Return the share of the held-out digits that a model classifies correctly."""
    return float((model(images[test_rows]).argmax(1) == labels[test_rows]).double().mean())


def slimmed(epochs: int) -> tuple[float, swdc.Program]:
    """Return the accuracy of a dense network, and the slim program that was cut from it and trained again."""
    network = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Conv2d(32, 64, 3, stride=2), nn.BatchNorm2d(64), nn.ReLU(), nn.Flatten(), nn.Linear(576, 10),
    )  # fmt: skip
    fit(network, epochs, 5e-3)
    program = swdc.trace(network.eval(), images[:2])
    plan = swdc.plan(program, 0.5, budget="parameters", round_to=8)
    slim = swdc.slim(program, plan)
    assert swdc.verify(swdc.mask(program, plan), slim).exact
    fit(slim.train(), epochs, 5e-3)
    return accuracy(network), slim.eval()


def quantized(slim: swdc.Program, epochs: int) -> nn.Module:
    """Return a copy of a slim program that was trained with fake quantisation, and then holds int8 weights."""
    trained = copy.deepcopy(slim).train()  # what torch.export returns shares its parameters
    batch = torch.export.Dim("batch", min=2)
    graph = torch.export.export(trained, (images[:2],), dynamic_shapes=({0: batch},)).module()
    quantizer = x86.X86InductorQuantizer()
    quantizer.set_global(x86.get_default_x86_inductor_quantization_config(is_qat=True))
    prepared = prepare_qat_pt2e(graph, quantizer)
    fit(prepared, epochs, 1e-3)
    move_exported_model_to_eval(prepared)
    converted: nn.Module = convert_pt2e(prepared)
    return converted


def run(epochs: int, qat_epochs: int) -> Result:
    """Go the whole way; ``epochs`` each for the dense and the slim network, ``qat_epochs`` with fake quantisation."""
    torch.manual_seed(0)
    dense, slim = slimmed(epochs)
    before = accuracy(slim)
    made = quantized(slim, qat_epochs)
    return Result(dense, before, accuracy(made), slim, made)


def main() -> None:
    """Print the accuracies."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=10, help="of the dense and of the slim network")
    parser.add_argument("--qat-epochs", type=int, default=3, help="with fake quantisation")
    given = parser.parse_args()
    result = run(given.epochs, given.qat_epochs)
    print(f"dense {result.dense:.1%}, slim {result.float32:.1%}, slim in int8 after training for it {result.int8:.1%}")


if __name__ == "__main__":
    main()
