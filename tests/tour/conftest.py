import sys
from pathlib import Path

TOUR = str(Path(__file__).resolve().parents[2] / "tour")
if TOUR not in sys.path:
    # as Python does for a script that it runs, but behind what is there
    sys.path.append(TOUR)
