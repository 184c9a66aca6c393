"""The parts that jobs which train are made of, `search` as well as `train`.

  state, steps            the state of a run as a value; pure functions of it
  tasks, scoring          what the classes are; the outputs for whole splits
  sharding, checkpoint    where arrays are; how a run goes on
  cost                    what a run took
  console, clock          what it says meanwhile

Only `sharding` knows the mesh, and only `checkpoint` Orbax.
"""
