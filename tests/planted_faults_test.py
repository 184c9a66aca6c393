"""The faults that `tools/planted_faults.py` plants; here none is planted."""

import importlib.util

import pytest


@pytest.fixture(scope='module')
def tool(repository):
  path = repository / 'tools' / 'planted_faults.py'
  spec = importlib.util.spec_from_file_location('planted_faults', path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def test_every_fault_fits_the_code_and_names_tests(tool, repository):
  names = [fault.name for fault in tool.FAULTS]
  assert len(set(names)) == len(names) >= 25
  for fault in tool.FAULTS:
    assert not tool.stale(fault), fault.name
    for test in fault.tests:
      path, _, function = test.partition('::')
      assert f'def {function}' in (repository / path).read_text(), test


def test_a_fault_that_no_longer_fits_is_stale(tool):
  path = 'jaxspoof/losses.py'
  gone = tool.fault('gone', path, 'text that nobody wrote', '')
  many = tool.fault('many', path, 'jnp', 'np')
  nowhere = tool.fault('nowhere', 'jaxspoof/nowhere.py', 'import', '')
  assert 'once, found it 0 times' in tool.stale(gone)[0]
  assert 'once, found it' in tool.stale(many)[0]
  assert 'once, found it 0 times' in tool.stale(nowhere)[0]


def test_a_table_of_faults_found_and_not_found(tool, tmp_path, capsys):
  """In a checkout of one function and its test, which sees half of it."""
  (tmp_path / 'sums.py').write_text('def add(a, b):\n  return a + b + 0\n')
  (tmp_path / 'tests').mkdir()
  (tmp_path / 'tests' / 'sums_test.py').write_text(
    'import sums\n\ndef test_add():\n  assert sums.add(1, 2) == 3\n'
  )
  faults = [
    tool.fault('minus', 'sums.py', 'a + b', 'a - b', 'sums_test.py'),
    tool.fault('unseen', 'sums.py', ' + 0', ' - 0', 'sums_test.py'),
    tool.fault('broken', 'sums.py', 'return', 'return (', 'sums_test.py'),
    tool.fault('stale', 'sums.py', 'a * b', 'a', 'sums_test.py'),
  ]
  assert tool.plant_all(faults, tmp_path) == 1
  table = capsys.readouterr().out
  assert 'found by tests/sums_test.py::test_add\n' in table
  assert table.count('NOT FOUND') == 2 and table.count('STALE') == 1
  assert table.endswith('1 of 4 faults found\n')
  assert (tmp_path / 'sums.py').read_text().endswith('a + b + 0\n')
  assert tool.plant_all(faults[:1], tmp_path) == 0
