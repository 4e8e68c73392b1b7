"""Round to nearest: each group of weights on its own evenly spaced grid."""

from __future__ import annotations

from torch import Tensor

from core.decoder.linear import Linear
from core.decoder.plan import Plan
from core.weights.chosen import ChosenLayers
from core.weights.form import PROCESSOR, Form
from core.weights.table import RtnOptions


class Rtn(ChosenLayers):
    """The chosen layers' matrices at `bits`."""

    def __init__(self, options: RtnOptions, plan: Plan, form: Form = PROCESSOR) -> None:
        super().__init__(options.layers, plan, form)
        self.options, self.form = options, form

    def quantized(self, weight: Tensor, bias: Tensor | None) -> Linear:
        return self.form.rounded(weight, self.options.bits, self.options.group_size, bias)
