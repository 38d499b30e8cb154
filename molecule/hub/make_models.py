# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the repositories of the scenario's hub into a new directory."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from ansible_collections.gpufleet.serving.tests.unit.checkpoints import TENSORS, write_checkpoint, write_safetensors

VOCABULARY = 800_000
"""Rows of the large model's two embeddings: 25.6 MB each, where the client writes its first bytes after 10 MiB."""


def main(directory: Path) -> None:
    """Write the repositories anew."""
    shutil.rmtree(directory, ignore_errors=True)
    for name in ("org/tiny", "org/second"):
        write_checkpoint(directory / name, shards=2)
    (directory / "org/tiny/original").mkdir()
    (directory / "org/tiny/original/consolidated.00.pth").write_bytes(bytes(1000))
    (directory / "org/tiny/pytorch_model.bin").write_bytes(bytes(1000))
    (directory / "org/second/config.json").write_text((directory / "org/tiny/config.json").read_text() + "\n")
    large = write_checkpoint(directory / "org/large", vocab_size=VOCABULARY)
    rows = {40: VOCABULARY}
    tensors = {name: ("BF16", (rows.get(shape[0], shape[0]), *shape[1:])) for name, shape in TENSORS.items()}
    write_safetensors(large / "model.safetensors", tensors)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
