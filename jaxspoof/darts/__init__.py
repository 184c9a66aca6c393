"""What the architecture search is made of; the job is `jaxspoof.search`.

  architecture            the continuous form of a genotype
  config, state, steps    of a search, as of a training run; console too
  collapse                known ways in which a search fails

Hypergradients are in `jaxspoof.bilevel`, for any two losses; the supernet is
in `jaxspoof.models`, and what it chooses from in `jaxspoof.search_spaces`.
"""
