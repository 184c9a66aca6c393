"""The folder of a run: what is in it, who writes it, how it is read.

  names         what its files are called; JSON in it, read or refused
  workdir       whose folder it is; classes, scores and examples in it
  writer        metrics.jsonl and TensorBoard, written while a run trains
  weights_file  weights.npz
  embedded      embeddings.npz and its table
  cells         results that are made once and shared
  record        the hashes that a finished run is verified against
  run           all of it as one value, for reports and comparisons

Nothing here loads JAX, so that a report takes no longer than its pictures.
"""
