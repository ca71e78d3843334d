"""Experiments: variants of recipes times seeds, trained and evaluated as resumable jobs.

job.py        a job, and how its work is found
job_cache.py  what is complete already
launchers.py  where jobs run, and what a launcher must do
local.py      the default: processes on this machine, side by side
worker.py     the other end of such a process
display.py    progress bars, or lines where there is no terminal
results.py    what an experiment has found so far, read from its folder
"""
