"""A run's folder: its layout, manifests, digests and versions."""

from .digest import digest_file, digest_value, digest_weights
from .environment import environment, git_revision, versions
from .folder import MANIFEST, STAGES, STARTED, RunFolder, Unit
from .manifest import UnitLog, digest_checkpoint, digest_folder, is_cut, read_manifest

__all__ = [
    "MANIFEST",
    "STAGES",
    "STARTED",
    "RunFolder",
    "Unit",
    "UnitLog",
    "digest_checkpoint",
    "digest_file",
    "digest_folder",
    "digest_value",
    "digest_weights",
    "environment",
    "git_revision",
    "is_cut",
    "read_manifest",
    "versions",
]
