"""Metrics of bona fide and spoof scores: pure functions.

  table                   every metric that is shown, a line each
  scorecard, summary      all of them of some systems; as metrics.json has them
  eer, crossing           the equal error rate, jitted
  det                     the same on the host, and DET curves
  dcf, tdcf, cllr         costs of decisions, calibration
  tandem                  metrics of detection and speaker verification
  rates                   error rates at a threshold, area under the ROC curve
  clustered, clusters     the bootstrap over speakers and attacks
  trials                  checks and the official order
  open_set                figures of source tracing

Files are read by `score_files`, which knows nothing of metrics. Only `eer`,
`crossing`, and what calls them load JAX.
"""
