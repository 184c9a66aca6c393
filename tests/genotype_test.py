"""Genotypes: the rule of DARTS, files, what is refused."""

import json

import numpy as np
import pytest

from jaxspoof.darts import spaces
from jaxspoof.darts.spaces import genotype as genotype_lib
from jaxspoof.darts.spaces.genotype import PUBLISHED, Genotype

CELL = (('skip_connect', 0), ('mfm_conv_3x3', 1))
SIMPLE = Genotype(space='light', normal=CELL, reduce=CELL)


def test_discretise_by_hand():
  space = spaces.space('darts')
  alpha = np.zeros((5, 8), np.float32)
  alpha[:, 0] = 5  # 'none' never wins, however large
  alpha[0, 4], alpha[1, 7] = 1, 2
  alpha[2, 1], alpha[3, 2], alpha[4, 3] = 1, 3, 2
  cell = dict(alpha=alpha)
  found = genotype_lib.discretise(space, dict(normal=cell, reduce=cell))
  assert found.normal == (
    ('dil_conv_5x5', 1),
    ('sep_conv_3x3', 0),
    ('avg_pool_3x3', 1),
    ('skip_connect', 2),
  )
  # Edge normalisation lifts the edge from state 0 over that from state 2.
  beta = np.array([0, 0, 9, 9, 0], np.float32)
  cell = dict(alpha=alpha, beta=beta)
  found = genotype_lib.discretise(space, dict(normal=cell, reduce=cell))
  assert found.normal[2:] == (('avg_pool_3x3', 1), ('max_pool_3x3', 0))


def test_random_genotypes_reach_all_choices():
  space = spaces.space('raw')
  rng = np.random.default_rng(0)
  drawn = [genotype_lib.random_genotype(space, 3, rng) for _ in range(60)]
  seen = {edge for genotype in drawn for edge in genotype.reduce}
  assert {name for name, _ in seen} == set(space.choices)
  assert {source for _, source in seen} == {0, 1, 2, 3}


def test_discretise_refuses_other_shapes():
  alpha = np.zeros((5, 4))
  with pytest.raises(ValueError, match="4 operations, space 'darts' has 8"):
    genotype_lib.discretise(
      spaces.space('darts'), dict(normal=dict(alpha=alpha))
    )
  with pytest.raises(ValueError, match='no cell has 4 edges'):
    genotype_lib.discretise(
      spaces.space('light'), dict(normal=dict(alpha=alpha[:4]))
    )


def test_json_and_back(tmp_path):
  for genotype in (SIMPLE, *PUBLISHED.values()):
    path = tmp_path / 'genotype.json'
    genotype.save(path)
    assert Genotype.load(path, space=genotype.space) == genotype
    fields = json.loads(path.read_text())
    assert fields['schema'] == 1 and fields['hash'] == genotype.hash
  hashes = {g.hash for g in (SIMPLE, *PUBLISHED.values())}
  assert len(hashes) == 3


def test_published_genotypes():
  for genotype, space in zip(PUBLISHED.values(), ('darts', 'raw'), strict=True):
    assert genotype.space == space and genotype.nodes == 4
    assert genotype.normal_concat == genotype.reduce_concat == (2, 3, 4, 5)


@pytest.mark.parametrize(
  'change, message',
  [
    (dict(schema=2), 'schema 2.*reads schema 1'),
    (dict(hash='0' * 16), 'changed after it was written'),
    (dict(space='lite'), "'lite' is not known.*darts, light, raw"),
    (dict(space='darts'), "'darts' has no operation 'mfm_conv_3x3'"),
    (dict(normal=None), 'needs pairs'),
    (dict(normal=[['skip_connect', 0]]), 'has 1 edges'),
    (dict(normal=[*CELL, *CELL]), 'differ in size: 4 and 2'),
    (dict(normal=[['skip_connect', 0], ['none', 1]]), "no operation 'none'"),
    (
      dict(normal=[['skip_connect', 0], ['skip_connect', 2]]),
      'node 2 cannot read state 2',
    ),
    (
      dict(normal=[['skip_connect', 1], ['max_pool_3x3', 1]]),
      'read the same state 1',
    ),
    (dict(normal_concat=[2, 3]), 'states from 2 to 2'),
  ],
)
def test_refused_files(change, message, tmp_path):
  fields = {**json.loads(SIMPLE.to_json()), **change}
  path = tmp_path / 'genotype.json'
  path.write_text(json.dumps(fields))
  with pytest.raises(ValueError, match=message) as error:
    Genotype.load(path)
  assert str(path) in str(error.value)


def test_refused_documents():
  with pytest.raises(ValueError, match='not JSON'):
    Genotype.from_json('{')
  with pytest.raises(ValueError, match="no object with a 'schema'"):
    Genotype.from_json('[]')
  with pytest.raises(ValueError, match='lacks normal'):
    Genotype.from_json('{"schema": 1, "space": "light"}')
  with pytest.raises(ValueError, match="'light' does not fit space 'raw'"):
    Genotype.from_json(SIMPLE.to_json(), space='raw')
