# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the scenario's models into a new directory: a few kB each, with every kind of file that an engine reads."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from ansible_collections.gpufleet.serving.tests.unit.checkpoints import write_checkpoint


def main(directory: Path) -> None:
    """Write the models anew."""
    shutil.rmtree(directory, ignore_errors=True)
    sharded = write_checkpoint(directory / "sharded", shards=3)
    (sharded / "additional_chat_templates").mkdir()
    (sharded / "additional_chat_templates/rag.jinja").write_text("{{ messages }}")
    write_checkpoint(directory / "on-host")
    write_checkpoint(directory / "another", shards=4)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
