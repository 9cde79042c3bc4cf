"""``swdc slim hf:FOLDER``: a checkpoint of transformers in, a slim one out, without a line of Python."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from swdc.artifacts.pretrained.opening import Beside, open_pretrained
from swdc.artifacts.pretrained.save import save_pretrained
from swdc.artifacts.report.slimming import Slimming
from swdc.capture.trace import trace
from swdc.cli.terminal.inputs import example_inputs
from swdc.cli.terminal.models import Source
from swdc.cli.terminal.output import Output
from swdc.errors import CommandError
from swdc.rewriting.rewrites import mask, slim
from swdc.rewriting.verify import verify
from swdc.sparsity.planning.plan import plan

PREFIX = "hf:"
_LENGTH, _BATCH = 16, 2


def is_pretrained(model: str) -> bool:
    """Whether what the command line names is a folder of transformers."""
    return model.startswith(PREFIX)


def slim_pretrained(output: Output, source: Source, settings: dict[str, Any], out: Path) -> Slimming:
    """Slim the model of a folder evenly, prove the result exact, and save it where ``from_pretrained`` loads it.

    If the proof fails nothing is written.
    """
    folder = Path(source.model.removeprefix(PREFIX))
    extra = [name for name, given in (("--arg", source.arguments), ("--weights", source.weights)) if given]
    if extra:
        raise CommandError(f"expected {source.model} alone, got {' and '.join(extra)}, too; the folder holds its own")
    if out.resolve() == folder.resolve():
        raise CommandError(f"expected --out to name another folder than {folder}, whose model is read; name a new one")
    with _quiet():
        beside = Beside(folder) if folder.is_dir() else None
        with output.step(f"loading {folder}"):
            model = open_pretrained(folder)
        with output.step(f"tracing {type(model).__name__}"), redirect_stderr(io.StringIO()):
            dense = trace(model, example_of(model, source))
        with output.step("planning and cutting"):
            chosen = plan(dense, **{**settings, "even": True})
            masked, small = mask(dense, chosen), slim(dense, chosen)
        with output.step("comparing the slim program with the masked one"):
            certificate = verify(masked, small, seed=source.seed)
        if certificate.exact:
            with output.step(f"solving the configuration and saving {out}"), redirect_stderr(io.StringIO()):
                save_pretrained(small, model, out, beside)
    return Slimming(dense, small, chosen, certificate)


def example_of(model: Any, source: Source) -> dict[str, Any]:
    """Return inputs by name: those of ``--input``, or tokens or an image as the configuration describes them."""
    if source.inputs:
        given = example_inputs(source.inputs, source.seed)
        if not isinstance(given, dict):
            raise CommandError(
                f"expected inputs by name, as in {model.main_input_name}=2x16:int64, got them by position"
            )
        return given
    config, generator = model.config.get_text_config(), torch.Generator().manual_seed(source.seed)
    if model.main_input_name == "input_ids" and hasattr(config, "vocab_size"):
        names = ["input_ids", *(["decoder_input_ids"] if model.config.is_encoder_decoder else [])]
        return {n: torch.randint(config.vocab_size, (_BATCH, _LENGTH), generator=generator) for n in names}
    size = getattr(model.config, "image_size", None)
    if model.main_input_name == "pixel_values" and isinstance(size, int):
        shape = (_BATCH, getattr(model.config, "num_channels", 3), size, size)
        return {"pixel_values": torch.randn(shape, generator=generator, dtype=model.dtype)}
    raise CommandError(
        f"expected inputs for {type(model).__name__}, whose configuration does not describe them; add --input "
        f"{model.main_input_name}=SHAPE"
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the library from writing progress and advice; messages of its own are restored afterwards."""
    try:
        logging = import_module("transformers.utils.logging")
    except ImportError:
        yield  # opening the folder says what to install
        return
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
