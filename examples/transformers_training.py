"""SWD in the Trainer of transformers: a callback acts at every step of the optimizer, as part of every checkpoint."""

import tempfile

import torch
from sklearn.datasets import load_digits
from transformers import Trainer, TrainingArguments, ViTConfig, ViTForImageClassification

import swdc
from swdc.trainers.transformers import SWDCallback

digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
samples = [{"pixel_values": image, "labels": int(label)} for image, label in zip(images, digits.target, strict=True)]

torch.manual_seed(0)
config = ViTConfig(
    image_size=8, patch_size=2, num_channels=1, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
    num_attention_heads=4, num_labels=10,
)  # fmt: skip
model = ViTForImageClassification(config)
program = swdc.trace(model, {"pixel_values": images[:2]})  # holds the model's own parameters
callback = SWDCallback(
    lambda model, **given: swdc.SWD(program, target=0.5, structure="filters", a_min=1e1, a_max=1e4, **given)
)
with tempfile.TemporaryDirectory() as folder:
    arguments = TrainingArguments(
        folder, num_train_epochs=2, per_device_train_batch_size=32, gradient_accumulation_steps=2, learning_rate=2e-3,
        use_cpu=True, report_to=[], save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    Trainer(model, arguments, train_dataset=samples, callbacks=[callback]).train()

program.eval()
plan = callback.method.plan()
slim = swdc.slim(program, plan)
print(swdc.verify(swdc.mask(program, plan), slim))
print(f"{swdc.count(program).parameters:,} -> {swdc.count(slim).parameters:,} parameters")
