"""An unpickler that imports no name and runs nothing that a file brings.

Python's unpickler imports and calls whatever a pickle names. This one is
Python's own in Python code, without the instructions that no checkpoint needs
and with others in the place of those that import, call or set attributes: a
name stays a name, the few calls that tensors are made by are answered here, and
what any other call would have made is an `Opaque`, which holds what the file
says of it and does nothing.

The C implementation will not do: it makes its memo as long as a file asks for.
"""

import math
import pickle
import pickletools
import reprlib
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import ml_dtypes  # noqa: F401 (makes its types known to numpy)
import numpy as np

_LARGEST = 2**40  # of a size or stride
_MOST_AXES = 64


class CheckpointError(ValueError):
  """A file that is not a readable, harmless checkpoint."""


class Global(NamedTuple):
  """The name of something that a pickle refers to; it is never imported."""

  module: str
  name: str

  def __repr__(self):
    return f'{self.module}.{self.name}'


class Opaque:
  """Stands for an object of another program; nothing of that was run.

  Attributes:
    name: of its class, or of the function that would have made it.
    state: what the pickle would have set its attributes to; None: nothing.
  """

  def __init__(self, name: str):
    self.name, self.state = name, None

  def __repr__(self):
    return self.name

  def append(self, item):
    """What the object holds is left out."""

  def extend(self, items):
    """What the object holds is left out."""


class _Bytes(NamedTuple):
  """A storage whose dtype the tensor names."""

  key: str
  count: int


# What numpy calls the values of a storage, by the beginning of its class.
_STORAGES = dict(
  Double='float64',
  Float='float32',
  Half='float16',
  BFloat16='bfloat16',
  Long='int64',
  Int='int32',
  Short='int16',
  Char='int8',
  Byte='uint8',
  Bool='bool',
  ComplexFloat='complex64',
  ComplexDouble='complex128',
)
_NEWER = ('uint16', 'uint32', 'uint64', 'float8_e4m3fn', 'float8_e5m2')
_DTYPES = (*_STORAGES.values(), *_NEWER)
_UNTYPED = Global('torch.storage', 'UntypedStorage')
_KEYS = (str, int, float, bool, type(None))
# Instructions that are Python's; those that could do harm are replaced below,
# and all others are refused.
_KEPT = (
  'MARK STOP POP POP_MARK NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG'
  ' LONG1 LONG4 FLOAT BINFLOAT UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8'
  ' SHORT_BINBYTES BINBYTES BINBYTES8 EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3'
  ' EMPTY_LIST LIST APPEND APPENDS EMPTY_DICT GET BINGET LONG_BINGET PUT BINPUT'
  ' LONG_BINPUT MEMOIZE GLOBAL STACK_GLOBAL BINPERSID PROTO FRAME'
)
_NAMES = {ord(op.code): op.name for op in pickletools.opcodes}
_CODES = {name: code for code, name in _NAMES.items()}
_DAMAGE = (
  ArithmeticError,
  AttributeError,
  EOFError,
  LookupError,
  TypeError,
  ValueError,
  pickle.UnpicklingError,
  struct.error,
)


class _Instructions(dict):
  """What does each instruction, by its code."""

  def __missing__(self, code: int):
    raise CheckpointError(
      f'the pickle uses opcode {_NAMES.get(code, code)}, which no checkpoint '
      'of tensors needs; refused, nothing was executed'
    )


class Unpickler(pickle._Unpickler):
  """Reads one pickle from a stream.

  Args:
    stream: with `read` and `readline` that allocate no more than there is.
    storage: makes a flat array of (dtype, key, number of values).
  """

  dispatch = _Instructions(
    {_CODES[n]: pickle._Unpickler.dispatch[_CODES[n]] for n in _KEPT.split()}
  )

  def __init__(
    self, stream, storage: Callable[[np.dtype, str, int], np.ndarray] | None
  ):
    super().__init__(stream)
    self._storage = storage

  def load(self) -> Any:
    """What the pickle describes: plain containers, arrays and `Opaque`s.

    Raises:
      CheckpointError: damaged, or it asks for what no checkpoint needs.
    """
    try:
      return super().load()
    except CheckpointError:
      raise
    except _DAMAGE as error:
      raise CheckpointError(f'damaged pickle ({error!r})') from error

  def find_class(self, module: str, name: str) -> Global:
    """Imports nothing."""
    return Global(module, name)

  def persistent_load(self, identity: Any) -> np.ndarray | _Bytes:
    """A storage of the checkpoint."""
    if type(identity) is not tuple or identity[:1] != ('storage',):
      raise CheckpointError(
        f'unknown persistent id {reprlib.repr(identity)}; refused'
      )
    _, kind, key, _, count, *view = identity
    dtype = _dtype(kind)
    if (
      type(key) is not str
      or type(count) is not int
      or any(part is not None for part in view)
      or not (dtype or kind == _UNTYPED)
      or self._storage is None
    ):
      raise CheckpointError(
        f'unknown storage {reprlib.repr(identity)}; refused'
      )
    return self._storage(dtype, key, count) if dtype else _Bytes(key, count)

  # ------------------------------------------- in the place of Python's ---
  def _setitems(self):
    items, target = self.pop_mark(), self.stack[-1]
    for key, value in zip(items[::2], items[1::2], strict=True):
      _set(target, key, value)

  def _setitem(self):
    value, key = self.stack.pop(), self.stack.pop()
    _set(self.stack[-1], key, value)

  def _set_as_list(self):
    # Its members may take for ever to hash.
    self.append([])

  def _frozen_set_as_list(self):
    self.append(self.pop_mark())

  def _reduce(self):
    arguments, called = self.stack.pop(), self.stack[-1]
    if not isinstance(called, Global):
      raise CheckpointError(f'the pickle calls {_shown(called)}; refused')
    if type(arguments) is not tuple:
      kind = type(arguments).__name__
      raise CheckpointError(f'{called} called with a {kind}')
    call = _CALLS.get(called)
    made = call(self, *arguments) if call else Opaque(repr(called))
    self.stack[-1] = made

  def _new(self):
    arguments, kind = self.stack.pop(), self.stack[-1]
    if type(arguments) is not tuple or not isinstance(kind, Global):
      raise CheckpointError(f'the pickle makes a {_shown(kind)}; refused')
    self.stack[-1] = Opaque(repr(kind))

  def _new_with_names(self):
    self.stack.pop()
    self._new()

  def _build(self):
    state, target = self.stack.pop(), self.stack[-1]
    if isinstance(target, Opaque):
      target.state = state
    elif type(target) is not dict:
      # PyTorch hangs version metadata on state dictionaries; nothing needs it.
      raise CheckpointError(
        f'the pickle changes {_shown(target)}, expected a dict; refused'
      )

  dispatch |= {
    _CODES['SETITEMS']: _setitems,
    _CODES['SETITEM']: _setitem,
    _CODES['EMPTY_SET']: _set_as_list,
    _CODES['ADDITEMS']: pickle._Unpickler.load_appends,
    _CODES['FROZENSET']: _frozen_set_as_list,
    _CODES['REDUCE']: _reduce,
    _CODES['NEWOBJ']: _new,
    _CODES['NEWOBJ_EX']: _new_with_names,
    _CODES['BUILD']: _build,
  }

  # --------------------------------------------- calls that are answered ---
  def _ordered_dict(self, items: list = ()) -> dict:
    made = {}
    for key, value in items:
      _set(made, key, value)
    return made

  def _size(self, sizes: tuple = ()) -> tuple:
    return tuple(sizes)

  def _parameter(self, data, *_) -> np.ndarray:
    return _array(data)

  def _tensor(self, storage, offset, shape, strides, *_) -> np.ndarray:
    return strided(_array(storage), offset, shape, strides)

  def _typed_tensor(
    self, storage, offset, shape, strides, _grad, _hooks, name, *_
  ) -> np.ndarray:
    dtype = _dtype(name)
    if dtype is None or not isinstance(storage, _Bytes):
      raise CheckpointError(f'unknown tensor dtype {reprlib.repr(name)}')
    flat = self._storage(dtype, storage.key, storage.count // dtype.itemsize)
    return strided(flat, offset, shape, strides)


_CALLS = {
  Global('collections', 'OrderedDict'): Unpickler._ordered_dict,
  Global('torch', 'Size'): Unpickler._size,
  Global('torch._utils', '_rebuild_tensor'): Unpickler._tensor,
  Global('torch._utils', '_rebuild_tensor_v2'): Unpickler._tensor,
  Global('torch._utils', '_rebuild_tensor_v3'): Unpickler._typed_tensor,
  Global('torch._utils', '_rebuild_parameter'): Unpickler._parameter,
}


def opaque_in(value: Any) -> Opaque | Global | None:
  """The first thing in nested containers that is neither plain nor an array."""
  ahead, seen = [value], set()
  while ahead:
    value = ahead.pop()
    if isinstance(value, (Opaque, Global)):
      return value
    # A container may hold itself, and be held many times.
    if isinstance(value, (dict, list, tuple)) and id(value) not in seen:
      seen.add(id(value))
      ahead += value.values() if isinstance(value, dict) else value
  return None


def settings(value: Any) -> dict[str, Any]:
  """Settings by name, whatever class held them; {} of anything else.

  The attributes of an `argparse.Namespace`, or what OmegaConf keeps in its
  nodes. Sections within are left as they are: call it again for these, as a
  file may nest them without end.
  """
  if isinstance(value, Opaque):
    state = value.state if isinstance(value.state, dict) else {}
    inside = state if value.name == 'argparse.Namespace' else None
    value = inside or state.get('_content')
  if not isinstance(value, dict):
    return {}
  return {key: _node(one) for key, one in value.items()}


def _node(value: Any) -> Any:
  """The value that one of OmegaConf's nodes holds."""
  if isinstance(value, Opaque) and isinstance(value.state, dict):
    return value.state.get('_val', value)
  return value


def strided(
  storage: np.ndarray, offset: int, shape: tuple, strides: tuple
) -> np.ndarray:
  """A view of a storage that cannot be written to, inside its bounds.

  Raises:
    CheckpointError: it would reach beyond them, or is none.
  """
  if type(shape) is not tuple or type(strides) is not tuple:
    raise CheckpointError('tensor without shape or strides')
  numbers = (offset, *shape, *strides)
  if (
    len(shape) != len(strides)
    or len(shape) > _MOST_AXES
    or not all(type(v) is int and 0 <= v < _LARGEST for v in numbers)
  ):
    raise CheckpointError(
      f'tensor with offset {reprlib.repr(offset)}, shape '
      f'{reprlib.repr(shape)}, strides {reprlib.repr(strides)}'
    )
  last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
  if math.prod(shape) and last >= storage.size:
    raise CheckpointError(
      f'tensor of shape {shape} reaches beyond its storage of '
      f'{storage.size} values'
    )
  if not math.prod(shape):
    return np.empty(shape, storage.dtype)
  size = storage.itemsize
  view = np.ndarray(
    shape, storage.dtype, storage, offset * size, [s * size for s in strides]
  )
  view.flags.writeable = False
  return view


def _set(target: Any, key: Any, value: Any):
  if isinstance(target, Opaque):
    return
  if type(target) is not dict:
    raise CheckpointError(
      f'damaged pickle (expected a dict, not a {type(target).__name__})'
    )
  # Nested tuples as keys could take for ever to hash.
  if type(key) not in _KEYS:
    raise CheckpointError(f'a {type(key).__name__} as dictionary key; refused')
  target[key] = value


def _array(value: Any) -> np.ndarray:
  if not isinstance(value, np.ndarray):
    raise CheckpointError(f'{_shown(value)} in place of a tensor')
  return value


def _dtype(name: Any) -> np.dtype | None:
  """The dtype of a storage class or of a torch dtype."""
  if not isinstance(name, Global) or name.module != 'torch':
    return None
  found = _STORAGES.get(name.name.removesuffix('Storage'), name.name)
  return np.dtype(found) if found in _DTYPES else None


def _shown(value: Any) -> str:
  """A value in a message: short, however much it holds."""
  named = isinstance(value, (Global, Opaque))
  return repr(value) if named else reprlib.repr(value)
