"""`perceptio demo`: the small Perceptio beside its controls, trained, evaluated and shown from one command.

settings.py   what can be asked for
plan.py       what is made from what, as jobs of `perceptio.experiments`
work.py       what the jobs do
gallery.py    what each arm said and drew about the first test scenes
limits.py     what the figures of streams lie between
metrics.py    metrics.json
results.py    a complete demo's folder, as it is shown
report.py     report.html, from sections.py, galleries.py, streams.py and figures.py
picture.py    picture.png
pipeline.py   all of it in order
"""
