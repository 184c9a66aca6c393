"""The cache of compiled programs, and users who have no place for it."""

import pathlib

import jax
import pytest

from jaxspoof.machine import programs


@pytest.fixture(autouse=True)
def no_cache(monkeypatch):
  before = jax.config.jax_compilation_cache_dir
  jax.config.update('jax_compilation_cache_dir', None)
  yield
  jax.config.update('jax_compilation_cache_dir', before)


def test_programs_are_kept_below_home(monkeypatch, tmp_path, capsys):
  monkeypatch.setenv('HOME', str(tmp_path))
  programs.keep()
  kept = tmp_path / '.cache' / 'jaxspoof' / 'programs'
  assert jax.config.jax_compilation_cache_dir == str(kept)
  assert kept.is_dir() and capsys.readouterr().err == ''


@pytest.mark.parametrize('reason', ['no home', 'not to be written to'])
def test_without_a_place_there_is_a_note_and_no_cache(
  monkeypatch, tmp_path, capsys, reason
):
  def no_home():
    raise RuntimeError('Could not determine home directory.')

  if reason == 'no home':  # a container's numeric user without HOME
    monkeypatch.setattr(pathlib.Path, 'home', no_home)
  else:
    (tmp_path / 'file').touch()
    monkeypatch.setenv('HOME', str(tmp_path / 'file'))
  programs.keep()
  assert jax.config.jax_compilation_cache_dir is None
  note = capsys.readouterr().err
  assert note.startswith('note: compiled programs are not kept')
  assert note.count('\n') == 1
