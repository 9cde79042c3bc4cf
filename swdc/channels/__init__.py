"""The vocabulary of operators' rules: labels, dead values, and the channels that are kept.

- **label** (``labels``): a number for each channel along a dimension of a value. ``couple`` passes labels on.
- **set** (``sets``): joined labels form a set, which is kept or removed as a whole; one frozen label keeps it.
- **slot** (``slots``): a dimension of a parameter or buffer, its labels, and its role: it writes or reads the channel.
- **dead value** (``dead_values``): the constant that a channel holds once all weights that write it are zero. ``fold``
  gives it for an operator's result. A dead channel can be removed if the operators that sum over it lose nothing, or
  only a constant that a bias takes over.
- **factor** (``factors``): a dimension may be a product, such as heads x positions; only one factor loses channels.
- **kept** (``kept``): the indices of each dimension that a plan keeps. ``resize`` computes new sizes from them.
- **routing** (``routing``): how an operand of a residual sum that keeps other channels gets the channels of the sum.
"""
