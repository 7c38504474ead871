"""What happens around training: checkpoints, clean stops, throughput, pictures, the run's record."""
