import pytest
import timm
import torch
from timm.models._registry import _module_to_models
from torchvision import models

from examples.bench.networks.catalogue import LIBRARIES, entry, names, versions
from examples.bench.networks.entry import call
from examples.bench.networks.libraries import timm as timm_models
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
        CommandError, match="expected a library of core, torchvision, timm, transformers, pyg, got 'jax'"
    ):
        names("jax")
