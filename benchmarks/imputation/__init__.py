"""Filling holes in mixed tables, beside scikit-learn's imputers."""
