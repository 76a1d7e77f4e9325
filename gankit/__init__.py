"""What stands behind the scripts; nobody runs it.

    backend, command  <-  folders  <-  data  <-  models  <-  pictures  <-  training

- `backend`: Keras, TensorFlow, Matplotlib and Pillow, imported when first used.
- `command`: one-line errors, exit status, signals.
- `folders`: folders of runs: made, written atomically, locked.
- `data/`: data sets from files to checked arrays; no Keras here.
- `models/`: model files saved, found, checked and loaded; what a classifier says.
- `pictures`: sheets of samples, animations, curves, confusions.
- `training/`: what a run is, its settings, loop, tables and checkpoints.

An arrow points from what is imported to what imports it, never back; nothing here
imports a script. `docs/contributing.md` says how to add to it.
"""
