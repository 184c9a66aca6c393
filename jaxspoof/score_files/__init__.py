"""Files of scores and trials, checked line by line.

`scores` is the official countermeasure format, which runs write; `score_lists`
reads score files as people have them and compares them with the `protocols`;
`asv_scores` are those of the speaker verification that t-DCF needs.
"""
