"""What the architecture search is made of; `jaxspoof.search` is the job.

An `architecture` is the continuous form of a genotype. `config`, `state`,
`steps` and `console` are to a search what those of `training` are to a
training run; `collapse` knows the ways in which a search fails. The
hypergradients are in `jaxspoof.bilevel`, the supernet in `jaxspoof.models`.
"""
