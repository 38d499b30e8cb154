# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the scenario's model, 2 GiB that nothing compresses, into a new directory. One that is there stays."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ansible_collections.gpufleet.serving.tests.unit.checkpoints import TENSORS, header, write_checkpoint

VOCABULARY = 2**25
"""Rows of the two embeddings: 1 GiB each, in files of their own."""
SHARDS = 3
PIECE_BYTES = 2**24


def main(directory: Path) -> None:
    """Write the model unless it is there whole."""
    done = directory.with_suffix(".done")
    if done.exists():
        return
    write_checkpoint(directory, shards=SHARDS, vocab_size=VOCABULARY)
    rows = {40: VOCABULARY}
    tensors = {name: ("BF16", (rows.get(shape[0], shape[0]), *shape[1:])) for name, shape in TENSORS.items()}
    for shard, path in enumerate(sorted(directory.glob("*.safetensors"))):
        head, data_bytes = header(dict(list(tensors.items())[shard::SHARDS]))
        with path.open("wb") as stream:
            stream.write(head)
            for start in range(0, data_bytes, PIECE_BYTES):
                stream.write(os.urandom(min(PIECE_BYTES, data_bytes - start)))
    done.touch()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
