"""How networks learn: the loop, schedules, checkpoints, logs, batches, configurations."""
