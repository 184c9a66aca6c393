"""One search, as a training is one: its config, its state, its steps.

config, state, steps    of a search, as of a training run; console too
bilevel                 gradients through an inner optimisation step
architecture            the continuous form of a genotype
halves                  training data for weights and for the architecture
collapse                known ways in which a search fails
"""
