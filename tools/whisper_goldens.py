"""Writes `tests/goldens/whisper.npz` and `.pt`: a tiny encoder of Whisper.

    git clone https://github.com/openai/whisper
    python tools/whisper_goldens.py whisper

needs PyTorch, which the project does not. Random weights and a window of one
second in place of 30, computed by the original code in float64 and stored as
float32. For each clip: `mel`, `window` (all states of the clip followed by
silence, as Whisper is run) and `clip` (all states where only the frames of the
clip are computed: the original code with its table of positions cut). The last
state is given before the final norm; `last` is behind it. `grad/...`: gradients
of `sum(last * w)` of `clip`, `w[t, d] = cos(0.3 t + 0.7 d)`.
"""

import importlib
import pathlib
import sys
import types

import numpy as np
import torch

OUT = pathlib.Path(__file__).parents[1] / 'tests' / 'goldens'
DIMS = dict(
  n_mels=80, n_audio_ctx=50, n_audio_state=16, n_audio_head=2, n_audio_layer=2,
  n_vocab=7, n_text_ctx=5, n_text_state=16, n_text_head=2, n_text_layer=1,
)  # fmt: skip
HOP, WINDOW = 160, 16_000
LENGTHS = (16_000, 9_530, 37_300)


def original(clone: str):
  """The original's modules `model` and `audio`, without what they import."""
  package = types.ModuleType('whisper')
  package.__path__ = [str(pathlib.Path(clone) / 'whisper')]
  sys.modules['whisper'] = package
  for name, members in (
    ('decoding', ('decode', 'detect_language')),
    ('transcribe', ('transcribe',)),
  ):
    stub = types.ModuleType(f'whisper.{name}')
    for member in members:
      setattr(stub, member, None)
    sys.modules[f'whisper.{name}'] = stub
  utils = types.ModuleType('whisper.utils')
  utils.exact_div = lambda x, y: x // y
  sys.modules['whisper.utils'] = utils
  return (importlib.import_module(f'whisper.{n}') for n in ('model', 'audio'))


def states(encoder, mel):
  """All states of a segment, and the last one behind the norm."""
  found, table = [], encoder.positional_embedding
  hooks = [
    block.register_forward_pre_hook(lambda _, x: found.append(x[0]))
    for block in encoder.blocks
  ]
  hooks.append(
    encoder.ln_post.register_forward_pre_hook(lambda _, x: found.append(x[0]))
  )
  frames = -(-mel.shape[-1] // 2)
  encoder.register_buffer('positional_embedding', table[:frames])
  last = encoder(mel[None])
  encoder.register_buffer('positional_embedding', table)
  for hook in hooks:
    hook.remove()
  return torch.cat(found), last[0]


def encode(encoder, mel, most):
  """States of a clip in segments of at most `most` mel frames."""
  parts = [states(encoder, part) for part in mel.split(most, -1)]
  return torch.cat([p[0] for p in parts], 1), torch.cat([p[1] for p in parts])


def main(clone: str):
  """Draws, computes and writes."""
  model_lib, audio = original(clone)
  torch.manual_seed(0)
  model = model_lib.Whisper(model_lib.ModelDimensions(**DIMS)).eval()
  with torch.no_grad():
    for parameter in model.parameters():
      parameter += 0.2 * torch.randn_like(parameter)
  # OpenAI's files hold float16, the table of positions too.
  weights = {k: v.half() for k, v in model.state_dict().items()}
  torch.save({'dims': DIMS, 'model_state_dict': weights}, OUT / 'whisper.pt')
  model.load_state_dict(weights)
  encoder = model.encoder.double()
  # LayerNorm computes in float32 there, which is less exact than ours.
  model_lib.LayerNorm.forward = torch.nn.LayerNorm.forward
  rng, found = np.random.default_rng(0), {}
  most = 2 * DIMS['n_audio_ctx']
  for i, length in enumerate(LENGTHS):
    pcm = rng.normal(0, 3000, length) * np.linspace(0.01, 1, length)
    pcm = (pcm / 100 ** (i == 1)).astype(np.int16)  # one is quiet
    found[f'{i}/pcm'] = pcm
    wave = torch.from_numpy(pcm / 32768).requires_grad_(i == 1)
    mel_filters = audio.mel_filters
    audio.mel_filters = lambda *a, f=mel_filters: f(*a).double()
    hann = torch.hann_window
    torch.hann_window = lambda n, f=hann: f(n, dtype=torch.float64)
    mel = audio.log_mel_spectrogram(wave)
    padded = audio.log_mel_spectrogram(wave, padding=-length % WINDOW)
    audio.mel_filters, torch.hann_window = mel_filters, hann
    frames = -(-(length // HOP) // 2)
    hidden, last = encode(encoder, mel, most)
    whole, whole_last = encode(encoder, padded, most)
    found |= {
      f'{i}/mel': mel.T,
      f'{i}/clip': hidden,
      f'{i}/clip_last': last,
      f'{i}/window': whole[:, :frames],
      f'{i}/window_last': whole_last[:frames],
    }
    if i == 1:
      t, d = np.ix_(*map(np.arange, last.shape))
      (last * torch.from_numpy(np.cos(0.3 * t + 0.7 * d))).sum().backward()
      found['grad_x'] = wave.grad
      for name in (
        'conv1.weight', 'conv2.bias', 'blocks.0.attn.query.weight',
        'blocks.0.attn.key.weight', 'blocks.1.attn.out.bias',
        'blocks.1.mlp.0.weight', 'blocks.1.mlp_ln.weight', 'ln_post.bias',
      ):  # fmt: skip
        found[f'grad/encoder.{name}'] = encoder.get_parameter(name).grad
  arrays = {
    k: v if isinstance(v, np.ndarray) else v.detach().numpy().astype('float32')
    for k, v in found.items()
  }
  np.savez_compressed(OUT / 'whisper.npz', **arrays)


if __name__ == '__main__':
  main(sys.argv[1])
