"""A run's folder: its layout, manifests, digests and versions."""

from .digest import changed_keys, digest_file, digest_value, digest_weights
from .environment import PACKAGES, environment, git_revision, peak_memory_bytes, versions
from .folder import MANIFEST, STAGES, STARTED, RunFolder, Unit
from .manifest import UnitLog, digest_checkpoint, digest_folder, is_cut, read_manifest

__all__ = [
    "MANIFEST",
    "PACKAGES",
    "STAGES",
    "STARTED",
    "RunFolder",
    "Unit",
    "UnitLog",
    "changed_keys",
    "digest_checkpoint",
    "digest_file",
    "digest_folder",
    "digest_value",
    "digest_weights",
    "environment",
    "git_revision",
    "is_cut",
    "peak_memory_bytes",
    "read_manifest",
    "versions",
]
