"""What the networks of the comparison share: extractor, classifier, and a card of their own."""

from collections.abc import Sequence
from pathlib import Path

from jaxtyping import Float
from torch import Tensor, nn

from maskatlas.config import ModelConfig
from maskatlas.extractors import build_extractor
from maskatlas.model import AttributeNetwork, Output, Supervised
from maskatlas.subnetworks import SubNetworks


class ClassifierNetwork(AttributeNetwork):
    """An extractor and one linear layer for each attribute; no sub-networks, no reconstructor.

    A network that learns by more than the classifier's cross-entropy (beta L_m) overrides
    ``supervised`` and returns the rest as the ``loss``, where it is given labels.
    """

    def __init__(
        self, config: ModelConfig, attributes: Sequence[str], extractor: nn.Module | None = None
    ) -> None:
        """Set up at random.

        Args:
            config: Sizes; and the extractor where none is given.
            attributes: Names.
            extractor: [B 3 H W] -> [B C h w], with the configuration's C.
        """
        super().__init__(
            config,
            attributes,
            extractor=build_extractor(config) if extractor is None else extractor,
            subnetworks=None,
            classifier=nn.Linear(config.channels, len(attributes)),
            reconstructor=None,
        )

    def classified(
        self, pooled: Float[Tensor, "batch *attribute channel"]
    ) -> Float[Tensor, "batch attribute"]:
        """Return logits: w_k . p + c_k, or w_k . p_k + c_k where each attribute has its own."""
        assert self.classifier is not None
        weight, bias = self.classifier.weight, self.classifier.bias
        pooled = pooled.to(weight.dtype)
        if pooled.ndim == 2:
            return nn.functional.linear(pooled, weight, bias)
        return (pooled * weight).sum(dim=2) + bias

    def answer(
        self,
        features: Float[Tensor, "batch channel height width"],
        logits: Float[Tensor, "batch attribute"],
        loss: Float[Tensor, ""] | None = None,
    ) -> Supervised:
        """Return what a network knows that has nothing but these."""
        return Supervised(Output(None, logits, features, None, None, None), loss)

    def save_pretrained(self, directory: Path | str, *, card: str = "") -> None:
        """Write the model folder, with a card that says how such a network is opened."""
        super().save_pretrained(directory, card=card_of(card, self))


class RefittedNetwork(AttributeNetwork):
    """Our network with one of its parts replaced, and so with weights of its own."""

    def save_pretrained(self, directory: Path | str, *, card: str = "") -> None:
        """Write the model folder, with a card that says how such a network is opened."""
        super().save_pretrained(directory, card=card_of(card, self))


def refit(
    network: AttributeNetwork,
    *,
    extractor: nn.Module | None = None,
    subnetworks: SubNetworks | None = None,
) -> RefittedNetwork:
    """Return our network with another extractor or other sub-networks in place of its own."""
    return RefittedNetwork(
        network.config,
        network.attributes,
        extractor=network.extractor if extractor is None else extractor,
        subnetworks=network.subnetworks if subnetworks is None else subnetworks,
        classifier=network.classifier,
        reconstructor=network.reconstructor,
    )


def card_of(card: str, network: AttributeNetwork) -> str:
    """Return a card for a network that ``AttributeNetwork.from_pretrained`` cannot open."""
    measured = card.partition("## Measured")
    return (
        f"# A network to compare with\n\nIt recognises {len(network.attributes)} attributes. "
        "Open it with `maskatlas.comparison.open_network(system, folder)`, by the name of the "
        "system that made it.\n\n" + "".join(measured[1:])
    )
