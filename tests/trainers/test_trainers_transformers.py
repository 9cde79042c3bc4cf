"""The callback for transformers: the numbers of a plain loop, and exact resume from the middle of an epoch."""

import shutil
from functools import partial

import pytest
from torch import nn
from torch.nn import functional
from torch.utils.data import Dataset

import swdc
from swdc.errors import PlanError
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

pytestmark = pytest.mark.filterwarnings("ignore")  # those of transformers and accelerate

SWD = partial(swdc.SWD, target=0.5, structure="weights", a_min=10, a_max=1e3)


class Rows(Dataset):
    def __len__(self):
        return len(INPUTS)

    def __getitem__(self, row):
        return {"inputs": INPUTS[row], "labels": LABELS[row]}


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = network()

    def forward(self, inputs, labels):
        return {"loss": functional.cross_entropy(self.net(inputs), labels)}


@pytest.fixture(scope="module")
def library():
    pytest.importorskip("accelerate")  # its Trainer is built on it
    import transformers

    transformers.logging.set_verbosity_error()
    return transformers


@pytest.fixture(scope="module")
def callback_of(library):
    from swdc.trainers.transformers import SWDCallback

    return SWDCallback


def train(library, callback, folder, path=None, shuffled=False, **options):
    model = Classifier()
    settings = {
        "num_train_epochs": EPOCHS, "gradient_accumulation_steps": ACCUMULATE, "max_grad_norm": CLIP,
        "save_strategy": "no", "train_sampling_strategy": "random" if shuffled else "sequential", **options,
    }  # fmt: skip
    arguments = library.TrainingArguments(
        output_dir=str(folder), per_device_train_batch_size=BATCH, use_cpu=True, report_to=[], disable_tqdm=True,
        logging_strategy="no", lr_scheduler_type="constant", **settings,
    )  # fmt: skip
    trainer = library.Trainer(
        model, arguments, train_dataset=Rows(), callbacks=[] if callback is None else [callback],
        optimizers=(sgd(model), None),
    )  # fmt: skip
    trainer.train(resume_from_checkpoint=path)
    return trainer


def test_same_weights_as_the_plain_loop(library, callback_of, tmp_path):
    callback = callback_of(SWD)
    trainer = train(library, callback, tmp_path)
    assert callback.method.steps == callback.method.s == STEPS
    assert_same_weights(trained_by_hand(SWD), trainer.model.net, 1e-6)
    trainer.optimizer.step()
    assert callback.method.s == STEPS, "nothing acts after training"


def test_resume_from_the_middle_of_an_epoch_is_exact(library, callback_of, tmp_path):
    saving = {"save_strategy": "steps", "save_steps": 2, "shuffled": True}
    whole = train(library, callback_of(SWD), tmp_path / "run", **saving)
    middle = shutil.move(tmp_path / "run" / "checkpoint-4", tmp_path / "moved")
    callback = callback_of(SWD)
    resumed = train(library, callback, tmp_path / "again", str(middle), **saving)
    assert callback.method.s == STEPS
    assert_same_weights(whole.model, resumed.model)
    assert "swdc" not in resumed.optimizer.optimizer.param_groups[0]


def test_a_checkpoint_without_its_state_is_refused(library, callback_of, tmp_path):
    train(library, None, tmp_path, save_strategy="steps", save_steps=4)
    with pytest.raises(PlanError, match="expected a checkpoint that holds the state of SWD, got one of step 4"):
        train(library, callback_of(SWD), tmp_path, str(tmp_path / "checkpoint-4"))


def test_reduced_precision(library, callback_of, tmp_path):
    callback = callback_of(SWD)
    trainer = train(library, callback, tmp_path, bf16=True)
    assert callback.method.s == STEPS
    assert_same_weights(trained_by_hand(SWD), trainer.model.net, 0.05)
