# SPDX-License-Identifier: MIT
"""What is minimised: losses over the descriptors of tuples, and figures that say how well these are ordered.

T tuples of S = 1 + P + N images, descriptors of D dimensions; q, p and n are those of the query, of its place
and of other places. All are means over pairs and tuples, where their authors take sums, so that neither the
loss nor its gradient grows with the numbers of images.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from keras import ops

from netvlad_ros.training.batches import OTHER, SAME
from netvlad_ros.training.config import LossConfig

SQUARED_MARGIN = 0.1  # NetVLAD, section 4
COSINE_MARGIN = 0.3  # cartwheel_train, CustomLosses.py
TORCH_EPSILON = (
    1e-6  # added to each dimension's difference by torch.nn.functional.pairwise_distance
)
ROOT_EPSILON = 1e-12  # the slope of a root is infinite at 0

Loss = Callable[[Any, Any], Any]


class _Tuples(NamedTuple):
    """query: (T, 1, D), positives: (T, P, D), negatives: (T, N, D)."""

    query: Any
    positives: Any
    negatives: Any


def make_loss(config: LossConfig, tuple_size: int, positives: int) -> Loss:
    """(T*S, D) descriptors of unit length and their (T*S, T*S) relation -> the loss, a scalar."""
    if config.name == "multi_similarity":
        return lambda descriptors, relation: multi_similarity(descriptors, relation, config)
    of_tuples, margin = _TUPLE_LOSSES[config.name], margin_of(config)

    def loss(descriptors: Any, relation: Any) -> Any:
        value = of_tuples(_tuples(descriptors, tuple_size, positives), margin)
        if config.name == "all_pairs_deviation":
            deviation = positive_set_deviation(descriptors, tuple_size, positives)
            value += config.deviation_weight * deviation
        return value

    return loss


def margin_of(config: LossConfig) -> float:
    """The margin that was chosen, or the usual one of the loss."""
    return config.margin or _USUAL_MARGIN.get(config.name, COSINE_MARGIN)


def triplet(tuples: _Tuples, margin: float) -> Any:
    """max(0, min_i |q - p_i|^2 + margin - |q - n_j|^2), the weakly supervised ranking loss.

    Arandjelovic et al., NetVLAD, equation 7.
    """
    best = ops.min(_squared(tuples.query - tuples.positives), axis=1, keepdims=True)  # (T, 1)
    return _hinge(best - _squared(tuples.query - tuples.negatives) + margin)


def triplet_distance(tuples: _Tuples, margin: float) -> Any:
    """The same of distances that aren't squared, as pytorch-NetVlad has it with torch's TripletMarginLoss."""
    near = ops.sqrt(_squared(tuples.query - tuples.positives + TORCH_EPSILON))
    far = ops.sqrt(_squared(tuples.query - tuples.negatives + TORCH_EPSILON))
    return _hinge(ops.min(near, axis=1, keepdims=True) - far + margin)


def best_positive(tuples: _Tuples, margin: float) -> Any:
    """max(0, q.n_j - max_i q.p_i + margin): cartwheel_train's triplet_loss2."""
    near, far = _similarities(tuples)
    return _hinge(far - ops.max(near, axis=1, keepdims=True) + margin)


def all_pairs(tuples: _Tuples, margin: float) -> Any:
    """max(0, q.n_j - q.p_i + margin) for all i and j: cartwheel_train's allpair_hinge_loss."""
    return _hinge(_pair_violations(tuples, margin))


def multi_similarity(descriptors: Any, relation: Any, config: LossConfig) -> Any:
    """Each image is an anchor; pairs weigh the more the harder they are, and easy ones don't count.

    Wang et al., Multi-similarity loss with general pair weighting for deep metric learning, section 4.
    Without any pair that counts, an anchor adds 0.
    """
    similarity = ops.matmul(descriptors, ops.transpose(descriptors))  # (T*S, T*S)
    same, other = ops.equal(relation, SAME), ops.equal(relation, OTHER)
    worst_same = ops.min(ops.where(same, similarity, math.inf), axis=1, keepdims=True)
    worst_other = ops.max(ops.where(other, similarity, -math.inf), axis=1, keepdims=True)
    same = ops.logical_and(same, similarity - config.mining_margin < worst_other)
    other = ops.logical_and(other, similarity + config.mining_margin > worst_same)
    above = similarity - config.similarity_base
    pull = _soft_sum(-config.positive_scale * above, same) / config.positive_scale
    push = _soft_sum(config.negative_scale * above, other) / config.negative_scale
    return ops.mean(pull + push)


def satisfied_share(descriptors: Any, tuple_size: int, positives: int, margin: float) -> Any:
    """Share of pairs q.p_i >= q.n_j + margin: cartwheel_train's allpair_count_goodfit, over their number."""
    violations = _pair_violations(_tuples(descriptors, tuple_size, positives), margin)
    return ops.mean(ops.cast(violations <= 0, "float32"))


def positive_set_deviation(descriptors: Any, tuple_size: int, positives: int) -> Any:
    """Standard deviation of q.p_i within a tuple: how unequally a place's images are recognised.

    Kuse and Shen, Learning whole-image descriptors for real-time loop detection and kidnap recovery.
    """
    near, _ = _similarities(_tuples(descriptors, tuple_size, positives))
    return ops.mean(ops.sqrt(ops.var(near, axis=1) + ROOT_EPSILON))


def violating_negatives(descriptors: Any, tuple_size: int, positives: int) -> Any:
    """How many negatives of a tuple, in the mean, lie within the paper's margin of the best positive."""
    tuples = _tuples(descriptors, tuple_size, positives)
    best = ops.min(_squared(tuples.query - tuples.positives), axis=1, keepdims=True)
    violates = _squared(tuples.query - tuples.negatives) < best + SQUARED_MARGIN
    return ops.mean(ops.sum(ops.cast(violates, "float32"), axis=1))


def _tuples(descriptors: Any, size: int, positives: int) -> _Tuples:
    x = ops.reshape(descriptors, (-1, size, descriptors.shape[-1]))  # (T, S, D)
    return _Tuples(x[:, :1], x[:, 1 : 1 + positives], x[:, 1 + positives :])


def _squared(difference: Any) -> Any:
    return ops.sum(ops.square(difference), axis=-1)


def _similarities(tuples: _Tuples) -> tuple[Any, Any]:
    """q.p (T, P) and q.n (T, N)."""
    near = ops.sum(tuples.query * tuples.positives, axis=-1)
    return near, ops.sum(tuples.query * tuples.negatives, axis=-1)


def _pair_violations(tuples: _Tuples, margin: float) -> Any:
    near, far = _similarities(tuples)
    return far[:, None, :] - near[:, :, None] + margin  # (T, P, N)


def _hinge(violations: Any) -> Any:
    return ops.mean(ops.maximum(violations, 0.0))


def _soft_sum(exponents: Any, counts: Any) -> Any:
    """log(1 + sum of exp) over those that count, for each row, without overflow."""
    masked = ops.where(counts, exponents, -math.inf)
    return ops.logsumexp(ops.pad(masked, ((0, 0), (1, 0))), axis=1)  # exp(0) is the 1


_TUPLE_LOSSES: dict[str, Callable[[_Tuples, float], Any]] = {
    "triplet": triplet,
    "triplet_distance": triplet_distance,
    "best_positive": best_positive,
    "all_pairs": all_pairs,
    "all_pairs_deviation": all_pairs,
}
_USUAL_MARGIN = {"triplet": SQUARED_MARGIN, "triplet_distance": math.sqrt(SQUARED_MARGIN)}
