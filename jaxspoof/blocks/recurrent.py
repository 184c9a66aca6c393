"""Recurrent layers with PyTorch's conventions: LSTM and GRU.

What a layer does with its input is one product for all frames; the loop over
frames holds what must wait for the frame before.

Letters in names: B batch, N frames, I features in, H hidden size, G gates
times H.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from jaxspoof.blocks import layers


class Recurrent(nnx.Module):
  """The arrays of one direction of a layer, drawn as PyTorch does.

  Both biases are kept, as there: what they add up to moves twice as fast.
  """

  gates = 0

  def __init__(
    self, inputs: int, hidden: int, *, param_dtype: str, rngs: nnx.Rngs
  ):
    """Args are the sizes, the dtype of the arrays and the stream `params`."""
    init, dtype = layers.uniform_of_fan_in(hidden), jnp.dtype(param_dtype)
    width = self.gates * hidden
    self.kernel = nnx.Param(init(rngs.params(), (inputs, width), dtype))
    self.recurrent = nnx.Param(init(rngs.params(), (hidden, width), dtype))
    self.bias = nnx.Param(init(rngs.params(), (width,), dtype))
    self.recurrent_bias = nnx.Param(init(rngs.params(), (width,), dtype))
    self.hidden = hidden

  def __call__(self, x_BxNxI: jax.Array, reverse: bool = False) -> jax.Array:
    """The hidden state after each frame, `[B, N, H]`.

    Args:
      x_BxNxI: sequences, float32 or wider.
      reverse: from the last frame to the first.
    """
    dtype = x_BxNxI.dtype
    bias_G = self.bias[...].astype(dtype)
    # What depends on the input alone is one product for all frames; only what
    # depends on the state before is left for the loop.
    made_BxNxG = x_BxNxI @ self.kernel[...].astype(dtype) + bias_G[None, None]
    recurrent_HxG = self.recurrent[...].astype(dtype)
    bias_1xG = self.recurrent_bias[...].astype(dtype)[None]

    def step(carry, made_BxG):
      carry = self.step(carry, made_BxG, carry[0] @ recurrent_HxG + bias_1xG)
      return carry, carry[0]

    zeros_BxH = jnp.zeros((x_BxNxI.shape[0], self.hidden), dtype)
    _, h_NxBxH = jax.lax.scan(
      step, self.first(zeros_BxH), made_BxNxG.swapaxes(0, 1), reverse=reverse
    )
    return h_NxBxH.swapaxes(0, 1)

  def first(self, zeros_BxH: jax.Array) -> tuple[jax.Array, ...]:
    """The state before the first frame; of its parts the first is H."""
    return (zeros_BxH,)

  def step(self, carry, made_BxG, remembered_BxG) -> tuple[jax.Array, ...]:
    """The state after a frame, of the products with input and hidden state."""
    raise NotImplementedError


class Gru(Recurrent):
  """Gated recurrent unit (Cho et al. 2014, arXiv 1406.1078)."""

  gates = 3

  def step(self, carry, made_BxG, remembered_BxG):
    """See `Recurrent.step`; the gates are reset, update and new."""
    (h,) = carry
    made, remembered = (
      jnp.split(x, self.gates, 1) for x in (made_BxG, remembered_BxG)
    )
    reset, update = (
      jax.nn.sigmoid(a + b)
      for a, b in zip(made[:2], remembered[:2], strict=True)
    )
    # The reset gate acts on the product, not on the state, as in PyTorch.
    new = jnp.tanh(made[2] + reset * remembered[2])
    return (new + update * (h - new),)


class Lstm(Recurrent):
  """Long short-term memory (Hochreiter & Schmidhuber 1997), no peepholes."""

  gates = 4

  def first(self, zeros_BxH):
    """Hidden state and cell."""
    return zeros_BxH, zeros_BxH

  def step(self, carry, made_BxG, remembered_BxG):
    """See `Recurrent.step`; the gates are input, forget, cell and output."""
    _, cell = carry
    enter, forget, new, leave = jnp.split(made_BxG + remembered_BxG, 4, 1)
    cell = jax.nn.sigmoid(forget) * cell + jax.nn.sigmoid(enter) * jnp.tanh(new)
    return jax.nn.sigmoid(leave) * jnp.tanh(cell), cell


class BiLstm(nnx.Module):
  """LSTMs in both directions, side by side."""

  def __init__(self, inputs: int, outputs: int, **options):
    """`outputs` are those of both directions together, an even number."""
    self.forward = Lstm(inputs, outputs // 2, **options)
    self.backward = Lstm(inputs, outputs // 2, **options)

  def __call__(self, x_BxNxI: jax.Array) -> jax.Array:
    """Returns `[B, N, outputs]`."""
    both = self.forward(x_BxNxI), self.backward(x_BxNxI, reverse=True)
    return jnp.concatenate(both, 2)
