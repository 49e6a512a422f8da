"""What codes are good for, measured: maps, features, clusters, search, generation, tuning."""
