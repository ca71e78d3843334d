"""Experiments: variants of recipes times seeds, trained and evaluated as resumable jobs.

experiment.py  the variants to compare, as defined in a user's file
grid.py        variants from settings, and with losses left out
plan.py        the cells of an experiment, what identifies each, and the jobs that make it
run.py         an experiment in its folder
work.py        the work of a cell's jobs
progress.py    the display of cells while they run
results.py     the results of an experiment so far, read from its folder
figures.py     an evaluation's figures by their paths
contrasts.py   paired differences of a variant to the baseline
cell_summary.py  the results of one cell in a small file
summaries.py   the cell summaries of an experiment: written, found and read
summary.py     these, and means over seeds, of all variants
tables.py      the same as one table, which renderers.py writes
report.py      report.html, from curves.py and perceptio.ops.page
outputs.py     the files of all these

job.py         a job, and how its work is found
job_cache.py   which jobs are complete
launchers.py   the built-in launchers and their settings
schedule.py    which jobs may begin
local.py       the default launcher: parallel jobs on this machine
process.py     a job as a process of this machine
worker.py      the code that runs in such a process
slurm.py       jobs of a cluster, through submitit
submitted.py   the code that runs in such a job
display.py     progress bars, or lines without a terminal
"""
