"""What one pass over the training data came to."""

from __future__ import annotations

from typing import NamedTuple


class TrainingResult(NamedTuple):
    """How well a model predicted the tokens of some sequences.

    Attributes
    ----------
    loss : float
        Mean cross-entropy in nats per token, each sequence before the step that was made on it.
    loss_uncertainty : float
        Standard error of the loss; NaN of a single sequence.
    accuracy : float
        Share of the tokens that the model found the most probable ones.
    accuracy_uncertainty : float
        Standard error of the accuracy.
    n_tokens : int
        Tokens predicted.
    """

    loss: float
    loss_uncertainty: float
    accuracy: float
    accuracy_uncertainty: float
    n_tokens: int


class EpochResult(NamedTuple):
    """What one epoch came to.

    Attributes
    ----------
    train : TrainingResult or None
        Of the sequences that were learned from; None without any.
    eval : TrainingResult or None
        Of those that were held back; None without any.
    """

    train: TrainingResult | None
    eval: TrainingResult | None
