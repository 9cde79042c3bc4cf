"""The callback for Lightning: the numbers of a plain loop, in every precision, and exact resume."""

import sys
from contextlib import nullcontext
from functools import partial
from importlib import import_module

import pytest
import torch
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

import swdc
from swdc.errors import PackageError, PlanError
from swdc.sparsity.baselines.magnitude import MagnitudePruning
from tests.trainers.support_trainers import (
    ACCUMULATE,
    BATCH,
    CLIP,
    EPOCHS,
    INPUTS,
    LABELS,
    STEPS,
    assert_same_weights,
    network,
    sgd,
    trained_by_hand,
)

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's own, about workers and loggers

SWD = partial(swdc.SWD, target=0.5, structure="weights", a_min=10, a_max=1e3)


@pytest.fixture(scope="module")
def pl():
    import lightning.pytorch as pl

    return pl


def module_of(pl):
    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = network()

        def training_step(self, batch, _):
            inputs, labels = batch
            return functional.cross_entropy(self.net(inputs), labels)

        def configure_optimizers(self):
            return sgd(self)

    return Module()


def fit(pl, callback, module=None, path=None, folder=None, **options):
    module = module or module_of(pl)
    callbacks = [callback]
    if folder is not None:
        callbacks.append(pl.callbacks.ModelCheckpoint(folder, save_top_k=-1, every_n_train_steps=STEPS // EPOCHS))
    settings = {"max_epochs": EPOCHS, "accumulate_grad_batches": ACCUMULATE, "gradient_clip_val": CLIP, **options}
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False, callbacks=callbacks,
        enable_checkpointing=folder is not None, **settings,
    )  # fmt: skip
    trainer.fit(module, DataLoader(TensorDataset(INPUTS, LABELS), BATCH), ckpt_path=path)
    return module


@pytest.fixture(scope="module")
def callback_of(pl):
    from swdc.trainers.lightning import SWDCallback

    return SWDCallback


def test_same_weights_as_the_plain_loop(pl, callback_of):
    callback = callback_of(SWD)
    assert callback.method is None
    module = fit(pl, callback)
    assert callback.method.steps == callback.method.s == STEPS
    assert_same_weights(trained_by_hand(SWD), module.net)


def test_resume_is_exact(pl, callback_of, tmp_path):
    whole = fit(pl, callback_of(SWD), folder=tmp_path)
    callback = callback_of(SWD)
    resumed = fit(pl, callback, path=next(tmp_path.glob("*step=3.ckpt")))
    assert callback.method.s == STEPS
    assert_same_weights(whole, resumed)


def test_a_checkpoint_without_its_state_is_refused(pl, callback_of, tmp_path):
    fit(pl, pl.Callback(), folder=tmp_path)
    with pytest.raises(PlanError, match="expected a checkpoint that holds the state of SWD, got one of step 3"):
        fit(pl, callback_of(SWD), path=next(tmp_path.glob("*step=3.ckpt")))


@pytest.mark.parametrize("fused", [False, True])
def test_gradients_are_unscaled_and_a_step_that_the_scaler_skips_is_skipped(pl, callback_of, fused):
    class InfiniteAtTimes(type(module_of(pl))):
        def training_step(self, batch, index):
            return super().training_step(batch, index) * (float("inf") if index == ACCUMULATE else 1.0)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, fused=fused)

    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)
    precision = pl.plugins.MixedPrecision("16-mixed", "cpu", scaler)
    precision.forward_context = nullcontext  # float16 itself rounds; what is tested is the scaling
    callback = callback_of(SWD)
    module = fit(pl, callback, InfiniteAtTimes(), plugins=[precision], gradient_clip_val=None)
    assert callback.method.s == STEPS - EPOCHS
    assert scaler.get_scale() == 2.0 ** (8 - EPOCHS)
    assert_same_weights(trained_by_hand(SWD, clip=1e9, left_out=1), module.net, 1e-6)


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_reduced_precision(pl, callback_of, precision):
    plugin = pl.plugins.MixedPrecision(precision, "cpu")
    callback = callback_of(SWD)
    module = fit(pl, callback, plugins=[plugin])
    assert callback.method.s == STEPS
    exact = trained_by_hand(SWD)
    assert_same_weights(exact, module.net, 0.05)
    assert any(not torch.equal(a, b) for a, b in zip(exact.parameters(), module.net.parameters(), strict=True))


def test_manual_optimization_of_one_of_two_optimizers(pl, callback_of):
    class Two(type(module_of(pl))):
        def __init__(self):
            super().__init__()
            self.other = network()
            self.automatic_optimization = False

        def configure_optimizers(self):
            return [sgd(self.other), sgd(self.net)]

        def training_step(self, batch, index):
            _, optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(super().training_step(batch, index))
            optimizer.step()

    callback = callback_of(lambda module, **given: SWD(module.net, **given), index=1)
    settings = {"accumulate_grad_batches": 1, "gradient_clip_val": None, "max_epochs": 1}
    fit(pl, callback, Two(), **settings)
    assert callback.method.s == callback.method.steps == len(INPUTS) // BATCH


def test_own_number_of_steps_and_a_method_made_before(pl, callback_of):
    callback = callback_of(partial(SWD, steps=100))
    fit(pl, callback)
    assert (callback.method.s, callback.method.steps) == (STEPS, 100)
    module = module_of(pl)
    swd = SWD(module, steps=STEPS)
    fit(pl, callback_of(swd), module)
    assert_same_weights(trained_by_hand(SWD), module.net)


def test_a_baseline_acts_too(pl, callback_of):
    method = partial(MagnitudePruning, target=0.5, start=2, rounds=2, every=1)
    callback = callback_of(method)
    module = fit(pl, callback)
    assert_same_weights(trained_by_hand(method), module.net)
    gone = sum(int((p == 0).sum()) for p in module.net.parameters())
    assert gone == int(0.5 * sum(p.numel() for p in module.net.parameters()))


def test_nothing_acts_after_training(pl, callback_of):
    callback = callback_of(SWD)
    module = fit(pl, callback)
    module.trainer.optimizers[0].step()
    assert callback.method.s == STEPS


def test_bad_arguments(pl, callback_of):
    for wrong in (3, None, torch.nn.Linear(2, 2)):
        with pytest.raises(PlanError, match=r"expected (a )?method .* got (3|None|Linear)"):
            callback_of(wrong)
    with pytest.raises(PlanError, match=r"expected a function that returns a method .* got int"):
        fit(pl, callback_of(lambda *_, **__: 3))
    with pytest.raises(PlanError, match="expected steps as the whole number"):
        fit(pl, callback_of(SWD), max_epochs=-1, max_time={"seconds": 1})


@pytest.mark.parametrize(("name", "package"), [("lightning", "lightning.pytorch"), ("transformers", "transformers")])
def test_a_missing_package_is_named_with_its_extra(monkeypatch, name, package):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"swdc.trainers.{name}", raising=False)
    with pytest.raises(PackageError, match=rf"expected {name} to be installed; .* 'swdc\[trainers\]'"):
        import_module(f"swdc.trainers.{name}")
