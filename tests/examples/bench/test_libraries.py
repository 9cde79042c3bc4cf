import re
from pathlib import Path

import pytest
import timm
import torch
from timm.models._registry import _module_to_models
from torchvision import models

from examples.bench.networks.catalogue import LIBRARIES, entry, names, versions
from examples.bench.networks.entry import call
from examples.bench.networks.libraries import others
from examples.bench.networks.libraries import timm as timm_models
from examples.bench.networks.libraries.others.recipe import Recipe
from examples.bench.networks.libraries.transformers import ARCHITECTURES
from swdc.errors import CommandError


def test_the_core_bench_covers_its_families():
    families = ("vgg", "resnet", "resnext", "regnet", "densenet", "mobilenet_v2", "mobilenet_v3", "efficientnet")
    families += ("mnasnet", "shufflenet", "squeezenet", "googlenet", "inception", "gcn", "graphsage", "gat", "gin")
    for family in (*families, "mlp", "lenet5"):
        assert any(name.startswith(family) for name in names("core")), family


def test_torchvision_is_covered_but_for_the_quantized():
    assert set(models.list_models()) - set(names("torchvision")) == set(models.list_models(module=models.quantization))
    assert len(names("torchvision")) >= 100


def test_every_module_of_timm_is_covered():
    assert set(timm_models.MODULES) == set(_module_to_models)
    for module, chosen in timm_models.MODULES.items():
        assert set(chosen) <= _module_to_models[module], module
    assert set(names("timm")) <= set(timm.list_models())
    assert len(names("timm")) >= 125


def test_transformers_covers_text_vision_audio_and_several_of_them():
    assert len(names("transformers")) >= 32
    inputs = [frozenset(chosen.inputs()) for chosen in ARCHITECTURES.values()]
    for kinds in ({"input_ids"}, {"pixel_values"}, {"input_values"}, {"input_ids", "pixel_values"}):
        assert frozenset(kinds) in inputs


def test_pyg_covers_convolutions_and_pooling():
    assert len(names("pyg")) >= 22
    assert {"gcn", "sage", "gat", "gatv2", "gin", "gine", "transformer", "pna", "topk_pool"} <= set(names("pyg"))


def test_the_other_zoo_is_wide_and_six_of_its_networks_are_trained():
    assert len(names("others")) >= 120
    assert len({name.partition(".")[0] for name in names("others")}) >= 30
    assert sum(entry(name, "others").trained for name in names("others")) >= 6
    assert not any(entry(name, library).trained for library in ("core", "pyg") for name in names(library))


def test_what_the_other_zoo_needs_is_pinned():
    lines = (Path(others.__file__).parent / "requirements.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", pin) for pin in pins)
    distributions = {pin.partition("==")[0].lower() for pin in pins}
    assert not distributions & {"torch", "torchvision", "numpy"}  # those of swdc[bench]
    assert {"diffusers", "monai", "ultralytics", "vit-pytorch", "facenet-pytorch"} <= distributions


def test_a_library_of_the_other_zoo_that_is_missing_says_how_to_install_it():
    recipe = Recipe("no_such_library.models", lambda module: module.Network(), torch.rand)
    with pytest.raises(
        CommandError, match=r"expected what no_such_library\.models needs to be installed, got .*others/req"
    ):
        recipe.build()


@pytest.mark.parametrize("library", LIBRARIES)
def test_every_network_has_an_entry(library):
    assert all(entry(name, library).name == name for name in names(library))
    assert len(set(names(library))) == len(names(library))
    assert versions(library)["torch"] == torch.__version__.partition("+")[0]


@pytest.mark.parametrize(
    ("library", "name"),
    [
        ("torchvision", "squeezenet1_1"), ("torchvision", "lraspp_mobilenet_v3_large"), ("torchvision", "raft_small"),
        ("timm", "lcnet_035"), ("transformers", "bert"), ("transformers", "clip"), ("pyg", "gin"), ("pyg", "appnp"),
        ("pyg", "nn"), ("pyg", "rgcn"), ("pyg", "sag_pool"), ("pyg", "set2set"), ("pyg", "jumping_gcn"),
    ],
)  # fmt: skip
def test_networks_run_on_their_inputs(library, name):
    chosen = entry(name, library)
    args, kwargs = call(chosen.inputs())
    with torch.no_grad():
        assert chosen.model().eval()(*args, **kwargs) is not None


@pytest.mark.parametrize("library", LIBRARIES)
def test_unknown_networks_are_refused(library):
    with pytest.raises(CommandError, match=r"expected networks of .* got 'alexnot'"):
        entry("alexnot", library)


def test_unknown_libraries_are_refused():
    with pytest.raises(
        CommandError, match="expected a library of core, torchvision, timm, transformers, pyg, others, got 'jax'"
    ):
        names("jax")
