"""`python tests/faults/faulty.py ROOT AT HOW MODULE`: a module as a program whose AT-th step on the disk below ROOT fails or kills it."""

import runpy
import sys
from pathlib import Path
from typing import cast

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.faults.fault_points import Faults, How, on_disk


def main() -> None:
    root, at, how, module = sys.argv[1:5]
    sys.argv = [module]
    with on_disk(Faults(int(at), cast("How", how)), Path(root)):
        runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
