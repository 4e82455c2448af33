"""YAML -> Config: what a person may set, checked, with a place for every complaint.

Must not know the environment, the current directory, or which files count: the command line says.
Importing this imports neither yaml nor pydantic; they are fetched when there is something to check.
"""

from __future__ import annotations

from moderator.config.loading import config_from_mapping, load_config
from moderator.config.settings import BackendRoutingConfig, Config, ParallelConfig

__all__ = ["BackendRoutingConfig", "Config", "ParallelConfig", "config_from_mapping", "load_config"]
