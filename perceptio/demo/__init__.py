"""`perceptio demo`: trains, evaluates and shows the small Perceptio and its controls with one command.

settings.py   the options
plan.py       the jobs and their dependencies, as jobs of `perceptio.experiments`
work.py       the work of the jobs
gallery.py    what each arm said and drew about the first test scenes
limits.py     upper and lower bounds for the figures of streams
metrics.py    metrics.json
results.py    the folder of a complete demo
report.py     report.html, from sections.py, galleries.py, streams.py and figures.py
picture.py    picture.png
pipeline.py   all of it in order
"""
