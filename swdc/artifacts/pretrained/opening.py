"""Opening a checkpoint of transformers from a folder: only classes of the library, only safetensors, nothing executed.

The configuration is read as plain data before the library sees it, so that a folder which would make the library run
code of its own (``auto_map``), or fetch some, is refused.
"""

from __future__ import annotations

import re
import shutil
import warnings
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from swdc.artifacts.storage.checkpoint_reader import INDEX, Checkpoint
from swdc.artifacts.storage.folders import own_file
from swdc.artifacts.storage.plain_json import read_json
from swdc.errors import ArtifactError, PackageError, SwdcError, brief

CONFIG = "config.json"
_ADAPTER = "adapter_config.json"
_WEIGHTS = "model.safetensors"
_REFUSED = {
    "auto_map": "which names code in the folder to run; only classes of transformers are opened",
    "quantization_config": "whose weights are quantised; give the weights in floating point",
}
"""Keys of a configuration, at any depth, that a folder may not have, and why."""
_DROPPED = ("attn_implementation", "_attn_implementation", "_attn_implementation_internal", "experts_implementation")
"""Keys that may make the library fetch kernels; what computes is up to the library."""
_TROUBLES = {"missing_keys": "missing", "mismatched_keys": "of other shapes", "unexpected_keys": "unknown"}
"""What the library reports on the tensors of a folder."""
_BESIDE = re.compile(
    r"tokenizer\w*\.json|special_tokens_map\.json|added_tokens\.json|vocab\.(json|txt)|merges\.txt|\w+\.model|"
    r"(preprocessor|processor)_config\.json|chat_template\.(json|jinja)"
)
"""Files beside the weights that a slim model needs as they are."""


def open_pretrained(folder: Path) -> Any:
    """Return the model of a folder with ``config.json`` and safetensors, in evaluation and in the types of the files.

    Raises ``ArtifactError`` for a folder without weights, with damaged ones or those of another configuration, and for
    one that asks for code of its own; ``PackageError`` if transformers is not installed.
    """
    try:
        transformers = import_module("transformers")
    except ImportError as error:
        raise PackageError("transformers", "bench") from error
    data = _configuration(folder)
    cls = _class(transformers, data, folder)
    checkpoint = _weights(folder)
    config = cls.config_class.from_dict({key: value for key, value in data.items() if key not in _DROPPED})
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model, report = cls.from_pretrained(
                folder, config=config, local_files_only=True, trust_remote_code=False, use_safetensors=True,
                dtype=_dtype(checkpoint), output_loading_info=True,
            )  # fmt: skip
    except Exception as error:  # the library raises errors of many kinds
        raise ArtifactError(
            f"expected weights in {folder} that fit its {CONFIG}, but {cls.__name__} refuses them: {brief(error)}; "
            f"give both of one model"
        ) from error
    _check_report(report, folder)
    return model.eval()


class Beside:
    """The files of tokenizers and processors in a folder; ``save_pretrained`` copies them into another folder."""

    def __init__(self, folder: Path) -> None:
        self._files = [file for file in sorted(folder.iterdir()) if _BESIDE.fullmatch(file.name)]
        for file in self._files:
            _check(own_file(folder, file.name), f"in {file}")

    def save_pretrained(self, folder: Path) -> None:
        """Copy the files."""
        for file in self._files:
            shutil.copyfile(file, folder / file.name)


def _configuration(folder: Path) -> dict[str, Any]:
    file = folder / CONFIG
    if not file.is_file():
        raise ArtifactError(f"expected the folder of a model of transformers, got {folder}, which has no {CONFIG}")
    if (folder / _ADAPTER).exists():
        raise ArtifactError(f"expected a whole model in {folder}, got an adapter, {_ADAPTER}; merge it into the model")
    _check(own_file(folder, CONFIG), f"in {file}")
    data = read_json(file)
    if not isinstance(data, dict):
        raise ArtifactError(f"expected {file} as an object, got {type(data).__name__}; copy the folder again")
    return data


def _check(file: Path, where: str) -> None:
    """Raise ``ArtifactError`` if a JSON file holds a key that makes the library run code, or is no JSON."""
    if file.suffix != ".json":
        return
    try:
        found = [key for key in _keys(read_json(file)) if key in _REFUSED]
    except (ValueError, RecursionError, SwdcError) as error:
        raise ArtifactError(f"expected JSON {where}, got something else ({brief(error)}); copy it again") from error
    if found:
        raise ArtifactError(
            f"expected a model that transformers itself computes, got {found[0]!r} {where}, {_REFUSED[found[0]]}"
        )


def _keys(data: Any) -> Iterator[str]:
    if isinstance(data, dict):
        yield from data
        data = list(data.values())
    for item in data if isinstance(data, list) else ():
        yield from _keys(item)


def _class(transformers: Any, data: dict[str, Any], folder: Path) -> Any:
    """Return the class that a configuration names: one of transformers, and nothing else."""
    names = data.get("architectures")
    name = names[0] if isinstance(names, list) and len(names) == 1 else None
    cls = getattr(transformers, name, None) if isinstance(name, str) and name.isidentifier() else None
    if not (isinstance(cls, type) and issubclass(cls, transformers.PreTrainedModel)):
        raise ArtifactError(
            f"expected {folder / CONFIG} to name one class of transformers in 'architectures', got {names!r:.200}; "
            f"save the model with its save_pretrained"
        )
    made: Any = cls
    if data.get("model_type") != made.config_class.model_type:
        raise ArtifactError(
            f"expected a model_type of {made.config_class.model_type!r} for {name} in {folder / CONFIG}, got "
            f"{data.get('model_type')!r:.200}; give the configuration of this class"
        )
    return made


def _weights(folder: Path) -> Checkpoint:
    """Return the weights of a folder, whose files are whole; ``ArtifactError`` if there are none in safetensors."""
    if not (folder / _WEIGHTS).is_file() and not (folder / INDEX).is_file():
        raise ArtifactError(
            f"expected {_WEIGHTS} or {INDEX} in {folder}, got neither; save the model with its save_pretrained, which "
            f"writes safetensors"
        )
    checkpoint = Checkpoint(folder)
    for name in {checkpoint.entry(name).file.name for name in checkpoint}:
        own_file(folder, name)
    return checkpoint


def _dtype(checkpoint: Checkpoint) -> torch.dtype:
    """Return the floating-point type that most numbers of a checkpoint have."""
    counts: dict[torch.dtype, int] = {}
    for entry in (checkpoint.entry(name) for name in checkpoint):
        if entry.dtype.is_floating_point:
            counts[entry.dtype] = counts.get(entry.dtype, 0) + entry.size // entry.dtype.itemsize
    return max(counts, key=lambda dtype: counts[dtype], default=torch.float32)


def _check_report(report: dict[str, Any], folder: Path) -> None:
    """Raise ``ArtifactError`` if tensors were missing in a folder, had other shapes, or were too many."""
    for kind, what in _TROUBLES.items():
        found = sorted(str(one[0] if isinstance(one, tuple) else one) for one in report.get(kind) or ())
        if found:
            raise ArtifactError(
                f"expected weights in {folder} that fit its {CONFIG}, but {len(found)} are {what} ({found[0]} first); "
                f"give both of one model"
            )
