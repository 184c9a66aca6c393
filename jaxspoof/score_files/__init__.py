"""Files of scores and trials, checked line by line.

  scores        the official countermeasure format, which runs write
  score_lists   score files as people have them, compared with the protocol
  protocols     what the trials are
  asv_scores    of the speaker verification that t-DCF needs
  columns       what these formats have in common

Everything that is wrong with a file is said at once.
"""
