# SPDX-License-Identifier: MIT
"""One step of training: exact gradients of any loss over a batch, however few images fit into memory.

A loss compares images, so that it can't be computed for a few at a time and summed. But its gradient can:
all descriptors are computed first, a few images at a time and keeping nothing else; then the loss and its
slope at each descriptor; then the descriptors again, a few at a time, each time with the gradient that this
slope gives. The second pass costs a third of the time more, and memory no longer depends on the batch
(Gao et al., Scaling deep contrastive learning batch size under memory limited setup, section 3).

Where several devices or processes learn together, each computes its share of the images; descriptors are
exchanged, so that the loss is that of the whole batch, and gradients are summed.
"""

from typing import Any

import numpy as np
import tensorflow as tf

from netvlad_ros.errors import TrainingError
from netvlad_ros.training import losses
from netvlad_ros.training.batches import TrainingBatch
from netvlad_ros.training.config import TrainingConfig
from netvlad_ros.training.optimisers import decayed_and_clipped, loss_scale, set_learning_rate


class TrainingStep:
    """Changes the weights of a model so that the loss of a batch falls.

    Its model and optimiser have to be made within the scope of its strategy.
    """

    def __init__(self, model: Any, optimiser: Any, config: TrainingConfig, strategy: Any) -> None:
        self._model, self._optimiser, self._strategy = model, optimiser, strategy
        self._config = config
        self._chunk = config.run.chunk_images
        self._uses_batch_statistics = config.run.batch_norm == "batch"
        with strategy.scope():
            optimiser.build(model.trainable_variables)
        self._step = tf.function(self._of_all_replicas, reduce_retracing=True)

    def __call__(self, batch: TrainingBatch, learning_rate: float) -> dict[str, float]:
        """The loss and other figures by name, before the change.

        Raises TrainingError if the loss is no longer a number; the weights are of no use then.
        """
        with self._strategy.scope():
            set_learning_rate(self._optimiser, learning_rate)
        images = self._shares(batch)
        relation = tf.constant(batch.relation)
        figures = self._step(images, relation, batch.tuple_size, batch.positives)
        found = {name: float(value) for name, value in figures.items()}
        if not np.isfinite(found["loss"]):
            raise TrainingError(
                f"the loss became {found['loss']}; lower optimiser.learning_rate or set "
                "optimiser.clip_norm, and go on with --resume."
            )
        return found

    def _shares(self, batch: TrainingBatch) -> Any:
        """The images of each replica: as many tuples for each, in order."""
        replicas, images = self._strategy.num_replicas_in_sync, batch.flat_images
        if replicas == 1:
            return tf.constant(images)
        if batch.tuples % replicas:
            raise TrainingError(
                f"tuples.tuples_per_batch: expected a multiple of {replicas}, as many as there are devices, "
                f"got {batch.tuples}."
            )
        share = len(images) // replicas
        return self._strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(images[context.replica_id_in_sync_group * share :][:share])
        )

    def _of_all_replicas(
        self, images: Any, relation: Any, tuple_size: int, positives: int
    ) -> dict[str, Any]:
        figures = self._strategy.run(
            self._of_one_replica, args=(images, relation, tuple_size, positives)
        )
        # All replicas have computed the same.
        return {
            name: self._strategy.experimental_local_results(value)[0]
            for name, value in figures.items()
        }

    def _of_one_replica(
        self, images: Any, relation: Any, tuple_size: int, positives: int
    ) -> dict[str, Any]:
        variables = [variable.value for variable in self._model.trainable_variables]
        if self._chunk:
            descriptors = self._describe(images)
            slope, figures = self._slope(descriptors, relation, tuple_size, positives)
            gradients = self._gradients(images, slope, variables)
        else:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(variables)
                descriptors = self._forward(images)
            slope, figures = self._slope(descriptors, relation, tuple_size, positives)
            gradients = tape.gradient(descriptors, variables, slope, _ZERO)
        return figures | self._apply(gradients)

    def _forward(self, images: Any) -> Any:
        """uint8 images -> float32 descriptors."""
        x = self._model(tf.cast(images, tf.float32), training=self._uses_batch_statistics)
        return tf.cast(x, tf.float32)

    def _describe(self, images: Any) -> Any:
        """The descriptors of all images, a chunk at a time, with nothing kept for a gradient."""
        count = tf.shape(images)[0]
        dims = self._model.descriptor_dims
        found = tf.zeros((0, dims))
        for start in tf.range(0, count, self._chunk):
            tf.autograph.experimental.set_loop_options(
                parallel_iterations=1, shape_invariants=[(found, tf.TensorShape((None, dims)))]
            )
            chunk = self._forward(images[start : start + self._chunk])
            found = tf.concat([found, chunk], axis=0)
        return found

    def _slope(
        self, descriptors: Any, relation: Any, tuple_size: int, positives: int
    ) -> tuple[Any, dict[str, Any]]:
        """dL/d descriptors of this replica's images, times the optimiser's scale; and the figures."""
        context = tf.distribute.get_replica_context()
        everyone = descriptors
        if self._is_distributed:
            gathered = context.all_gather(descriptors, axis=0)
            everyone = tf.ensure_shape(gathered, (None, self._model.descriptor_dims))
        loss_of = losses.make_loss(self._config.loss, tuple_size, positives)
        with tf.GradientTape() as tape:
            tape.watch(everyone)
            loss = loss_of(everyone, relation)
        slope = tape.gradient(loss, everyone) * loss_scale(self._optimiser)
        count = tf.shape(descriptors)[0]
        first = context.replica_id_in_sync_group * count
        return slope[first : first + count], self._figures(loss, everyone, tuple_size, positives)

    def _figures(
        self, loss: Any, descriptors: Any, tuple_size: int, positives: int
    ) -> dict[str, Any]:
        margin = losses.margin_of(self._config.loss)
        return {
            "loss": loss,
            "satisfied_share": losses.satisfied_share(descriptors, tuple_size, positives, margin),
            "positive_deviation": losses.positive_set_deviation(descriptors, tuple_size, positives),
            "violating_negatives": losses.violating_negatives(descriptors, tuple_size, positives),
        }

    def _gradients(self, images: Any, slope: Any, variables: list[Any]) -> list[Any]:
        """The sum over chunks of what the slopes at their descriptors give."""
        total = [tf.zeros_like(variable) for variable in variables]
        for start in tf.range(0, tf.shape(images)[0], self._chunk):
            tf.autograph.experimental.set_loop_options(parallel_iterations=1)
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(variables)
                chunk = self._forward(images[start : start + self._chunk])
            part = tape.gradient(chunk, variables, slope[start : start + self._chunk], _ZERO)
            total = [sum_ + one for sum_, one in zip(total, part, strict=True)]
        return total

    def _apply(self, gradients: list[Any]) -> dict[str, Any]:
        """Sums over replicas, and lets the optimiser change the weights."""
        replicas, scale = self._strategy.num_replicas_in_sync, loss_scale(self._optimiser)
        variables = self._model.trainable_variables
        if self._is_distributed:
            context = tf.distribute.get_replica_context()
            gradients = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        length = tf.linalg.global_norm(gradients) / scale
        changed = decayed_and_clipped(gradients, variables, self._config.optimiser, scale)
        # Keras's optimisers sum over the replicas once more.
        self._optimiser.apply([one / replicas for one in changed], variables)
        return {"gradient_norm": length}

    @property
    def _is_distributed(self) -> bool:
        return self._strategy.num_replicas_in_sync > 1


_ZERO = tf.UnconnectedGradients.ZERO
