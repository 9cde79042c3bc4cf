"""The state of a long training on disk: whole, or the one before it."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from swdc.errors import PlanError, brief
from swdc.ir.atomic_files import why, workspace
from swdc.sparsity.fingerprints import check_settings

NAME = "recovery.pt"


class SavedState:
    """A file in a folder that holds the settings of a training and its last saved state.

    It is read as tensors and plain values only, so that it executes nothing.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self._path, self._settings = folder / NAME, dict(settings)

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace the saved state in one step; ``PlanError`` if it cannot be written."""
        try:
            with workspace(self._path.parent) as folder:
                made = folder / NAME
                torch.save({"settings": self._settings, "state": dict(state)}, made)
                os.replace(made, self._path)
        except OSError as error:
            raise PlanError(
                f"expected a folder to save the training in, but {self._path} cannot be written: {why(error)}; give "
                f"another folder"
            ) from error

    def load(self) -> dict[str, Any] | None:
        """Return the saved state, ``None`` if there is none; ``PlanError`` if it is that of other settings."""
        if not self._path.exists():
            return None
        try:
            found = torch.load(self._path, map_location="cpu", weights_only=True)
            settings, state = found["settings"], found["state"]
        except (OSError, RuntimeError, ValueError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as error:
            raise PlanError(
                f"expected the state of a recovery in {self._path}, got another file ({brief(error)}); give an empty "
                f"folder, or remove the file"
            ) from error
        check_settings("recovery", settings, self._settings)
        return dict(state)
