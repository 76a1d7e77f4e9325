"""Keep what is small of finished runs of the tour, under results/tour/.

    python results/keep.py runs/FOLDER ...
    python results/keep.py runs/tour/*/          # those of tour/run_all.py

Of each run: its settings, measures and figures, its curves and its last sheet, in
results/tour/<name>/seed-<seed>/, the name being its script's, or what tour/run_all.py
calls it. What is kept already is never replaced.
"""

import json
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))

from gankit.backend import Image  # noqa: E402
from gankit.command import InputError, OneLineParser, run_script  # noqa: E402
from gankit.folders import new_folder  # noqa: E402

KEPT = ROOT / "results" / "tour"
FILES = ("settings.json", "measures.csv", "figures.json")
# of a picture that is kept, enough for lines and digits
COLOURS = 32


def keep(run, kept=KEPT):
    """Copy a run's small files; return the folder that they are in.

    Raises InputError where the run is not finished, or such a run is kept already.
    """
    run = Path(run)
    if not (run / "figures.json").is_file():
        raise InputError(f"{run}: no finished run of the tour; let it finish first")
    described = json.loads((run / "settings.json").read_text(encoding="utf-8"))
    name = described["script"]
    if (run / "result.json").is_file():
        name = json.loads((run / "result.json").read_text(encoding="utf-8"))["run"]
    out = new_folder(kept / name / f"seed-{described['seed']}")
    for name in FILES:
        shutil.copyfile(run / name, out / name)
    sheet = f"generated_plot_{described['n_steps']:04d}.png"
    for name, kept_as in (("curves.png", "curves.png"), (sheet, "sheet.png")):
        with Image.open(run / name) as picture:
            picture.convert("RGB").quantize(COLOURS).save(out / kept_as)
    return out


def start(argv):
    parser = OneLineParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="a finished run's folder"
    )
    for run in parser.parse_args(argv).runs:
        print(keep(run))


def main(argv=None):
    return run_script("keep.py", lambda: start(argv))


if __name__ == "__main__":
    sys.exit(main())
