"""Builds the corpus that the parts `training` and `scoring` read."""

import common

from tfds_builders import build


def main() -> None:
  """Builds it under OUT/corpora."""
  options = common.arguments(__doc__)
  name = 'quickstart/tiny' if options.small else 'quickstart'
  build.build(name, data_dir=str(options.out / 'corpora'))
  common.say(f'{name} is built')


if __name__ == '__main__':
  main()
