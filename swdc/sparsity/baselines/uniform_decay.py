"""Uniform growing decay: the ablation of Tessier et al. (2022), SWD without its selectivity."""

from __future__ import annotations

from collections.abc import Sequence

from swdc.sparsity.swd import SWD
from swdc.sparsity.targets import Target


class UniformDecay(SWD):
    """Let SWD's decay grow on everything that could be removed, and remove the least at the end::

        method = UniformDecay(program, 0.9, "weights", a_min=1e-1, a_max=1e5, steps=steps)
        ...
        method.remove_()

    This is the ablation of section 4.8 of Tessier et al. (2022), with the arguments of ``SWD``. ``a(s) * mu * w`` is
    added to the gradients of all weights outside norms (``structure="weights"``), or of all gains and biases of norms
    that decide over a channel (``"channels"``), whether they are targeted or not. Nothing is removed before
    ``remove_``.

    Raises ``PlanError`` as ``SWD`` does.
    """

    name = "uniform_decay"

    def _pulled(self) -> Sequence[Target]:
        """Return everything that could be targeted."""
        return self._targets.candidates()
