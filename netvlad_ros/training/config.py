# SPDX-License-Identifier: MIT
"""Every value that a training run depends on, once, with its default, unit, range and meaning.

The YAML file of `netvlad train`, its `--set` words and the file that is saved with a run are made of these.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from netvlad_ros.config import NetworkConfig, Section, param
from netvlad_ros.config.files import from_values, read_values, section_lines

WORLDS = "worlds"
WORLD_KINDS = ("town", "street", "corridor", "room")


@dataclass(frozen=True)
class DataConfig(Section):
    """What is learned from, and what decides which network is the best."""

    source: str = param(
        WORLDS,
        "`worlds` for rendered ones, a folder of such, or the path of a set of places in any format that "
        "`netvlad evaluate` reads.",
    )
    validation: str = param(
        WORLDS,
        "Where Recall@N is measured: `worlds` for rendered ones that are not trained on, a folder of such, "
        "the path of a set of places, or empty for none.",
    )
    image_width_px: int = param(320, "Width that images are resized to.", ge=32, le=8192)
    image_height_px: int = param(240, "Height that images are resized to.", ge=32, le=8192)
    positive_radius_m: float = param(
        0.0,
        "Images up to this far apart, in metres, show the same place; 0 takes the radii of the set.",
        ge=0.0,
        le=10_000.0,
    )
    worlds: int = param(100, "How many worlds are rendered.", ge=1, le=1_000_000)
    groups_per_world: int = param(
        8, "How many places of a world are photographed.", ge=1, le=10_000
    )
    world_positives: int = param(
        5, "Further pictures of each place that are rendered.", ge=1, le=1000
    )
    world_negatives: int = param(
        10, "Pictures of elsewhere in its world that are rendered with each place.", ge=0, le=1000
    )
    kinds: tuple[str, ...] = param(WORLD_KINDS, "Kinds of worlds.", choices=WORLD_KINDS)
    first_seed: int = param(
        1_000_000, "Seed of the first world; the others follow.", ge=0, le=2**31 - 1
    )
    validation_worlds: int = param(16, "How many worlds are kept for validation.", ge=1, le=10_000)
    validation_first_seed: int = param(
        900_000_000, "Seed of the first of those, far from those of training.", ge=0, le=2**31 - 1
    )
    cache_folder: str = param(
        "",
        "Folder for rendered pictures, and for descriptors of sets of places; empty takes the user's cache.",
    )
    workers: int = param(0, "Processes that render; 0 takes one for each core.", ge=0, le=256)
    read_threads: int = param(1, "Threads that read and augment.", ge=1, le=256)
    read_ahead: int = param(4, "Batches that are prepared while the network learns.", ge=0, le=64)


@dataclass(frozen=True)
class InitialConfig(Section):
    """What the network starts as."""

    model: str = param(
        "",
        "Path of a .keras model to start from, or `compact` for the one that comes with this package; empty "
        "starts from random weights.",
    )
    take: str = param(
        "all",
        "What of it: all, so that the section `network` has no effect, or only the weights of its backbone.",
        choices=("all", "backbone"),
    )
    whitening: str = param(
        "places",
        "What a whitening that is trained with the network (network.whitening_dims) begins as: places makes "
        "images of one place alike, identity takes the first dimensions.",
        choices=("places", "identity"),
    )
    whitening_images: int = param(
        4000, "Images that this whitening is fitted to.", ge=4, le=10_000_000
    )
    frozen_up_to: str = param(
        "", "Layers up to this one, itself included, keep their weights; empty trains all."
    )


@dataclass(frozen=True)
class ClusterConfig(Section):
    """How the clusters of NetVLAD are initialised."""

    initialise: str = param(
        "auto",
        "By k-means over local descriptors; auto does it unless all of a model is started from.",
        choices=("auto", "always", "never"),
    )
    descriptors: int = param(50_000, "Local descriptors to cluster.", ge=100, le=10_000_000)
    per_image: int = param(
        100, "How many come from one image, at random places.", ge=1, le=1_000_000
    )
    iterations: int = param(100, "Iterations of k-means.", ge=1, le=10_000)
    second_share: float = param(
        0.01,
        "How soft the assignment begins: the weight of the second best cluster, as a share of the best "
        "one's.",
        ge=1e-6,
        le=0.99,
    )


@dataclass(frozen=True)
class TupleConfig(Section):
    """What one step sees."""

    tuples_per_batch: int = param(4, "Tuples of one step, of all processes.", ge=1, le=10_000)
    positives: int = param(1, "Images of the query's place in each tuple.", ge=1, le=1000)
    negatives: int = param(10, "Images of other places in each tuple.", ge=1, le=1000)


@dataclass(frozen=True)
class MiningConfig(Section):
    """How the tuples of a set of places are chosen."""

    refresh_every_queries: int = param(
        1000,
        "Descriptors are computed anew after so many queries; 0 computes them once.",
        ge=0,
        le=10_000_000,
    )
    pool: int = param(
        1000, "The hardest negatives are looked for among so many.", ge=1, le=10_000_000
    )
    remembered: int = param(
        10, "Hardest negatives of a query that are looked at again the next time.", ge=0, le=10_000
    )


@dataclass(frozen=True)
class LossConfig(Section):
    """What is minimised."""

    name: str = param(
        "triplet",
        "triplet (weakly supervised ranking of the paper, squared distances), triplet_distance (as torch "
        "has it), best_positive, all_pairs and all_pairs_deviation (cartwheel's, of dot products), or "
        "multi_similarity.",
        choices=(
            "triplet",
            "triplet_distance",
            "best_positive",
            "all_pairs",
            "all_pairs_deviation",
            "multi_similarity",
        ),
    )
    margin: float = param(
        0.0,
        "Margin; 0 takes the usual one: 0.1, of distances its root, of dot products 0.3.",
        ge=0.0,
        le=4.0,
    )
    deviation_weight: float = param(
        1.0, "Weight of the deviation of the positives in all_pairs_deviation.", ge=0.0, le=1000.0
    )
    positive_scale: float = param(1.0, "alpha of multi_similarity.", ge=0.01, le=1000.0)
    negative_scale: float = param(50.0, "beta of multi_similarity.", ge=0.01, le=1000.0)
    similarity_base: float = param(
        0.0, "lambda of multi_similarity, the similarity that divides.", ge=-1.0, le=1.0
    )
    mining_margin: float = param(
        0.1,
        "epsilon of multi_similarity: how far from the hardest of the others a pair may be to count.",
        ge=0.0,
        le=2.0,
    )


@dataclass(frozen=True)
class OptimiserConfig(Section):
    """How the weights follow the gradient."""

    name: str = param("sgd", "The rule.", choices=("sgd", "adam", "adamw"))
    learning_rate: float = param(1e-4, "Learning rate.", ge=0.0, le=1000.0)
    momentum: float = param(0.9, "Momentum of sgd.", ge=0.0, le=0.9999)
    weight_decay: float = param(
        0.001,
        "Weight decay: of sgd and adam, added to the gradient as in torch; of adamw, apart from it.",
        ge=0.0,
        le=10.0,
    )
    clip_norm: float = param(
        0.0, "Longest gradient, over all weights; 0 clips none.", ge=0.0, le=1e6
    )
    schedule: str = param(
        "step", "How the learning rate falls.", choices=("step", "plateau", "cosine", "constant")
    )
    lr_step_epochs: int = param(
        5,
        "step multiplies it by gamma after so many epochs; plateau, when Recall@5 is no better for so many.",
        ge=1,
        le=100_000,
    )
    gamma: float = param(0.5, "What it is multiplied by.", ge=0.0, le=1.0)
    warm_up_steps: int = param(0, "It rises from 0 for so many steps.", ge=0, le=10_000_000)


@dataclass(frozen=True)
class AugmentationConfig(Section):
    """How images are changed before they are learned from."""

    level: str = param("none", "How much.", choices=("none", "basic", "typical", "heavy"))


@dataclass(frozen=True)
class RunConfig(Section):
    """How long, how exactly, and what is kept."""

    seed: int = param(
        123, "Seed of everything random; the same gives the same run.", ge=0, le=2**31 - 1
    )
    epochs: int = param(
        30,
        "Epochs at most; 0 leaves the network as it begins, with clusters and whitening.",
        ge=0,
        le=1_000_000,
    )
    steps_per_epoch: int = param(
        0, "Steps of an epoch; 0 takes as many as show every query once.", ge=0, le=10_000_000
    )
    precision: str = param(
        "float32",
        "Numbers of the backbone; weights and descriptors are float32 in any case.",
        choices=("float32", "mixed_bfloat16", "mixed_float16"),
    )
    batch_norm: str = param(
        "frozen",
        "Statistics of batch normalisation: frozen, or of the images that are computed at once.",
        choices=("frozen", "batch"),
    )
    chunk_images: int = param(
        0,
        "Images that the network computes at once: bounds memory, changes no gradient; 0 takes all.",
        ge=0,
        le=100_000,
    )
    validate_every_epochs: int = param(1, "Epochs between two validations.", ge=1, le=100_000)
    patience_epochs: int = param(
        10,
        "Training ends when Recall@5 has not been better for so many epochs; 0 never ends early.",
        ge=0,
        le=100_000,
    )
    checkpoint_every_steps: int = param(100, "Steps between two checkpoints.", ge=1, le=10_000_000)
    pictures_every_steps: int = param(
        1000, "Steps between two pictures for TensorBoard; 0 for none.", ge=0, le=10_000_000
    )
    whitening_dims: int = param(
        0,
        "The best network gets a whitening to so many dimensions in the end, in place of one that it has "
        "learned; 0 for none.",
        ge=0,
        le=1_000_000,
    )
    whitening: str = param(
        "pca",
        "What that whitening is made of: pca, single images; places, images of the same places, which it "
        "makes alike.",
        choices=("pca", "places"),
    )
    whitening_images: int = param(
        10_000, "Images that the whitening is fitted to.", ge=2, le=10_000_000
    )


@dataclass(frozen=True)
class TrainingConfig:
    """The sections of the configuration; each component takes its own."""

    data: DataConfig = field(default_factory=DataConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    initial: InitialConfig = field(default_factory=InitialConfig)
    clusters: ClusterConfig = field(default_factory=ClusterConfig)
    tuples: TupleConfig = field(default_factory=TupleConfig)
    mining: MiningConfig = field(default_factory=MiningConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    run: RunConfig = field(default_factory=RunConfig)


def load_training_config(
    path: str | Path | None = None, assignments: Iterable[str] = ()
) -> TrainingConfig:
    """Defaults, overlaid by a YAML file, overlaid by `section.name=value` words.

    Raises ConfigError for a file that can't be read, an unknown name or an impossible value.
    """
    config: TrainingConfig = from_values(read_values(path, assignments), TrainingConfig)
    return config


def to_yaml(config: TrainingConfig) -> str:
    """The whole configuration as a commented YAML file."""
    return "\n".join(section_lines(config)) + "\n"
