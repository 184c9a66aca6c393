"""A pickle machine that builds plain containers and tensors, nothing else.

No global is imported, no class instantiated, no attribute set: names of
globals stay names (`Global`), and the few calls that PyTorch checkpoints make
are recognised by name and answered here. Everything else is an error that
names it.
"""

import pickletools
import reprlib
from collections.abc import Callable
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np


class CheckpointError(ValueError):
  """A file that is not a readable, harmless checkpoint."""


class Global(NamedTuple):
  """The name of something that a pickle refers to; it is never imported."""

  module: str
  name: str

  def __str__(self):
    return f'{self.module}.{self.name}'


class _Bytes(NamedTuple):
  """A storage whose dtype the tensor names."""

  key: str
  count: int


_STORAGES = {
  'DoubleStorage': np.float64,
  'FloatStorage': np.float32,
  'HalfStorage': np.float16,
  'BFloat16Storage': ml_dtypes.bfloat16,
  'LongStorage': np.int64,
  'IntStorage': np.int32,
  'ShortStorage': np.int16,
  'CharStorage': np.int8,
  'ByteStorage': np.uint8,
  'BoolStorage': np.bool_,
  'ComplexFloatStorage': np.complex64,
  'ComplexDoubleStorage': np.complex128,
}
_DTYPES = {
  'float64': np.float64,
  'float32': np.float32,
  'float16': np.float16,
  'bfloat16': ml_dtypes.bfloat16,
  'float8_e4m3fn': ml_dtypes.float8_e4m3fn,
  'float8_e5m2': ml_dtypes.float8_e5m2,
  'int64': np.int64,
  'int32': np.int32,
  'int16': np.int16,
  'int8': np.int8,
  'uint64': np.uint64,
  'uint32': np.uint32,
  'uint16': np.uint16,
  'uint8': np.uint8,
  'bool': np.bool_,
  'complex64': np.complex64,
  'complex128': np.complex128,
}
_CONSTANTS = {'NONE': None, 'NEWTRUE': True, 'NEWFALSE': False}
_EMPTY = {'EMPTY_DICT': dict, 'EMPTY_LIST': list, 'EMPTY_TUPLE': tuple}
_VALUES = frozenset(
  'INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT UNICODE '
  'BINUNICODE SHORT_BINUNICODE BINUNICODE8 SHORT_BINBYTES BINBYTES '
  'BINBYTES8'.split()
)
_IGNORED = frozenset(('PROTO', 'FRAME'))
_TUPLES = {'TUPLE1': 1, 'TUPLE2': 2, 'TUPLE3': 3}
_KEYS = (str, int, float, bool, type(None))
_MARK = object()


class Machine:
  """Interprets the opcodes of one pickle."""

  def __init__(
    self,
    name: str,
    tensor: Callable[[np.ndarray, int, tuple, tuple], np.ndarray],
    storage: Callable[[np.dtype, str, int], np.ndarray],
  ):
    """Prepares a run.

    Args:
      name: the file, for error messages.
      tensor: makes an array of (storage, offset, shape, strides).
      storage: makes a flat array of (dtype, record key, number of values).
    """
    self.name, self.tensor, self.storage = name, tensor, storage
    self.stack: list[Any] = []
    self.memo: dict[int, Any] = {}

  def error(self, text: str) -> CheckpointError:
    """An error that names the file."""
    return CheckpointError(f'{self.name}: {text}')

  def run(self, pickle: bytes) -> Any:
    """Returns what the pickle describes."""
    try:
      for opcode, arg, _ in pickletools.genops(pickle):
        if opcode.name == 'STOP':
          return self._result()
        self._step(opcode.name, arg)
    except CheckpointError:
      raise
    except (ValueError, TypeError, KeyError, IndexError) as error:
      raise self.error(f'damaged pickle ({error!r})') from error
    raise self.error('damaged pickle (it does not stop)')

  def _result(self) -> Any:
    if len(self.stack) != 1 or isinstance(self.stack[0], Global):
      raise self.error('damaged pickle (it does not end in one value)')
    return self.stack[0]

  def _step(self, name: str, arg: Any):
    if name in _IGNORED:
      return
    if name in _VALUES:
      self.stack.append(arg)
    elif name in _CONSTANTS:
      self.stack.append(_CONSTANTS[name])
    elif name in _EMPTY:
      self.stack.append(_EMPTY[name]())
    elif name in _TUPLES:
      self._collect(_TUPLES[name])
    elif handler := getattr(self, f'_op_{name.lower()}', None):
      handler(arg)
    else:
      raise self.error(
        f'the pickle uses opcode {name} ({reprlib.repr(arg)}), which no '
        'checkpoint of tensors needs; refused, nothing was executed'
      )

  def _collect(self, count: int):
    if len(self.stack) < count:
      raise self.error('damaged pickle (empty stack)')
    items = tuple(self.stack[-count:])
    if any(item is _MARK for item in items):
      raise self.error('damaged pickle (mark inside a tuple)')
    self.stack[-count:] = [items]

  def _pop(self) -> Any:
    value = self.stack.pop()
    if value is _MARK:
      raise self.error('damaged pickle (mark in place of a value)')
    return value

  def _pop_to_mark(self) -> list[Any]:
    for i in range(len(self.stack) - 1, -1, -1):
      if self.stack[i] is _MARK:
        items = self.stack[i + 1 :]
        del self.stack[i:]
        return items
    raise self.error('damaged pickle (no mark)')

  def _top(self, kind: type) -> Any:
    if not self.stack or type(self.stack[-1]) is not kind:
      raise self.error(f'damaged pickle (expected a {kind.__name__})')
    return self.stack[-1]

  # -- containers ------------------------------------------------------------

  def _op_mark(self, _):
    self.stack.append(_MARK)

  def _op_tuple(self, _):
    self.stack.append(tuple(self._pop_to_mark()))

  def _op_list(self, _):
    self.stack.append(self._pop_to_mark())

  def _op_dict(self, _):
    made = {}
    self._set_all(made, self._pop_to_mark())
    self.stack.append(made)

  def _op_append(self, _):
    value = self._pop()
    self._top(list).append(value)

  def _op_appends(self, _):
    items = self._pop_to_mark()
    self._top(list).extend(items)

  def _op_setitem(self, _):
    value, key = self._pop(), self._pop()
    self._set(self._top(dict), key, value)

  def _op_setitems(self, _):
    items = self._pop_to_mark()
    self._set_all(self._top(dict), items)

  def _set_all(self, target: dict, items: list[Any]):
    for key, value in zip(items[::2], items[1::2], strict=True):
      self._set(target, key, value)

  def _set(self, target: dict, key: Any, value: Any):
    # Nested tuples as keys could take for ever to hash.
    if type(key) not in _KEYS:
      raise self.error(f'a {type(key).__name__} as dictionary key; refused')
    target[key] = value

  # -- stack and memo --------------------------------------------------------

  def _op_pop(self, _):
    self.stack.pop()

  def _op_pop_mark(self, _):
    self._pop_to_mark()

  def _op_memoize(self, _):
    self.memo[len(self.memo)] = self._peek()

  def _op_put(self, arg: int):
    self.memo[int(arg)] = self._peek()

  _op_binput = _op_long_binput = _op_put

  def _op_get(self, arg: int):
    self.stack.append(self.memo[int(arg)])

  _op_binget = _op_long_binget = _op_get

  def _peek(self) -> Any:
    if self.stack[-1] is _MARK:
      raise self.error('damaged pickle (mark in the memo)')
    return self.stack[-1]

  # -- names and calls -------------------------------------------------------

  def _op_global(self, arg: str):
    module, _, name = arg.partition(' ')
    self._push_global(module, name)

  def _op_stack_global(self, _):
    name, module = self._pop(), self._pop()
    self._push_global(module, name)

  def _push_global(self, module: Any, name: Any):
    found = Global(str(module), str(name))
    if not (_known_call(found) or _dtype(found) or found == _UNTYPED):
      raise self.error(
        f'the pickle asks for {found}, which is not a part of a tensor; '
        'refused, nothing was executed (a checkpoint should hold a '
        'state_dict(), not a whole module)'
      )
    self.stack.append(found)

  def _op_reduce(self, _):
    args, called = self._pop(), self._pop()
    if not isinstance(called, Global) or not _known_call(called):
      raise self.error(f'the pickle calls {reprlib.repr(called)}; refused')
    if type(args) is not tuple:
      raise self.error(f'{called} called with a {type(args).__name__}')
    self.stack.append(getattr(self, _CALLS[called])(*args))

  def _op_build(self, _):
    # PyTorch hangs version metadata on state dictionaries; nothing needs it.
    self._pop()
    self._top(dict)

  def _op_binpersid(self, _):
    identity = self._pop()
    if type(identity) is not tuple or identity[:1] != ('storage',):
      raise self.error(
        f'unknown persistent id {reprlib.repr(identity)}; refused'
      )
    _, kind, key, _, count = identity
    if type(key) is not str or type(count) is not int:
      raise self.error(f'unknown storage {reprlib.repr(identity)}; refused')
    if kind == _UNTYPED:
      self.stack.append(_Bytes(key, count))
    elif dtype := _dtype(kind):
      self.stack.append(self.storage(dtype, key, count))
    else:
      raise self.error(f'unknown storage {reprlib.repr(identity)}; refused')

  def _ordered_dict(self, items: list = ()) -> dict:
    made = {}
    for key, value in items:
      self._set(made, key, value)
    return made

  def _size(self, sizes: tuple = ()) -> tuple:
    return tuple(sizes)

  def _parameter(self, data, *_) -> np.ndarray:
    return self._array(data)

  def _tensor(self, storage, offset, shape, strides, *_) -> np.ndarray:
    return self.tensor(self._array(storage), offset, shape, strides)

  def _typed_tensor(
    self, storage, offset, shape, strides, _grad, _hooks, name, *_
  ) -> np.ndarray:
    dtype = _dtype(name)
    if dtype is None or not isinstance(storage, _Bytes):
      raise self.error(f'unknown tensor dtype {reprlib.repr(name)}')
    flat = self.storage(dtype, storage.key, storage.count // dtype.itemsize)
    return self.tensor(flat, offset, shape, strides)

  def _array(self, value: Any) -> np.ndarray:
    if not isinstance(value, np.ndarray):
      raise self.error(f'a {type(value).__name__} in place of a tensor')
    return value


_UNTYPED = Global('torch.storage', 'UntypedStorage')
_CALLS = {
  Global('collections', 'OrderedDict'): '_ordered_dict',
  Global('torch', 'Size'): '_size',
  Global('torch._utils', '_rebuild_tensor'): '_tensor',
  Global('torch._utils', '_rebuild_tensor_v2'): '_tensor',
  Global('torch._utils', '_rebuild_tensor_v3'): '_typed_tensor',
  Global('torch._utils', '_rebuild_parameter'): '_parameter',
}


def _known_call(name: Global) -> bool:
  return name in _CALLS


def _dtype(name: Any) -> np.dtype | None:
  """The dtype of a storage class or of a torch dtype."""
  if not isinstance(name, Global) or name.module != 'torch':
    return None
  found = _STORAGES.get(name.name) or _DTYPES.get(name.name)
  return None if found is None else np.dtype(found)
