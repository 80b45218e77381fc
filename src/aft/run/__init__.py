"""What a run folder remembers: manifests, digests, versions."""

from .digest import digest_file, digest_value, digest_weights
from .environment import environment, git_revision, versions
from .folder import move_aside
from .manifest import MANIFEST, STARTED, UnitLog, digest_folder, is_cut, read_json, read_manifest

__all__ = [
    "MANIFEST",
    "STARTED",
    "UnitLog",
    "digest_file",
    "digest_folder",
    "digest_value",
    "digest_weights",
    "environment",
    "git_revision",
    "is_cut",
    "move_aside",
    "read_json",
    "read_manifest",
    "versions",
]
