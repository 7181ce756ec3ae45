"""Words and pictures. Every renderer sees a report and nothing else."""
