"""Experiments: variants of recipes times seeds, trained and evaluated as resumable jobs.

experiment.py  what is compared, as a user's file says it
grid.py        variants from settings, and with losses left out
plan.py        the cells of an experiment, what identifies each, and the jobs that make it
run.py         an experiment in its folder
work.py        what the jobs of a cell do
progress.py    what one sees of cells while they run
results.py     what an experiment has found so far, read from its folder
figures.py     an evaluation's figures by their paths
contrasts.py   paired differences of a variant to the baseline
cell_summary.py  what a cell has found, in a small file
summaries.py   those of an experiment: written, found and read
summary.py     these, and means over seeds, of all variants
tables.py      the same as one table, which renderers.py writes
report.py      report.html, from curves.py and perceptio.ops.page
outputs.py     the files of all these

job.py         a job, and how its work is found
job_cache.py   what is complete already
launchers.py   where jobs run: the built-in launchers and their settings
schedule.py    which jobs may begin
local.py       the default: on this machine, side by side
process.py     a job as a process of this machine
worker.py      the other end of such a process
slurm.py       jobs of a cluster, through submitit
submitted.py   the other end of such a job
display.py     progress bars, or lines where there is no terminal
"""
