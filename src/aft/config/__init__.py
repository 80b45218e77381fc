"""Configuration: one frozen dataclass per section (`schema`), read from YAML and the command line (`load`)."""

from .load import align_config, idle_overrides, load_config, merge, to_yaml
from .schema import Config

__all__ = ["Config", "align_config", "idle_overrides", "load_config", "merge", "to_yaml"]
