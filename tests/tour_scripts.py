"""The tour's scripts, as tests find and load them."""

import importlib
import sys
from pathlib import Path

TOUR = Path(__file__).resolve().parents[1] / "tour"
if str(TOUR) not in sys.path:
    # as Python does for a script that it runs, but behind what is there
    sys.path.append(str(TOUR))
# those that train a GAN
SCRIPTS = sorted(
    path.stem
    for path in TOUR.glob("*.py")
    if "\ndef define_models(" in path.read_text(encoding="utf-8")
)

# what keeps a run of three steps short, where --width and the like are not enough
TINY_OF = {}
# likewise, what a script's own constants are set to
FEWER_OF = {"biggan": {"N_STANDING": 2}}
# images of an epoch of the data with 200, where they are not all of these
EPOCH_OF = {"cyclegan": 100}
# what figures.json must have, for digits
FIGURES_OF = {
    "biggan": {
        *("agreement", "nearest_neighbour_error", "ssim", "worst_ssim_excess"),
        *(
            f"truncation_{threshold}_{name}"
            for threshold in ("2", "1", "0.5", "0.2", "0.1")
            for name in ("agreement", "judge_fid", "ssim")
        ),
    },
}


def load_script(name):
    """Return the module tour/<name>.py."""
    return importlib.import_module(name)
