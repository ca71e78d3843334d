"""`perceptio demo`: the small Perceptio beside its controls, trained, evaluated and shown from one command.

settings.py   what can be asked for
jobs.py       what is made from what
job_cache.py  what is complete already
scheduler.py  jobs as processes, side by side
worker.py     the other end of such a process
work.py       what the processes do
display.py    progress bars, or lines where there is no terminal
gallery.py    what each arm said and drew about the first test scenes
limits.py     what the figures of streams lie between
metrics.py    metrics.json
results.py    a complete demo's folder, as it is shown
report.py     report.html, from sections.py, galleries.py, streams.py, page.py and figures.py
picture.py    picture.png
pipeline.py   all of it in order
"""
