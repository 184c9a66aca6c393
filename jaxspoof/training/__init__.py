"""What jobs that train are made of, and `search` as much as `train`.

What is computed: `state` as a value, pure `steps`, the `tasks`, `evaluate` for
whole splits. Where: `sharding`, the mesh. What stays: `checkpoint` (Orbax),
`workdir`, the `writer` of metrics, the `cost`. What is said: `console`, by the
`clock`.
"""
