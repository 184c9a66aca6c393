"""Writes `tests/goldens/ssl_mixed.npz`: encoders that no published one is.

Order of norms, norm of the convolutions, an odd kernel and another epsilon are
switches of their own in the original code; published models turn them together.

    python tools/ssl_goldens.py

needs PyTorch and transformers, which the project does not. Random tiny weights,
computed in float64.
"""

import json
import pathlib

import numpy as np
import torch
import transformers

OUT = pathlib.Path(__file__).parents[1] / 'tests' / 'goldens' / 'ssl_mixed.npz'
COMMON = dict(
  conv_dim=(8,) * 3,
  conv_kernel=(10, 3, 3),
  conv_stride=(5, 2, 2),
  hidden_size=16,
  num_hidden_layers=2,
  num_attention_heads=2,
  intermediate_size=20,
  num_conv_pos_embedding_groups=4,
  layer_norm_eps=1e-3,
)
MODELS = {
  'group_pre': (
    transformers.Wav2Vec2Config,
    transformers.Wav2Vec2Model,
    dict(
      feat_extract_norm='group',
      do_stable_layer_norm=True,
      num_conv_pos_embeddings=7,
    ),
  ),
  'layer_post': (
    transformers.WavLMConfig,
    transformers.WavLMModel,
    dict(
      feat_extract_norm='layer',
      do_stable_layer_norm=False,
      num_conv_pos_embeddings=8,
      conv_bias=True,
      num_buckets=16,
      max_bucket_distance=30,
    ),
  ),
}


def main():
  """Draws, computes and writes."""
  found = {}
  for name, (config_kind, model_kind, fields) in MODELS.items():
    torch.manual_seed(0)
    config = config_kind(**COMMON, **fields)
    model = model_kind(config).eval()
    with torch.no_grad():
      for parameter in model.parameters():
        parameter += 0.1 * torch.randn_like(parameter)
    pcm = np.random.default_rng(0).integers(-9000, 9000, (2, 900), np.int16)
    pcm[1] //= 30  # a quiet clip shows an epsilon
    tensors = {k: v.numpy().copy() for k, v in model.state_dict().items()}
    model.double()
    with torch.inference_mode():
      wave = torch.from_numpy(pcm / 32768)
      made = model(wave, output_hidden_states=True)
    found |= {f'{name}/tensors/{k}': v for k, v in tensors.items()}
    found[f'{name}/config'] = json.dumps(config.to_dict())
    found[f'{name}/pcm'] = pcm
    hidden = torch.stack(made.hidden_states)
    found[f'{name}/hidden'] = hidden.numpy().astype(np.float32)
    last = made.last_hidden_state
    found[f'{name}/last'] = last.numpy().astype(np.float32)
  np.savez_compressed(OUT, **found)


if __name__ == '__main__':
  main()
