"""Scores archives too large for one process: `python -m jaxspoof.bulk`.

plan     what there is to score, cut into shards
clips    the recordings of a shard: files, a tar, a group of a parquet file
worker   a process with a detector, which scores one shard after the other
cores    which cores a process may use
watch    starts such processes, and those that were killed once more

A shard has one file of scores, which is written beside its place and renamed
when it is whole: what has one is done. Whoever comes first takes a shard, so
that any number of processes and hosts may work on one folder, and may end.
"""
