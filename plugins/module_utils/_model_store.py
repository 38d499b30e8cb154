# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Models on a host: what is still missing, and how it gets into its place whole.

Files arrive one by one in a staging directory beside the final one. Once all are there and have the right sums, a
manifest is written and the directory renamed, so that the final path holds the whole model or nothing. A model that
was verified once is judged by its manifest, without reading its weights again. A file that was damaged in place is
replaced alone, by a rename of its own: a running engine keeps the pages that it has mapped.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from ansible_collections.gpufleet.serving.plugins.module_utils._content import (
    MANIFEST,
    ContentError,
    Damage,
    FileRecord,
    Manifest,
    content_id,
    git_sha1_of,
    read_manifest,
    sha256_of,
    sync_directory,
    sync_file,
    write_manifest,
)

CONTROLLER, HUB = "controller", "hub"
COMMIT = "git:"
"""Begins the content id of a model from the hub; its commit follows."""

STAGING_SUFFIX = ".partial"
HASH_THREADS = 4
"""Sums are computed side by side: hashlib releases the interpreter's lock, and one core is slower than an NVMe disk."""


@dataclass(frozen=True)
class WantedModel:
    """A model that should lie at `path` with this content. source: its directory on the controller, or its name on the
    hub. files: None until somebody has read the source."""

    name: str
    path: str
    content_id: str
    source: str
    files: tuple[FileRecord, ...] | None = None
    source_kind: str = CONTROLLER

    @property
    def staging(self) -> str:
        return self.path + STAGING_SUFFIX


@dataclass(frozen=True)
class ModelState:
    """How far a model is. damages: files in place that are not as verified. missing: files that are neither in place
    nor staged; empty while the model's files are not known."""

    model: WantedModel
    complete: bool
    damages: tuple[Damage, ...]
    missing: tuple[FileRecord, ...]

    @property
    def missing_bytes(self) -> int:
        return sum(file.size for file in self.missing)

    def transfers(self) -> list[dict]:
        """Return what to copy from the controller, as {src there, dest on the host, size in bytes}."""
        if self.model.source_kind != CONTROLLER:
            return []
        return [
            {
                "src": os.path.join(self.model.source, file.path),
                "dest": os.path.join(self.model.staging, file.path),
                "size": file.size,
            }
            for file in self.missing
        ]

    def directories(self) -> list[str]:
        """Return the directories that the transfers need, parents first."""
        return sorted({os.path.dirname(transfer["dest"]) for transfer in self.transfers()})

    def download(self) -> dict | None:
        """Return what to fetch from the hub, as {name, repository, commit, directory on the host, files}."""
        if self.model.source_kind != HUB or not self.missing:
            return None
        return {
            "name": self.model.name,
            "repository": self.model.source,
            "commit": self.model.content_id[len(COMMIT) :],
            "directory": self.model.staging,
            "files": [{"path": file.path, "size": file.size} for file in self.missing],
        }


def inspect(model: WantedModel) -> ModelState:
    """Return how far a model is, from sizes and times alone; nothing is hashed or changed."""
    manifest = _manifest(model)
    damages = tuple(manifest.damages(model.path)) if manifest else ()
    if manifest and not damages:
        return ModelState(model, True, (), ())
    missing = tuple(
        file for file in model.files or () if not (_in_place(model, manifest, file) or _staged(model, file))
    )
    return ModelState(model, False, damages, missing)


def publish(model: WantedModel) -> int:
    """Verify every file that no manifest vouches for, put the model into its place, and return how many were hashed.

    Raises ContentError where files are missing, or where one has another sum than it should; that one is removed, so
    that the next run copies it again.
    """
    if inspect(model).complete:
        return 0
    files = _arrived_files(model)
    manifest = _manifest(model)
    unverified = {
        file: os.path.join(model.staging if _staged(model, file) else model.path, file.path)
        for file in files
        if _staged(model, file) or not (manifest and manifest.trusts(model.path, file.path))
    }
    sums = _verify(unverified)
    known = [replace(file, sha256=sums.get(file) or _trusted_sum(manifest, file)) for file in files]
    for path in unverified.values():
        sync_file(path)
    if os.path.isdir(model.path):
        _replace_files(model, known)
    else:
        _sweep(model.staging, {file.path for file in files})
        write_manifest(model.staging, known, model.content_id)
        os.rename(model.staging, model.path)
    sync_directory(os.path.dirname(model.path))
    return len(unverified)


def available_bytes(path: str) -> int:
    """Return the bytes that an ordinary process may still write to the filesystem of `path`, existing or not."""
    status = os.statvfs(existing_ancestor(path))
    return status.f_bavail * status.f_frsize


def existing_ancestor(path: str) -> str:
    """Return `path`, or the nearest directory above it that exists."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path


def space(states: Iterable[ModelState], transit: str, margin_bytes: int) -> list[dict]:
    """Return, a filesystem each, {path, needed_bytes, available_bytes} for all that is missing.

    `margin_bytes` stay free beside the models. `transit` is the directory through which single files travel: where it
    lies on another filesystem, that one needs room for the largest of them.
    """
    needs: dict[int, dict] = {}
    largest = 0
    for state in states:
        if state.missing:
            need = _need(needs, state.model.path, margin_bytes)
            need["needed_bytes"] += state.missing_bytes
            largest = max(largest, *(file.size for file in state.missing))
    if needs and os.stat(existing_ancestor(transit)).st_dev not in needs:
        _need(needs, transit, largest)
    return sorted(needs.values(), key=lambda need: need["path"])


def _need(needs: dict[int, dict], path: str, initial_bytes: int) -> dict:
    directory = existing_ancestor(path)
    fresh = {"path": directory, "needed_bytes": initial_bytes, "available_bytes": available_bytes(directory)}
    return needs.setdefault(os.stat(directory).st_dev, fresh)


def _manifest(model: WantedModel) -> Manifest | None:
    manifest = read_manifest(model.path)
    return manifest if manifest and manifest.content_id == model.content_id else None


def _in_place(model: WantedModel, manifest: Manifest | None, file: FileRecord) -> bool:
    if manifest:
        return manifest.trusts(model.path, file.path)
    return _has_size(os.path.join(model.path, file.path), file.size)


def _staged(model: WantedModel, file: FileRecord) -> bool:
    return _has_size(os.path.join(model.staging, file.path), file.size)


def _has_size(path: str, size: int) -> bool:
    return os.path.isfile(path) and os.path.getsize(path) == size


def _arrived_files(model: WantedModel) -> tuple[FileRecord, ...]:
    """Return the model's files. Raises ContentError where they are not known, or not all there."""
    if not model.files or not (model.content_id.startswith(COMMIT) or content_id(model.files) == model.content_id):
        raise ContentError(
            f"model {model.name}: the files of {model.content_id} are needed, not those of another content"
        )
    missing = inspect(model).missing
    if missing:
        raise ContentError(
            f"model {model.name}: {len(missing)} of {len(model.files)} files have not arrived in {model.staging}, "
            f"{missing[0].path} first: copy them there"
        )
    return model.files


def _trusted_sum(manifest: Manifest | None, file: FileRecord) -> str | None:
    return manifest.files[file.path][2] if manifest else None


def _verify(paths: dict[FileRecord, str]) -> dict[FileRecord, str]:
    """Return the sha256 of each file. Raises ContentError where one differs from its source; such files are removed."""
    with ThreadPoolExecutor(HASH_THREADS) as pool:
        sums = dict(zip(paths, pool.map(sha256_of, paths.values())))
    wrong = []
    for file, path in paths.items():
        kind, seen, expected = ("sha256", sums[file], file.sha256)
        if expected is None:
            kind, seen, expected = ("git sha1", git_sha1_of(path), file.git_sha1)
        if seen != expected:
            os.unlink(path)
            wrong.append(f"{path}: arrived with {kind} {seen}, its source has {expected}")
    if wrong:
        more = f" (and {len(wrong) - 1} more files)" if len(wrong) > 1 else ""
        raise ContentError(f"{wrong[0]}{more}: removed, run again to copy it again")
    return sums


def _replace_files(model: WantedModel, files: list[FileRecord]) -> None:
    """Move what is staged over what is in place, one rename a file, and vouch for the whole again."""
    for file in files:
        if _staged(model, file):
            target = os.path.join(model.path, file.path)
            os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
            os.replace(os.path.join(model.staging, file.path), target)
    write_manifest(model.path, files, model.content_id)
    shutil.rmtree(model.staging, ignore_errors=True)


def _sweep(directory: str, keep: set[str]) -> None:
    """Remove what an interrupted copy left in the staging directory."""
    for parent, _folders, names in os.walk(directory, topdown=False):
        for name in names:
            path = os.path.join(parent, name)
            if os.path.relpath(path, directory) not in keep | {MANIFEST}:
                os.unlink(path)
        if parent != directory and not os.listdir(parent):
            os.rmdir(parent)


MADE_HERE = 12
"""Hex digits of the content id that name a model's directory."""


def prunable(root: str, keep: Iterable[str], revisions: int = 0) -> list[str]:
    """Return the directories under `root` that this store made and nobody keeps, sorted, but the newest of each model.

    Those are <root>/<model>/<12 hex digits>, with or without the staging suffix, and never one that is, holds or lies
    in a path of `keep`. Links are not followed. `revisions`: how many whole ones of each model stay besides, the last.
    """
    kept = [os.path.normpath(path) for path in keep]
    found = []
    for model in _directories(root):
        free = [path for path in _directories(model) if _made_here(path) and not any(_related(path, k) for k in kept)]
        whole = [path for path in free if not path.endswith(STAGING_SUFFIX)]
        newest = sorted(whole, key=lambda path: (os.stat(path).st_mtime_ns, path), reverse=True)[:revisions]
        found += [path for path in free if path not in newest]
    return sorted(found)


def prune(root: str, paths: Iterable[str]) -> None:
    """Remove directories that `prunable` named, and the directories of models that are empty thereafter."""
    for path in paths:
        shutil.rmtree(path)
        parent = os.path.dirname(path)
        if parent != os.path.normpath(root) and not os.listdir(parent):
            os.rmdir(parent)


def _directories(path: str) -> list[str]:
    if not os.path.isdir(path):
        return []
    return [entry.path for entry in os.scandir(path) if entry.is_dir(follow_symlinks=False)]


def _made_here(path: str) -> bool:
    name = os.path.basename(path)
    digits = name.removesuffix(STAGING_SUFFIX)
    return len(digits) == MADE_HERE and all(digit in "0123456789abcdef" for digit in digits)


def _related(path: str, other: str) -> bool:
    return os.path.commonpath([path, other]) in (path, other)
