# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPD            f"gpufleet.serving cannot be imported: {COLLECTIONS} does not lead to this checkout. Type 'make link'."
        )
