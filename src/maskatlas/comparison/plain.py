"""The plain multi-label network: our extractor, the features' mean, one linear layer.

What the sub-networks add is the difference to it. It is our network without sub-networks and
without reconstructor; equation (4) alone.
"""

from dataclasses import replace

from maskatlas.config import Config


def configure(config: Config) -> Config:
    """Return the configuration of the extractor with the multi-label classifier alone.

    Its weight is then 1: beta sets it against sub-networks, of which there are none.
    """
    parts = replace(config.model, subnetworks=False, multilabel=True, reconstructor=False)
    return replace(config, model=parts, loss=replace(config.loss, multilabel=1.0))
