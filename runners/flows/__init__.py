"""What detectors share that learn the likelihood of a backbone's maps with normalizing flows."""
