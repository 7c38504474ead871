"""SLURM: a site, a job script, and handing it in."""
