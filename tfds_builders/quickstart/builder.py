"""The TFDS builder of the quickstart corpus."""

import collections
import dataclasses
import functools

import numpy as np
import tensorflow_datasets as tfds

from jaxspoof.machine.progress import Progress


@dataclasses.dataclass
class QuickstartConfig(tfds.core.BuilderConfig):
  """One size of the corpus.

  Attributes:
    limit: clips of human speech per split of the pack; None takes all.
    needs_bytes: disk space, generously.
  """

  limit: int | None = None
  needs_bytes: int = 0


class Quickstart(tfds.core.ShardBasedBuilder):
  """Human speech in 9 languages and 17 ways of spoofing it; see README.md."""

  VERSION = tfds.core.Version('1.0.0')
  RELEASE_NOTES = {'1.0.0': 'First version.'}
  BUILDER_CONFIGS = [
    QuickstartConfig(
      name='full', description='All clips.', needs_bytes=250_000_000
    ),
    QuickstartConfig(
      name='tiny',
      description='A few clips, for tests.',
      limit=6,
      needs_bytes=15_000_000,
    ),
  ]

  def _info(self) -> tfds.core.DatasetInfo:
    """Returns the features; audio is a FLAC file, 16 kHz, mono, 16 bit."""
    return self.dataset_info_from_configs(
      description=(
        'Human speech of permissive licences and its spoofs by vocoding, '
        'conversion and synthesis; for trying things out, not a field result.'
      ),
      features=tfds.features.FeaturesDict(
        {
          'audio': tfds.features.Tensor(shape=(), dtype=np.object_),
          'label': tfds.features.ClassLabel(names=['spoof', 'bonafide']),
          'utterance': tfds.features.Text(),
          'speaker': tfds.features.Text(),
          'attack': tfds.features.Text(),
        }
      ),
    )

  def _shard_iterators_per_split(self, dl_manager):
    # Here, so that reading a corpus does not pay for importing its synthesis.
    from tfds_builders.quickstart import recipe, render

    tasks = recipe.plan(self.builder_config.limit)
    progress = Progress('clips spoofed', len(tasks))
    trials = collections.defaultdict(list)
    for made in render.render(tasks):
      progress.step()
      for trial in made:
        trials[trial.split].append(trial)
    orders = {
      split: recipe.rng_for('order', split).permutation(len(trials[split]))
      for split in recipe.SPLITS
    }
    return {
      split: [functools.partial(_examples, trials[split], order)]
      for split, order in orders.items()
    }


def _examples(trials: list, order: np.ndarray):
  """Yields the records of a split in the given order."""
  for trial in (trials[i] for i in order):
    yield (
      trial.utterance,
      {
        'audio': trial.audio,
        'label': 'bonafide' if trial.attack == '-' else 'spoof',
        'utterance': trial.utterance,
        'speaker': trial.speaker,
        'attack': trial.attack,
      },
    )
