"""Systems on corpora under conditions: what gives scores, and the table.

  systems   checkpoints, score files of others, and fusions, alike
  scored    cells: a system on a test under a condition, scored once
  table     figures of all cells as data

The job `benchmark` says what is scored and when; `report.sweep` shows it.
"""
