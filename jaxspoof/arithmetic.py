"""Multiply-accumulates (MACs), counted in the traced program.

One MAC is one multiplication with its addition. Counted are products of
matrices, convolutions and Fourier transforms: a transform of n points as
n log2 n, whatever computes it. Zeros that pad a convolution count as other
values do. Normalisation, activations, pooling and plain sums are left out.

Nothing is computed and no backend is asked: where an operation has programs
for several platforms, that for CPUs is counted, which here does no more than it
must. Others fill up what a library wants to have full, with zeros that are no
arithmetic of the model. Where the one for CPUs has fewer products by algebra,
that for the others is counted: what a model costs is not a matter of how.
"""

import collections
import functools
import itertools
import math
import re
from collections.abc import Callable
from typing import Any

import jax
from jax.extend import core

_WRAPPED = re.compile(r'\w+\((.*)\)')  # jvp(stage), transpose(jvp(stage))
_ONE_IN = re.compile(r'one_in_(\d+)')
_TRANSFORM = re.compile(r'transforms_of_(\d+)')
_LEFT_OUT, _WRITTEN_OUT = 'left_out', 'sums_of_products'
_SHORTENED = 'shortened_on_cpu'
# Scopes that say how to count; others name stages.
_MARK = re.compile(
  f'{_LEFT_OUT}|{_WRITTEN_OUT}|{_SHORTENED}'
  f'|{_ONE_IN.pattern}|{_TRANSFORM.pattern}'
)
# Calls of one program with the same arguments and results.
_CALLS = ('jit', 'remat2', 'custom_vjp_call', 'custom_jvp_call')


def one_in(count: int):
  """A scope in which all but 1 / `count` of the factors are zeros.

  Products that a program makes only because one large product is faster than
  many small ones are no arithmetic of the model, and are not counted.
  """
  return jax.named_scope(f'one_in_{count}')


def sums_of_products():
  """A scope in which products are written as multiplications and sums.

  Each multiplication of arrays is a MAC there.
  """
  return jax.named_scope(_WRITTEN_OUT)


def transforms(points: int):
  """A scope whose products of matrices are Fourier transforms of rows.

  Each row of the first matrix costs what a fast transform of `points` points
  does.
  """
  return jax.named_scope(f'transforms_of_{points}')


def shortened_on_cpu():
  """A scope in which the program for accelerators is the one to count."""
  return jax.named_scope(_SHORTENED)


def left_out():
  """A scope whose products only arrange parameters, once for a batch."""
  return jax.named_scope(_LEFT_OUT)


def count(function: Callable, *args: Any) -> dict[str, int]:
  """MACs of one call.

  Args:
    function: a function of arrays; it is traced, not run.
    *args: arrays, `jax.ShapeDtypeStruct`s, or trees of them.

  Returns:
    MACs by stage: the outermost `jax.named_scope` that a product lies in, ''
    outside of any. In a gradient a stage's own products and those of its
    gradient are one number.

  Raises:
    ValueError: products in a loop whose length is not known before it runs.
  """
  found, _ = _count(jax.make_jaxpr(function)(*args).jaxpr, ())
  return {stage: round(total) for stage, total in found.items()}


def total(function: Callable, *args: Any) -> int:
  """The sum of `count` over all stages."""
  return sum(count(function, *args).values())


def _count(
  program: core.Jaxpr, path: tuple[str, ...], asked: list[bool] | None = None
) -> tuple[collections.Counter, list[bool]]:
  """MACs of a program, and which of its arguments they need.

  What nothing needs is not counted, as compilers leave it out: a gradient
  written by hand makes those of all arguments, wanted or not.

  Args:
    program: traced.
    path: scopes around it.
    asked: which of its results are needed; None: all.
  """
  found = collections.Counter()
  results = program.outvars
  if asked is not None:
    results = itertools.compress(results, asked)
  needed = {v for v in results if not isinstance(v, core.Literal)}
  for equation in reversed(program.eqns):
    used = [v in needed for v in equation.outvars]
    if not any(used):
      continue
    arguments = equation.invars
    # The scopes of an inner program begin anew.
    here = path + _scopes(str(equation.source_info.name_stack))
    stage = next((s for s in here if not _MARK.fullmatch(s)), '')
    shares = [int(m[1]) for s in here if (m := _ONE_IN.fullmatch(s))]
    own = _PRODUCTS.get(equation.primitive.name)
    points = [int(m[1]) for s in here if (m := _TRANSFORM.fullmatch(s))]
    if own is _of_dot and points:
      own = functools.partial(_of_transforming_dot, points=points[-1])
    if own is None and _WRITTEN_OUT in here:
      own = _WRITTEN.get(equation.primitive.name)
    if own is not None:
      if _LEFT_OUT not in here:
        found[stage] += own(equation) / math.prod(shares)
    else:
      inner, wanted = _inner(equation, here, used)
      found.update(inner)
      arguments = itertools.compress(arguments, wanted)
    needed |= {v for v in arguments if not isinstance(v, core.Literal)}
  return found, [v in needed for v in program.invars]


def _scopes(stack: str) -> tuple[str, ...]:
  """Names of a stack such as 'transpose(jvp(encoder))/vmap(block)'."""
  names = stack.split('/') if stack else []
  for i, name in enumerate(names):
    while match := _WRAPPED.fullmatch(name):
      name = match[1]
    names[i] = name
  return tuple(filter(None, names))


def _inner(
  equation: core.JaxprEqn, path, used: list[bool]
) -> tuple[collections.Counter, list[bool]]:
  """MACs of the programs that an equation calls, and arguments needed."""
  params, everything = equation.params, [True] * len(equation.invars)
  programs = [p for value in params.values() for p in _programs(value)]
  # Loops hand results to themselves: all are needed.
  through = 'branches' in params or equation.primitive.name in _CALLS
  inner = [
    _count(program, path, used if through else None) for program in programs
  ]
  if 'branches' in params:
    found, wanted = zip(*inner, strict=True)
    needed = [True, *map(any, zip(*wanted, strict=True))]
    platforms = params.get('branches_platforms')
    if platforms is None:  # the data decides: the costlier one
      return max(found, key=lambda one: one.total()), needed
    default = _SHORTENED in path
    counted = [
      names is None or 'cpu' in names and not default for names in platforms
    ]
    return found[counted.index(True)], needed
  if through:
    return inner[0]
  total = sum((found for found, _ in inner), collections.Counter())
  if equation.primitive.name == 'scan':
    length = params['length']
    total = collections.Counter({k: v * length for k, v in total.items()})
  if equation.primitive.name == 'while' and total:
    raise ValueError(
      'products in a loop of unknown length cannot be counted: '
      f'{", ".join(path) or "outside of any stage"}; use jax.lax.scan'
    )
  return total, everything


def _programs(value) -> list[core.Jaxpr]:
  """The programs in a parameter of an equation."""
  if isinstance(value, core.ClosedJaxpr):
    return [value.jaxpr]
  if isinstance(value, core.Jaxpr):
    return [value]
  if isinstance(value, (tuple, list)):
    return [program for one in value for program in _programs(one)]
  return []


def _of_dot(equation: core.JaxprEqn) -> int:
  (contracted, _), _ = equation.params['dimension_numbers']
  shape = equation.invars[0].aval.shape
  inner = math.prod(shape[axis] for axis in contracted)
  return inner * math.prod(equation.outvars[0].aval.shape)


def _of_convolution(equation: core.JaxprEqn) -> float:
  """Positions times taps times channels in of a group.

  The gradient of a strided convolution spreads values with zeros between them.
  These zeros are not counted: with a stride of s only one tap in s meets a
  value.
  """
  params = equation.params
  _, inputs, *taps = params['dimension_numbers'].rhs_spec
  kernel = equation.invars[1].aval.shape
  each = kernel[inputs] * math.prod(kernel[axis] for axis in taps)
  positions = math.prod(equation.outvars[0].aval.shape)
  return positions * each / math.prod(params['lhs_dilation'])


def _of_multiplication(equation: core.JaxprEqn) -> int:
  return math.prod(equation.outvars[0].aval.shape)


def _of_transform(equation: core.JaxprEqn) -> int:
  """Number of transforms times n log2 n, for real and complex input alike."""
  lengths = equation.params['fft_lengths']
  batch = equation.invars[0].aval.shape[: -len(lengths)]
  return math.prod(batch) * _of_points(math.prod(lengths))


def _of_transforming_dot(equation: core.JaxprEqn, points: int) -> int:
  (contracted, _), _ = equation.params['dimension_numbers']
  shape = equation.invars[0].aval.shape
  inner = math.prod(shape[axis] for axis in contracted)
  return math.prod(shape) // inner * _of_points(points)


def _of_points(points: int) -> int:
  return round(points * math.log2(points))


_PRODUCTS = {
  'dot_general': _of_dot,
  'conv_general_dilated': _of_convolution,
  'fft': _of_transform,
}
_WRITTEN = {'mul': _of_multiplication}
