"""The name that configs/ecapa_source_tracing.py had before."""

from configs.ecapa_source_tracing import get_config

__all__ = ['get_config']
