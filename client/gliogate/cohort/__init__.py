"""A folder of studies, analyzed by workers that live on, on one machine or by many tasks that share what they write.

    gliogate cohort studies --output results

Every task, be it a process on a laptop, a pod of an indexed Job or a task of a Slurm array, runs the same program. The
tasks know of each other only by files in the folder of results, see `gliogate.cohort.claims`.
"""
