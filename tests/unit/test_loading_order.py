"""The order of samples: the same for any number of workers, and open to be taken up anywhere."""

from __future__ import annotations

import pytest

from cutray.config import AugmentSettings, DataSettings
from cutray.data.catalog import Catalog, Pair
from cutray.data.loading import load_sample, shard_samples, shuffle_samples, training_samples, validation_samples

CATALOG = Catalog(tuple(Pair(f"i{n}", f"m{n}", str(n)) for n in range(30)), (), (), "f")


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_workers_share_the_same_batches(world_size: int) -> None:
    """Put together, the workers' parts are the batches that one worker would see; a broken one at the end is left."""
    samples = shuffle_samples(training_samples(CATALOG, DataSettings()), 0, 0)
    parts = [shard_samples(samples, 8, rank, world_size) for rank in range(world_size)]
    size = 8 // world_size
    for number in range(3):
        batch = [sample for part in parts for sample in part[number * size : (number + 1) * size]]
        assert batch == samples[number * 8 : (number + 1) * 8]
    assert sum(len(part) for part in parts) == 24


def test_an_epoch_can_be_taken_up_in_the_middle() -> None:
    """What is left after some steps is the end of the whole epoch, and epochs differ."""
    samples = training_samples(CATALOG, DataSettings())
    whole = shuffle_samples(samples, 0, 3)
    assert shard_samples(whole[2 * 8 :], 8, 1, 2) == shard_samples(whole, 8, 1, 2)[2 * 4 :]
    assert whole != shuffle_samples(samples, 0, 4)
    assert sorted(sample["number"] for sample in whole) == list(range(30))


def test_repeated_photos_are_varied_anew() -> None:
    """Each time has a number of its own, from which the variation follows; the first ones stay as they were."""
    once, thrice = (training_samples(CATALOG, DataSettings(repeat=repeat)) for repeat in (1, 3))
    assert thrice[:30] == once
    assert [sample["number"] for sample in thrice] == list(range(90))
    assert [sample["image"] for sample in thrice] == 3 * [sample["image"] for sample in once]


def test_scenes_for_training_and_validation_are_drawn_otherwise() -> None:
    """Numbers and families differ, so that nothing that is validated on was learned."""
    settings = DataSettings(scenes=12, validation_scenes=6)
    train, held = training_samples(CATALOG, settings)[30:], validation_samples(CATALOG, settings)
    assert {sample["family"] for sample in train} == {"train"}
    assert {sample["family"] for sample in held} == {"test"}
    alike = validation_samples(CATALOG, settings.model_copy(update={"validation_family": "train"}))
    assert {sample["family"] for sample in alike} == {"train"}
    assert [sample["number"] for sample in alike] == [sample["number"] for sample in held]
    assert not {sample["number"] for sample in train} & {sample["number"] for sample in held}


def test_a_sample_is_new_in_each_epoch_and_the_same_when_repeated() -> None:
    """Variation follows from seed, epoch and the sample's number."""
    sample = training_samples(CATALOG, DataSettings(scenes=1, cases=("ordinary",)))[-1]
    first, again, later = (load_sample(sample, 48, 1, epoch, AugmentSettings())[0] for epoch in (0, 0, 1))
    assert (first == again).all()
    assert (first != later).any()
