"""How two configs of runs, as the dictionaries of config.json, differ."""

# Fields that may differ between the parts of a run that was interrupted: they
# change where and how fast it runs, or how it is shown, not what it computes.
FREE = (
  'mesh.devices',
  'data.data_dir',
  'data.build',
  'data.workers',
  'checkpoint_every',
  'log_every',
)

# Fields of later, by what earlier runs did without them.
LATER = {'data.select': 'mean'}


def differences(old: dict, new: dict, prefix: str = '') -> list[str]:
  """Fields that two configs do not share, as 'name: old, now new'."""
  found = []
  for name in sorted({*old, *new}):
    a, b = old.get(name), new.get(name)
    if isinstance(b, dict) and isinstance(old.get(name, {}), dict):
      found += differences(old.get(name, {}), b, f'{prefix}{name}.')
    elif name not in old and b in (None, '', [], {}, _later(prefix + name)):
      continue  # a field of later, which says nothing here
    elif a != b and not _free(prefix + name):
      found.append(f'{prefix}{name} was {a!r}, now {b!r}')
  return found


def _later(name: str):
  return LATER.get(_within(name))


def _free(name: str) -> bool:
  return _within(name) in FREE


def _within(name: str) -> str:
  """A study has whole configs of its search and its runs as sections."""
  return name.removeprefix('train.').removeprefix('search.')
