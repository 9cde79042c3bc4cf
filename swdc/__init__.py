"""swdc: a model-surgery compiler for PyTorch in which pruning is dead-code elimination."""

from swdc.count import count
from swdc.errors import SwdcError
from swdc.ops import Operator, register
from swdc.plan import Plan
from swdc.program import Program
from swdc.rewrite import insert_batchnorm, mask, slim
from swdc.sparsity.planning import plan
from swdc.sparsity.swd import SWD
from swdc.trace import trace
from swdc.verify import Certificate, verify

__version__ = "0.1.0"
