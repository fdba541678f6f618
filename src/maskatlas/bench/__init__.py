"""Speed and memory on the machine at hand, beside what one would write by hand.

Each subject has a file (`heads`, `train`, `explain`, `analyze`, `data`) whose ``cases`` measures
and yields one :class:`maskatlas.bench.results.Case` after another. Whatever is compared runs in one
process, in turn, so that another program on the machine slows each alike.
"""
