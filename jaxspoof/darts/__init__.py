"""Architecture search: everything of Light-DARTS and of its kind.

  spaces      what an edge chooses from, and genotypes, as data
  network     cells, the network that a genotype describes, the supernet of all
              genotypes, and what each of them costs
  search      one search: its config, state, steps and hypergradients, the
              halves of the training data, how searches fail
  pages       the reports of a search, and of the study of its worth
  controller  a search from a notebook; `jaxspoof.light_darts` is its door

The jobs that use them are `search`, `study` and `train_genotype` in
`jaxspoof.jobs`.
"""
