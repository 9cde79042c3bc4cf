"""The words of an operator's rule: labels, dead values, what is kept.

- **label** (``labels``): a number for each channel along a dimension of a value. ``couple`` hands labels on.
- **set** (``sets``): joined labels form a set, which stays or goes as a whole; one frozen label makes it stay.
- **slot** (``slots``): a dimension of a parameter or buffer, its labels, and its role: it writes or reads the channel.
- **dead value** (``dead``): what a channel holds once all that writes it is zero. ``fold`` says what an operator makes
  of it. A channel can go if what sums over it loses nothing, or a constant that a bias takes over.
- **factor** (``factors``): of a dimension that is a product, such as heads x positions, one factor loses channels.
- **kept** (``kept``): which indices of each dimension a plan leaves. ``resize`` makes new sizes of it.
- **routing** (``routing``): how a side of a residual sum that keeps other channels is brought to those of the sum.
"""
