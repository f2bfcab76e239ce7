"""The generators by name: how each is built from its settings, for training and, from a checkpoint, for scoring."""

from ganrec_spark.fills.generators.agn import AgnGenerator, AgnTraining
from ganrec_spark.fills.generators.cgan import CganGenerator, CganTraining, Start
from ganrec_spark.fills.generators.vae import Vae, VaeTraining
from ganrec_spark.seeding import stable_seed
from ganrec_spark.training.resume import state_of
from ganrec_spark.training.worker import Worker

# Each has noise_size and score(items, weights, recency, all [B, L], noise [B, noise_size]) -> log scores [B, I].
Generator = AgnGenerator | Vae | CganGenerator
Training = AgnTraining | VaeTraining | CganTraining


def new_generator(kind: str, n_items: int, settings: dict[str, float]) -> Generator:
    """Return the untrained network of `kind`; `settings` are the keys of configuration section generator."""
    if kind == "agn":
        return AgnGenerator(n_items, int(settings["agn_noise_size"]))
    if kind == "vae":
        return Vae(n_items, int(settings["vae_latent_size"]), int(settings["vae_hidden_size"]))
    return CganGenerator(n_items, int(settings["cgan_embedding_size"]), int(settings["cgan_noise_size"]))


def load_generator(kind: str, n_items: int, settings: dict[str, float], state: bytes) -> Generator:
    """Return the trained network whose state dict is in `state`, ready to score."""
    generator = new_generator(kind, n_items, settings)
    generator.load_state_dict(state_of(state))
    return generator.eval()


def new_training(
    kind: str,
    n_items: int,
    settings: dict[str, float],
    start: Start,
    seed: int,
    worker: Worker,
) -> Training:
    """Return `kind` ready for its first step. Its random start follows from torch's seed, see training_seed."""
    rate, clip = settings["learning_rate"], settings["gradient_clip"]
    if kind == "agn":
        return AgnTraining(n_items, int(settings["agn_noise_size"]), rate, clip, worker)
    if kind == "vae":
        latent, hidden = int(settings["vae_latent_size"]), int(settings["vae_hidden_size"])
        beta, negatives = settings["vae_beta"], int(settings["negatives"])
        return VaeTraining(n_items, latent, hidden, beta, negatives, rate, clip, worker)
    return CganTraining(
        n_items,
        int(settings["cgan_embedding_size"]),
        int(settings["cgan_noise_size"]),
        int(settings["cgan_profile_length"]),
        settings["cgan_profile_dropout"],
        settings["cgan_critic_weight"],
        int(settings["negatives"]),
        rate,
        clip,
        start,
        stable_seed(seed, "critic", worker.index),
        worker,
    )


def training_seed(seed: int, kind: str, *parts: object) -> int:
    """Return the seed of one part of a training."""
    return stable_seed(seed, "generator", kind, *parts)
