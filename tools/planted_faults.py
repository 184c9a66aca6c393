"""Plants faults into a copy of the checkout, to see whether tests find them.

  python tools/planted_faults.py                 # all, in about half an hour
  python tools/planted_faults.py --list
  python tools/planted_faults.py --only 'label flipped'            # or several

A suite that was made faster or shorter must still find what it found. Each
fault here is a mistake that a person could make, as exact text to be replaced.
One after the other is planted into a temporary copy, and the tests that should
find it are run there, up to the first that fails. Tests that cannot be
collected, or end in any other way, have found nothing. What failed is run once
more without any fault, and must pass.

Run it from an environment in which the suite runs. The exit status is 1 where a
fault is not found or is stale: its text is not in the code exactly once.
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parents[1]
NOT_COPIED = (
  '.git',
  '.venv',
  '.cache',
  '.pytest_cache',
  '.ruff_cache',
  'runs',
  'data',
  'dist',
  'build',
)  # at the top; caches of bytecode anywhere
# A line of pytest's summary; names of tests may have spaces.
FAILED = r'^(?:FAILED|ERROR) (tests/.*?)(?: - .*)?$'


class Edit(NamedTuple):
  """A replacement of text that stands in a file exactly once.

  Attributes:
    path: the file, from the root of the checkout.
    old: what stands there.
    new: what is to stand there.
  """

  path: str
  old: str
  new: str


class Fault(NamedTuple):
  """A mistake, and who should notice it.

  Attributes:
    name: what is wrong.
    edits: how it gets into the code.
    tests: pytest's names of test files, or of tests in them.
  """

  name: str
  edits: tuple[Edit, ...]
  tests: tuple[str, ...]


def fault(name: str, path: str, old: str, new: str, *tests: str) -> Fault:
  """A fault of one edit; tests are named without their folder."""
  return several(name, [Edit(path, old, new)], *tests)


def several(name: str, edits: Sequence[Edit], *tests: str) -> Fault:
  """A fault of several edits."""
  return Fault(name, tuple(edits), tuple(f'tests/{test}' for test in tests))


FAULTS = (
  # ------------------------------------------------------------ detection ---
  fault(
    'a self-test takes the spoofed sample for the bona fide one',
    'jaxspoof/detect/self_test.py',
    'enumerate(_TRUTHS)',
    'enumerate(_TRUTHS[::-1])',
    'classifiers_test.py::test_samples_whose_truth_is_known',
  ),
  fault(
    'an attack tunes the detector, too',
    'jaxspoof/jobs/attack.py',
    "  return path.startswith('detector/')",
    "  return path.startswith('detectors/')",
    'attack_test.py::test_it_learns_and_the_detector_does_not',
  ),
  fault(
    'WeDefense is taken to count bona fide speech second',
    'jaxspoof/weights/releases.py',
    "    bona_fide='0',\n",
    '',
    'ssl_backends_test.py::test_detectors_of_others',
  ),
  fault(
    'negative frequencies are forgotten in explanations',
    'jaxspoof/explanations.py',
    '  found[1:-1] *= 2',
    '  found[1:-1] *= 1',
    'explain_test.py::test_products_of_tiles_sum_to_those_of_samples',
  ),
  fault(
    'what silencing a region does is measured without silencing it',
    'jaxspoof/explanations.py',
    '    mask_TxF[slice(*times), slice(*bands)] = True',
    '    mask_TxF[slice(*times), slice(*bands)] = False',
    'explain_test.py::test_an_explanation_is_of_what_is_scored',
  ),
  fault(
    'a stream of moments waits for one chunk more than it needs',
    'jaxspoof/timelines.py',
    '  return 3 * quarter, 2 * quarter',
    '  return 3 * quarter, 4 * quarter',
    'timeline_test.py::test_parts_of_a_stream_come_with_their_moments',
  ),
  fault(
    'a repeated clip has the gradient of its first samples alone',
    'jaxspoof/detector.py',
    'summed = np.bincount(origin, gradient, len(count) + 1)',
    'summed = np.append(0, gradient)[: len(count) + 1]',
    'explain_test.py::test_gradients_are_those_of_finite_differences',
  ),
  # ------------------------------------------------------------------ bulk ---
  fault(
    'recordings that cannot be scored have no row',
    'jaxspoof/bulk/worker.py',
    '  yield from failures\n',
    '',
    'bulk_test.py::test_every_recording_of_every_kind_of_input',
  ),
  several(
    'a shard that is done is scored again',
    [
      Edit(
        'jaxspoof/bulk/worker.py',
        'lambda name: plan.scores_of(folder, int(name)).exists(),',
        'lambda name: False,',
      ),
      Edit(
        'jaxspoof/bulk/worker.py',
        "sorted(set(range(planned['shards'])) - plan.done(folder))",
        "range(planned['shards'])",
      ),
    ],
    'bulk_test.py::test_only_what_is_missing_is_scored_again',
  ),
  # ------------------------------------------------------------- benchmark ---
  fault(
    'cells of all conditions are one',
    'jaxspoof/sweep/scored.py',
    "      'condition': condition.name,\n      'drawn'",
    "      'drawn'",
    'benchmark_test.py::test_a_cell_is_what_the_evaluation_says',
  ),
  fault(
    'a cell is not looked at again under its lock',
    'jaxspoof/runs/cells.py',
    'if ours and not done(name):',
    'if ours:',
    'cells_test.py::test_processes_share_the_work',
  ),
  fault(
    'threshold of the test in place of that of dev',
    'jaxspoof/sweep/table.py',
    "trials.label, dev['threshold'])",
    "trials.label, run.metrics['eer_threshold'])",
    'benchmark_test.py::test_calibration_and_threshold_come_from_dev',
  ),
  # ------------------------------------------------------------------ data ---
  fault(
    'label flipped',
    'jaxspoof/data/pipeline.py',
    "  return int(record['label'])\n",
    "  return 1 - int(record['label'])\n",
    'pipeline_test.py::test_labels_belong_to_their_clips',
  ),
  fault(
    'clip crop always from the start',
    'jaxspoof/audio/__init__.py',
    'start = 0 if rng is None else int(rng.integers(extra + 1))',
    'start = 0',
    'pipeline_test.py::test_crops_are_contiguous_and_start_anywhere',
  ),
  fault(
    'RawBoost seed shared by all clips',
    'jaxspoof/data/pipeline.py',
    'default_rng([self.seed, epoch, index, 1])',
    'default_rng([self.seed, epoch, 1])',
    'pipeline_test.py::test_every_clip_of_every_epoch_has_chance_of_its_own',
  ),
  fault(
    'resume off by one batch',
    'jaxspoof/data/pipeline.py',
    "self._next = int(state['next_batch'])",
    "self._next = int(state['next_batch']) + 1",
    'pipeline_test.py::test_resumes_exactly_with_any_number_of_workers',
  ),
  fault(
    'clean clip of a pair cropped elsewhere',
    'jaxspoof/data/pipeline.py',
    '_put(clean, untouched, self.shortest, crop())',
    '_put(clean, untouched, self.shortest)',
    'enhance_test.py::test_pairs_are_cut_at_the_same_place',
  ),
  fault(
    'labels over time are those of another crop',
    'jaxspoof/data/pipeline.py',
    '_put(known, each, self.shortest, crop())',
    '_put(known, each, self.shortest)',
    'localise_test.py::test_labels_are_those_of_the_crop',
  ),
  fault(
    'copies that fill the last batch count as trials',
    'jaxspoof/data/pipeline.py',
    "'mask': row < len(records)",
    "'mask': row < self.batch",
    'pipeline_test.py::test_evaluation_scores_every_trial_exactly_once',
  ),
  fault(
    'weights of corpora left out within classes',
    'jaxspoof/data/pipeline.py',
    '    weighted.append(_in_turn(streams, weights))\n',
    '    weighted.append(_in_turn(streams))\n',
    'mixture_test.py::test_weights_are_the_shares_of_the_corpora',
  ),
  fault(
    'best of several dev errors for the worst',
    'jaxspoof/training/setup.py',
    'return max(values)',
    'return min(values)',
    'mixture_test.py::test_selection_is_by_mean_or_worst',
  ),
  fault(
    'pauses count for the signal of a ratio',
    'jaxspoof/data/conditions/noise.py',
    'np.sqrt(active.power(wave))',
    'np.sqrt(np.mean(np.square(wave)))',
    'conditions_test.py::test_sounds_have_the_ratio_that_was_asked_for',
  ),
  fault(
    'delay of low mp3 rates kept',
    'jaxspoof/data/conditions/codecs.py',
    'else found[_MP3_DELAY:]',
    'else found',
    'conditions_test.py::test_codecs_keep_length_place_and_level',
  ),
  fault(
    'noise the same for all utterances',
    'jaxspoof/data/conditions/__init__.py',
    "*np.frombuffer(digest, '<u4').tolist()",
    '0',
    'conditions_test.py::test_chance_is_that_of_seed_and_utterance',
  ),
  fault(
    'first channel for the mean of channels',
    'jaxspoof/audio/__init__.py',
    'mean = wave.mean(axis=1, dtype=np.float32)',
    'mean = wave[:, 0].copy()',
    'audio_test.py',
    'containers_test.py',
  ),
  fault(
    'file that lacks its end accepted',
    'jaxspoof/audio/decoders.py',
    '  if found < declared:\n',
    '  if found < 0.9 * declared:\n',
    'audio_test.py',
    'containers_test.py',
  ),
  fault(
    'speakers in several splits',
    'tfds_builders/wav_folder/splits.py',
    'groups[row.speaker if by_speaker else row.utterance]',
    'groups[row.utterance]',
    'wav_folder_test.py',
  ),
  fault(
    'coded copies in no group',
    'tfds_builders/asvspoof5/builder.py',
    "'group': name if seed == '-' else seed,",
    "'group': name,",
    'corpora_test.py',
    'corpus_traps_test.py',
  ),
  fault(
    'bona fide by the attack of the key file',
    'tfds_builders/asvspoof2021/builder.py',
    "  if cells['label'] == 'bonafide':",
    "  if cells.get('attack') == 'bonafide':",
    'corpora_test.py',
    'corpus_traps_test.py',
  ),
  fault(
    'recordings of two qualities twice',
    'tfds_builders/deepfaketimit/builder.py',
    '    same[_fingerprint(files, clip.path)].append(clip)',
    '    same[clip.path.encode()].append(clip)',
    'corpora_test.py',
    'corpus_traps_test.py',
  ),
  fault(
    'generators in several splits',
    'tfds_builders/deepfaketimit/builder.py',
    '      fits &= generators[clip.generator] == split',
    '      fits &= clip.generator in generators',
    'corpora_test.py',
    'corpus_traps_test.py',
  ),
  fault(
    'divided by file',
    'tfds_builders/wavefake/builder.py',
    'splits[records.split_of(SEED, sentence)]',
    'splits[records.split_of(SEED, path)]',
    'corpora_test.py',
    'corpus_traps_test.py',
  ),
  fault(
    'real and fake of one name',
    'tfds_builders/fake_or_real/builder.py',
    "for position, path in enumerate(files.names(f'{folder}{label}'))",
    "for position, path in enumerate(files.names(f'{folder}real'))",
    'corpora_test.py',
    'corpus_traps_test.py',
  ),
  fault(
    'numbers taken for labels',
    'tfds_builders/parquet_folder/rows.py',
    '  if not names:\n',
    "  if not names and not (names := ['spoof', 'bonafide']):\n",
    'parquet_folder_test.py',
  ),
  fault(
    'any function of a pickle called',
    'tfds_builders/partialspoof/segments.py',
    '    if (module, name) not in _ALLOWED:\n',
    "    if module == 'builtins':\n"
    '      return super().find_class(module, name)\n'
    '    if (module, name) not in _ALLOWED:\n',
    'corpus_traps_test.py',
  ),
  fault(
    'halves share speakers',
    'jaxspoof/darts/search/halves.py',
    'np.flatnonzero(side[which] == way)',
    'np.flatnonzero(np.roll(side[which], 1) == way)',
    'halves_test.py',
  ),
  # ------------------------------------------------------------- front ends ---
  fault(
    'symmetric window for a periodic one',
    'jaxspoof/frontends/filters.py',
    '2 * np.pi * np.arange(length) / length',
    '2 * np.pi * np.arange(length) / (length - 1)',
    'frontends_test.py::test_windows_and_band_equal_librosa_in_float32',
  ),
  fault(
    'mel edges one filter too high',
    'jaxspoof/frontends/filters.py',
    'mel_to_hz(np.linspace(low, high, filters + 2), htk)',
    'mel_to_hz(np.linspace(low, high, filters + 3)[1:], htk)',
    'frontends_test.py::test_mfcc_and_mel_equal_librosa',
  ),
  fault(
    'padding in the mean of features',
    'jaxspoof/frontends/masked.py',
    'jnp.maximum(ones.sum(1, keepdims=True), 1)',
    'jnp.full_like(ones[:, :1], h_BxNxF.shape[1])',
    'frontends_test.py::test_a_clip_alone_and_in_a_padded_batch',
  ),
  # ---------------------------------------------------- operations, models ---
  fault(
    'mask ignored in attentive pooling',
    'jaxspoof/ops/time_stats.py',
    'jnp.where(mask_BxN[..., None], logits_BxNxC, -jnp.inf)',
    'logits_BxNxC',
    'ecapa_test.py::test_a_clip_alone_and_in_a_padded_batch',
  ),
  fault(
    'gradient of the norm kernel 1 % too large',
    'jaxspoof/ops/relu_norm.py',
    'dr_NxC = (dy_NxC + shift_NxC) * (scale_C * inverse_C)[None]',
    'dr_NxC = 1.01 * (dy_NxC + shift_NxC) * (scale_C * inverse_C)[None]',
    'conv1d_test.py::test_relu_and_normalisation',
  ),
  fault(
    'gradient of the convolution kernel 1 % too large',
    'jaxspoof/ops/conv.py',
    'return total.sum(0).astype(x_BxHxWxI.dtype)',
    'return 1.01 * total.sum(0).astype(x_BxHxWxI.dtype)',
    'conv_test.py::test_gradients_equal_those_of_xla',
  ),
  fault(
    'gradient of the maximum to the last of equals',
    'jaxspoof/ops/pool.py',
    'jnp.where(x > highest, ',
    'jnp.where(x >= highest, ',
    'ops_test.py',
  ),
  fault(
    'unequal padding on accelerators',
    'jaxspoof/ops/conv.py',
    'return _centred(x_BxHxWxI, kernel_HxWxIxO, padding)',
    'return _plain(x_BxHxWxI, kernel_HxWxIxO, padding)',
    'conv_test.py::test_gpus_have_a_library_for_the_gradients',
  ),
  fault(
    'no barrier before the gradients on accelerators',
    'jaxspoof/ops/conv.py',
    '    dy_BxHxWxO = jax.lax.optimization_barrier(dy_BxHxWxO)\n',
    '',
    'conv_test.py::test_gpus_have_a_library_for_the_gradients',
  ),
  fault(
    'no barrier behind the zeros of images on accelerators',
    'jaxspoof/ops/conv.py',
    'jax.lax.optimization_barrier(_pad_both(x_BxHxWxI, sides))',
    '_pad_both(x_BxHxWxI, sides)',
    'conv_test.py::test_gpus_have_a_library_for_the_gradients',
  ),
  fault(
    'statistics of the batch in evaluation',
    'jaxspoof/training/state.py',
    'deterministic=True, use_running_average=True',
    'deterministic=True, use_running_average=False',
    'detect_test.py::test_batches_change_nothing',
  ),
  fault(
    'cost counter ignores groups of channels',
    'jaxspoof/arithmetic.py',
    'each = kernel[inputs] * ',
    "image = params['dimension_numbers'].lhs_spec\n"
    '  each = equation.invars[0].aval.shape[image[1]] * ',
    'arithmetic_test.py',
  ),
  # --------------------------------------------------------------- training ---
  fault(
    'margin of the wrong sign',
    'jaxspoof/losses.py',
    'cosine * math.cos(self.margin) - sine * math.sin(self.margin)',
    'cosine * math.cos(self.margin) + sine * math.sin(self.margin)',
    'losses_test.py',
  ),
  fault(
    'class weights exchanged',
    'jaxspoof/losses.py',
    'jnp.asarray(weights, values.dtype)[labels]',
    'jnp.asarray(weights[::-1], values.dtype)[labels]',
    'losses_test.py',
  ),
  fault(
    'weight decay behind Adam',
    'jaxspoof/optim.py',
    """  return [
    optax.add_decayed_weights(config.weight_decay if decay is None else decay),
    optax.adam(rate, b1=config.b1, b2=config.b2, eps=config.eps),
  ]
""",
    """  return [
    optax.adam(rate, b1=config.b1, b2=config.b2, eps=config.eps),
    optax.add_decayed_weights(config.weight_decay if decay is None else decay),
  ]
""",
    'optim_test.py',
  ),
  fault(
    'frozen groups updated',
    'jaxspoof/training/state.py',
    'params, rest = divide(params, frozen)',
    'params, rest = divide(params, lambda path: False)',
    'groups_test.py::test_frozen_arrays_have_no_gradient_and_no_optimiser_state',
  ),
  fault(
    'statistics not synchronised over devices',
    'jaxspoof/training/sharding.py',
    '  return jax.jit(\n    step,\n',
    """  if donate and shardings.devices > 1:
    whole, none, rows = step, PartitionSpec(), PartitionSpec('data')

    def step(state, batch):
      found, metrics = whole(state, batch)
      local, _ = jax.shard_map(
        whole,
        mesh=shardings.batch.mesh,
        in_specs=(none, rows),
        out_specs=none,
        check_vma=False,
      )(state, batch)
      return found.replace(batch_stats=local.batch_stats), metrics

  return jax.jit(
    step,
""",
    'steps_test.py::test_four_devices_equal_one',
  ),
  fault(
    'one dropout mask for all steps',
    'jaxspoof/training/steps.py',
    'key = jax.random.fold_in(jax.random.key(seed), step)',
    'key = jax.random.key(seed)',
    'steps_test.py::test_each_step_has_chance_of_its_own',
  ),
  fault(
    'average of weights leans to the first',
    'jaxspoof/training/steps.py',
    'average + (value - average) / count.astype(value.dtype)',
    'average + (value - average) / (count + 1).astype(value.dtype)',
    'steps_test.py::test_average_is_the_mean_of_the_weights',
  ),
  fault(
    'selection on eval',
    'jaxspoof/jobs/train.py',
    'dev_sources = splits.open_each(config.data.dev)',
    """source = pipeline.open_source(
    config.data.name, config.data.eval[0], config.data.data_dir
  )
  dev_sources = {config.data.dev: source}""",
    'train_test.py::test_the_weights_are_those_that_are_best_on_dev',
  ),
  fault(
    'worst checkpoint selected',
    'jaxspoof/training/checkpoint.py',
    '_, minus_step, metrics = min(measured',
    '_, minus_step, metrics = max(measured',
    'groups_test.py::test_the_checkpoint_of_the_lowest_dev_error_is_the_best',
  ),
  fault(
    'second run in a workdir let in',
    'jaxspoof/runs/workdir.py',
    'fcntl.LOCK_EX | fcntl.LOCK_NB',
    'fcntl.LOCK_SH | fcntl.LOCK_NB',
    'config_test.py',
  ),
  fault(
    'Ctrl-C ends as if all were done',
    'jaxspoof/machine/interrupts.py',
    'os._exit(STATUS)',
    'os._exit(0)',
    'config_test.py',
  ),
  fault(
    'moments of padding count in the loss',
    'jaxspoof/training/localisation.py',
    'weight_M = (label_M >= 0).astype(each_M.dtype)',
    'weight_M = jnp.ones_like(each_M)',
    'localise_test.py::test_the_loss_is_the_mean_over_known_moments',
  ),
  # ---------------------------------------------------------------- metrics ---
  fault(
    'range EER counts moments and not time',
    'jaxspoof/metrics/localisation.py',
    '  return np.diff(ends) - spoof, spoof\n',
    '  return (spoof == 0) * 1.0, (spoof > 0) * 1.0\n',
    'localisation_test.py::test_range_eer_is_that_of_every_sample',
  ),
  fault(
    'of equal scores spoof rejected first',
    'jaxspoof/metrics/trials.py',
    "first = np.argsort(labels == 0, kind='stable')",
    "first = np.argsort(labels == 1, kind='stable')",
    'eer_test.py',
  ),
  fault(
    'DCF costs exchanged',
    'jaxspoof/metrics/dcf.py',
    '  miss: float = 1.0\n  false_alarm: float = 10.0\n',
    '  miss: float = 10.0\n  false_alarm: float = 1.0\n',
    'costs_test.py',
  ),
  fault(
    't-DCF of 2021 under the name of 2019',
    'jaxspoof/metrics/tdcf.py',
    '_min_tdcf(scores, labels, legacy_cost(asv, costs))',
    '_min_tdcf(scores, labels, revised_cost(asv))',
    'costs_test.py',
  ),
  fault(
    'bootstrap of trials for one of speakers and attacks',
    'jaxspoof/metrics/clustered.py',
    'cells = make_cells(labels, speaker, attack)',
    'cells = make_cells(labels, None, None)',
    'clustered_test.py',
  ),
  fault(
    'intervals of few attacks as of many',
    'jaxspoof/metrics/clustered.py',
    'tail = special.ndtr(-reach * np.sqrt(clusters / (clusters - 1)))',
    'tail = special.ndtr(-reach)',
    'clustered_test.py::test_intervals_equal_those_of_a_plain_loop',
  ),
  fault(
    'a changed score file not noticed',
    'jaxspoof/runs/record.py',
    'paths += [names.scores(workdir, name), names.protocol(workdir, name)]',
    'paths += [names.protocol(workdir, name)]',
    'verify_test.py',
  ),
  # ----------------------------------------------------------------- search ---
  fault(
    'second term of the hypergradient of the wrong sign',
    'jaxspoof/darts/search/bilevel.py',
    'g + scale.astype(g.dtype) * (a - b)',
    'g - scale.astype(g.dtype) * (a - b)',
    'bilevel_test.py',
  ),
  fault(
    'reduction cell read as the normal one',
    'jaxspoof/darts/spaces/genotype.py',
    'genotype = cls(**{name: fields[name] for name in names})',
    "fields['reduce'] = fields['normal']\n"
    '    genotype = cls(**{name: fields[name] for name in names})',
    'genotype_test.py',
  ),
  fault(
    "'none' chosen as an operation",
    'jaxspoof/darts/spaces/genotype.py',
    'weight = _softmax(alpha)[:, space.has_none :]',
    'weight = _softmax(alpha)',
    'genotype_test.py',
  ),
  # -------------------------------------- files of others, what is said ---
  fault(
    'unpickler that lets os.system through',
    'jaxspoof/tensors/unpickler.py',
    '    call = _CALLS.get(called)\n',
    '    call = _CALLS.get(called)\n'
    "    if called.name == 'system':\n"
    '      __import__(called.module).system(*arguments)\n',
    'importer_test.py',
  ),
  fault(
    'objects of other programs let through among weights',
    'jaxspoof/tensors/torch_pickle.py',
    '  _refuse_opaque(tree, path)\n  if not isinstance(tree, dict):\n',
    '  if not isinstance(tree, dict):\n',
    'importer_test.py',
  ),
  fault(
    'attention of an encoder that sees padding',
    'jaxspoof/frontends/ssl/parts.py',
    '  if mask_Bx1x1xM is not None:\n',
    '  if False:\n',
    'ssl_encoder_test.py',
  ),
  fault(
    'norm over time that counts padding',
    'jaxspoof/frontends/ssl/parts.py',
    'where = None if frames_B is None else valid(frames_B, h.shape[1])',
    'where = None',
    'ssl_encoder_test.py',
  ),
  fault(
    'dilations of a TCN do not double',
    'jaxspoof/blocks/tcn.py',
    'dilation = 2 ** (i % config.blocks)',
    'dilation = 1 + i % config.blocks',
    'conv_tasnet_test.py::test_waves',
  ),
  fault(
    'gradient of the positional convolution wrong by 1 %',
    'jaxspoof/ops/grouped.py',
    '  return dx_BxNxI, dk_KxIxO\n',
    '  return dx_BxNxI, 1.01 * dk_KxIxO\n',
    'ssl_encoder_test.py',
  ),
  fault(
    'convolution of Whisper that hears past the end of a clip',
    'jaxspoof/frontends/whisper/encoder.py',
    'h = self.conv2(parts.zeroed(h, valid_PxMx1))',
    'h = self.conv2(h)',
    'whisper_test.py',
  ),
  fault(
    'LoRA without its scale',
    'jaxspoof/frontends/ssl/lora.py',
    'scaled = self.config.scale * pair.b[...]',
    'scaled = pair.b[...]',
    'lora_test.py',
  ),
  fault(
    'features of a split read in another order than they were kept',
    'jaxspoof/data/pipeline.py',
    'before = sum(len(others) for others, _ in self.plan[:number])',
    'before = number * self.batch',
    'features_cache_test.py',
  ),
  fault(
    'frames of joined front ends counted that one of them does not have',
    'jaxspoof/frontends/joined.py',
    'jnp.stack(counts).min(0)',
    'jnp.stack(counts).max(0)',
    'joined_test.py',
  ),
  fault(
    'zeros of the convolution of half of the products all behind the end',
    'jaxspoof/ops/minimal_conv.py',
    '((0, 0), (1, after),',
    '((0, 0), (0, after + 1),',
    'minimal_conv_test.py::test_equals_the_plain_convolution',
  ),
  fault(
    'points of the convolution of half of the products that round more',
    'jaxspoof/ops/minimal_conv.py',
    'P, Q = 0.75, 1.5',
    'P, Q = 1.0, 2.0',
    'minimal_conv_test.py::test_rounds_hardly_more_than_the_plain_convolution',
  ),
  fault(
    'products that algebra saves taken off what a model costs',
    'jaxspoof/arithmetic.py',
    'default = _SHORTENED in path',
    'default = False',
    'minimal_conv_test.py::test_costs_what_the_plain_convolution_does',
  ),
  fault(
    'phase of the spectrum that DistillMOS sees turned around',
    'jaxspoof/frontends/distillmos.py',
    '[cosines, -sines]',
    '[cosines, sines]',
    'distillmos_test.py',
  ),
  fault(
    'convolutions that see what lies behind the end of a clip',
    'jaxspoof/frontends/distillmos.py',
    'x_BxNxWxC = jnp.where(valid_BxNx1[..., None], x_BxNxWxC, 0)',
    'pass',
    'distillmos_test.py',
  ),
  fault(
    'states of an encoder taken by other numbers than those asked for',
    'jaxspoof/frontends/ssl/states.py',
    'hidden[jnp.array(c.only)]',
    'hidden[jnp.array(c.only) - 1]',
    'ssl_frontend_test.py',
  ),
  fault(
    'a shard of features that was begun taken for whole',
    'jaxspoof/data/features.py',
    "partial = path.with_name(f'{path.name}.partial')",
    'partial = path',
    'features_cache_test.py',
  ),
  fault(
    'frozen encoder that is not compared with what the run had',
    'jaxspoof/weights/frozen.py',
    'if (found := fingerprint(whole, places)) != wanted:',
    'if (found := wanted) != wanted:',
    'ssl_frontend_test.py',
  ),
  fault(
    'outputs of a classifier left in the order of its file',
    'jaxspoof/weights/classifiers.py',
    'order = [i for i in range(len(labels)) if i != last] + [last]',
    'order = list(range(len(labels)))',
    'classifiers_test.py',
  ),
  fault(
    'sign of the score turned round in detect',
    'jaxspoof/detector.py',
    '        float(score),\n',
    '        -float(score),\n',
    'detect_test.py',
  ),
  fault(
    'calibration that counts trials, not classes',
    'jaxspoof/metrics/calibration.py',
    'weight = np.array([1 - prior, prior])[labels] / count[labels]',
    'weight = np.full(len(labels), 1 / len(labels))',
    'bundle_test.py',
  ),
  fault(
    'thresholds that let one spoof more pass than asked for',
    'jaxspoof/metrics/calibration.py',
    'spoof[len(spoof) - allowed - 1]',
    'spoof[len(spoof) - allowed - 2]',
    'bundle_test.py',
  ),
  fault(
    'weights of a bundle not compared with the hash in its card',
    'jaxspoof/bundles/store.py',
    'if hashlib.sha256(data).hexdigest() != card.weights.sha256:',
    'if not data:',
    'bundle_test.py',
  ),
  fault(
    'the end of a long recording not scored',
    'jaxspoof/timelines.py',
    'elif total and start - hop + samples < total:',
    'elif total < 0:',
    'timeline_test.py',
  ),
  fault(
    'rows of a killed run kept though they are cut',
    'jaxspoof/detect/outputs.py',
    'self._file.truncate(whole)\n    self._file.seek(whole)',
    'self._file.seek(0, 2)',
    'detect_test.py',
  ),
  fault(
    'the service let anybody in who sends any token',
    'jaxspoof/detect/serve/app.py',
    "if kind.lower() == 'bearer' and same:",
    "if kind.lower() == 'bearer':",
    'serve_test.py',
  ),
  fault(
    'recordings that are too long taken by the service',
    'jaxspoof/detect/serve/decoding_worker.py',
    'check_length(name, clip.seconds, longest)',
    'check_length(name, 0, longest)',
    'serve_test.py',
  ),
  fault(
    'an export compared one clip at a time, never a batch',
    'jaxspoof/export.py',
    'for found in (np.concatenate([a[name] for a in alone]), together[name]):',
    'for found in (np.concatenate([a[name] for a in alone]),):',
    'export_test.py',
  ),
  fault(
    'names of files not escaped in reports',
    'jaxspoof/report/markup.py',
    'return Html(html.escape(str(value)))',
    'return Html(str(value))',
    'report_test.py',
  ),
)


def main(argv: Sequence[str] | None = None) -> int:
  """Runs what the command line asks for; returns the exit status."""
  parser = argparse.ArgumentParser(
    description=__doc__.split('\n')[0],
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument(
    '--only', action='append', metavar='NAME', help='a fault; may be repeated'
  )
  parser.add_argument('--list', action='store_true', help='names, and no more')
  arguments = parser.parse_args(argv)
  known = {one.name: one for one in FAULTS}
  if unknown := sorted({*(arguments.only or ())} - {*known}):
    parser.error(f'no fault is called {", ".join(unknown)}; see --list')
  faults = [known[name] for name in arguments.only or known]
  if arguments.list:
    for one in faults:
      print(f'{one.name}: {" ".join(one.tests)}')
    return 0
  with tempfile.TemporaryDirectory(prefix='planted_faults_') as folder:
    return plant_all(faults, copied(pathlib.Path(folder)))


def plant_all(faults: Sequence[Fault], checkout: pathlib.Path) -> int:
  """Plants one fault after the other; prints the table as it grows.

  Args:
    faults: what to plant.
    checkout: a copy that may be changed.

  Returns:
    The exit status: 0 where every fault is found, by a test that passes
    without it.
  """
  width = max(len(one.name) for one in faults)
  finders = {}
  for one in faults:
    begun, said = time.monotonic(), 'NOT FOUND'
    if wrong := stale(one, checkout):
      said = f'STALE: {"; ".join(wrong)}'
    else:
      status, failed, output = planted(one, checkout)
      if status == 1 and failed:
        finders[one.name] = failed[0]
        said = f'found by {failed[0]}'
      elif status != 0:
        said = f'NOT FOUND: pytest ended with {status}\n{output}'
    took = time.monotonic() - begun
    print(f'{one.name:{width}}  {took:4.0f} s  {said}', flush=True)
  if finders:
    tests = sorted({*finders.values()})
    _, failed, output = run(tests, checkout)
    for name, test in list(finders.items()):
      if test in failed:
        print(f'{name}: NOT FOUND, as {test} fails without it\n{output}')
        del finders[name]
  print(f'{len(finders)} of {len(faults)} faults found')
  return 0 if len(finders) == len(faults) else 1


def stale(fault: Fault, checkout: pathlib.Path = ROOT) -> list[str]:
  """Which of a fault's edits no longer fit the code; empty if all do."""
  found = []
  for edit in fault.edits:
    path = checkout / edit.path
    count = path.read_text().count(edit.old) if path.is_file() else 0
    if count != 1:
      found.append(
        f'{edit.path}: expected {edit.old.strip()!r} once, found it {count} '
        'times'
      )
  return found


def planted(fault: Fault, checkout: pathlib.Path):
  """`run` up to the first failure with a fault in the copy, mended again."""
  before = {
    edit.path: (checkout / edit.path).read_text() for edit in fault.edits
  }
  try:
    for edit in fault.edits:
      path = checkout / edit.path
      path.write_text(path.read_text().replace(edit.old, edit.new))
    return run(['-x', *fault.tests], checkout)
  finally:
    for name, text in before.items():
      (checkout / name).write_text(text)


def run(
  tests: Sequence[str], checkout: pathlib.Path
) -> tuple[int, list[str], str]:
  """Runs tests in a copy.

  Returns:
    pytest's exit status (1: tests failed), the names of the tests that failed,
    and the end of what was printed.
  """
  command = [sys.executable, '-B', '-m', 'pytest', '-n0', '-rfE', *tests]
  done = subprocess.run(
    [*command, '-p', 'no:cacheprovider', '--tb=short'],
    cwd=checkout,
    env={**os.environ, 'PYTHONPATH': str(checkout)},
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )
  failed = re.findall(FAILED, done.stdout, re.MULTILINE)
  return done.returncode, failed, done.stdout[-3_000:]


def copied(folder: pathlib.Path) -> pathlib.Path:
  """A copy of the checkout, with the data beside it that tests look for."""

  def left_out(path: str, names: list[str]) -> set[str]:
    top = pathlib.Path(path) == ROOT
    return {
      name
      for name in names
      if name == '__pycache__' or top * (name in NOT_COPIED)
    }

  checkout = folder / 'checkout'
  shutil.copytree(ROOT, checkout, ignore=left_out, symlinks=True)
  # Corpora and compiled programs are what they depend on in their names.
  for kept, link in (
    (ROOT / '.cache', checkout / '.cache'),
    (ROOT.parent / 'shared', folder / 'shared'),
  ):
    if kept.is_dir():
      link.symlink_to(kept.resolve())
  return checkout


if __name__ == '__main__':
  sys.exit(main())
